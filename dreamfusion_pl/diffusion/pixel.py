"""Pixel-space priors: any diffusers ``IFPipeline``, the embedded one or a hub model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.noise import VariancePreserving, eps_from_v, eps_from_x0, per_row
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.diffusion.quiet import quiet
from dreamfusion_pl.types import TextEmbedding

BUILTIN = Path(__file__).parent / "builtin"
MAX_TOKENS = 77  # the padded text length that IFPipeline hands to its text encoder


@final
class PixelPrior(DiffusionPrior):
    """A frozen diffusion model that denoises pixels, z = 2 x - 1.

    Args:
        model: ``builtin`` for the prior inside this package, a folder that ``IFPipeline.save_pretrained``
            wrote, or a hub name such as ``DeepFloyd/IF-I-M-v1.0`` (needs its licence accepted and a login).
        dtype: precision of the network. ``auto`` takes bfloat16 where the device computes it natively,
            float32 elsewhere.
        channels_last: lay out the U-Net with channels last, which is faster on CPUs and tensor cores.

    Raises:
        ValueError: ``model`` is not there or not an ``IFPipeline``; the message says what to do.
    """

    differentiable = True

    def __init__(
        self,
        model: str = "builtin",
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        channels_last: bool = True,
    ) -> None:
        self._dtype = dtype
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._pipeline: Any = _load(model, _resolve_dtype(dtype, torch.device("cpu")))
        unet, scheduler = self._pipeline.unet, self._pipeline.scheduler
        for part in (unet, self._pipeline.text_encoder):
            part.eval().requires_grad_(False)
        self.schedule = VariancePreserving(scheduler.alphas_cumprod)
        self.resolution = unet.config.sample_size
        self.channels = unet.config.in_channels
        self._prediction = scheduler.config.prediction_type
        self.to("cpu")

    def to(self, device: torch.device | str) -> Self:
        dtype = _resolve_dtype(self._dtype, torch.device(device))
        with quiet():
            self._pipeline.unet.to(device=device, dtype=dtype, memory_format=self._layout)
            self._pipeline.text_encoder.to(device=device, dtype=dtype)
        self.schedule.to(device)
        return self

    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        z = rgb.permute(0, 3, 1, 2) * 2.0 - 1.0
        if z.shape[-2:] == (self.resolution, self.resolution):
            return z
        size = (self.resolution, self.resolution)
        return torch.nn.functional.interpolate(z, size, mode="bilinear", antialias=True)

    def embed(self, prompts: list[str]) -> TextEmbedding:
        """Embed N texts as ``IFPipeline`` does, without a gradient.

        Raises:
            ValueError: a text has more tokens than the model reads.
        """
        for prompt in prompts:
            count = len(self._pipeline.tokenizer(prompt.lower().strip()).input_ids)
            if count > MAX_TOKENS:
                raise ValueError(
                    f"the prompt has {count} tokens, the view's name included; the prior reads {MAX_TOKENS}: "
                    f"shorten {prompt[:60]!r}..."
                )
        device = self._pipeline.unet.device
        text, _ = self._pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, device=device)
        return TextEmbedding(text)

    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        unet = self._pipeline.unet
        sample = z_t.to(unet.dtype).contiguous(memory_format=self._layout)
        output = unet(
            sample, self.schedule.timestep(t), encoder_hidden_states=text.tokens.to(unet.dtype)
        ).sample
        prediction = output[:, : self.channels].to(z_t.dtype)  # the rest is IF's learned variance
        if self._prediction == "epsilon":
            return prediction
        convert = {"v_prediction": eps_from_v, "sample": eps_from_x0}[self._prediction]
        return convert(prediction, z_t, per_row(self.schedule.alpha(t)), per_row(self.schedule.sigma(t)))

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the prompt's words that the tokenizer has no token for, in order, each once."""
        tokenizer = self._pipeline.tokenizer
        words = dict.fromkeys(_words(prompt))
        return [word for word in words if tokenizer.unk_token_id in tokenizer(word).input_ids]


def _words(text: str) -> list[str]:
    stripped = (word.strip("\"'.,;:!?()[]{}") for word in text.lower().split())
    return [word for word in stripped if word]


def _resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and _cpu_has_bfloat16()
    return torch.bfloat16 if native else torch.float32


def _cpu_has_bfloat16() -> bool:
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def _load(model: str, dtype: torch.dtype) -> Any:
    with quiet():
        from diffusers import IFPipeline

        location = str(BUILTIN) if model == "builtin" else model
        _check(model, location)
        return IFPipeline.from_pretrained(
            location,
            dtype=dtype,
            safety_checker=None,
            feature_extractor=None,
            watermarker=None,
            requires_safety_checker=False,
        )


def _check(model: str, location: str) -> None:
    """Raise ValueError unless ``location`` holds an IFPipeline."""
    from diffusers import DiffusionPipeline

    cure = (
        "Give the prior's model as 'builtin', a folder written by IFPipeline.save_pretrained, or a hub name "
        "such as DeepFloyd/IF-I-M-v1.0"
    )
    is_hub_name = location.count("/") == 1 and not location.startswith((".", "/", "~"))
    if not Path(location).is_dir() and not is_hub_name:
        raise ValueError(f"the prior {model!r} is not there: no folder {location}. {cure}.")
    try:
        index = DiffusionPipeline.load_config(location)
    except OSError as error:
        raise ValueError(
            f"the prior {model!r} could not be read: no model_index.json was found in {location}, neither as "
            f"a folder nor on the hub (which needs a network, and for some models `hf auth login`). {cure}."
        ) from error
    kind = index["_class_name"]
    if kind != "IFPipeline":
        raise ValueError(f"the prior {model!r} is a {kind}, but PixelPrior needs an IFPipeline. {cure}.")
