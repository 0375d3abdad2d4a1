"""The prior that is a diffusers text-to-image pipeline: the embedded one, a folder, or a hub model."""

from __future__ import annotations

import warnings
from typing import Any, Literal, Self, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion import loading
from dreamfusion_pl.diffusion.adapter import Adapter
from dreamfusion_pl.diffusion.autoencoder import LatentEncoder
from dreamfusion_pl.diffusion.flow import FluxAdapter, StableDiffusion3Adapter
from dreamfusion_pl.diffusion.latent import StableDiffusionAdapter, StableDiffusionXLAdapter
from dreamfusion_pl.diffusion.noise import eps_from, per_row
from dreamfusion_pl.diffusion.pixel import IFAdapter
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.diffusion.quiet import quiet
from dreamfusion_pl.diffusion.transformer import PixArtAdapter
from dreamfusion_pl.types import TextEmbedding

ADAPTERS: dict[str, type[Adapter]] = {  # by the class of the diffusers pipeline
    "IFPipeline": IFAdapter,
    "StableDiffusionPipeline": StableDiffusionAdapter,
    "StableDiffusionXLPipeline": StableDiffusionXLAdapter,
    "PixArtAlphaPipeline": PixArtAdapter,
    "PixArtSigmaPipeline": PixArtAdapter,
    "StableDiffusion3Pipeline": StableDiffusion3Adapter,
    "FluxPipeline": FluxAdapter,
}


@final
class PretrainedPrior(DiffusionPrior):
    """A frozen diffusers text-to-image pipeline of any supported family; see docs/priors.md.

    Text encoders are in memory only while they embed: they are loaded by ``embed`` and freed by ``to``.

    Args:
        model: ``builtin`` for the prior inside this package, a folder that a pipeline's ``save_pretrained``
            wrote, or a hub name such as ``stable-diffusion-v1-5/stable-diffusion-v1-5``. The pipeline's class
            says which family it is of.
        dtype: precision of the networks. ``auto`` takes bfloat16 where the device computes it natively,
            float32 elsewhere.
        channels_last: lay out convolutions with channels last, which is faster on CPUs and tensor cores.
        revision: branch, tag or commit of a hub model.
        resolution: side of z in the model's own grid: pixels for a pixel-space model, latents otherwise;
            0: the model's own.
        autoencoder: folder or hub name of an ``AutoencoderTiny`` that encodes early in training, such as
            ``madebyollin/taesd``; None: the model's own encodes throughout.
        autoencoder_until: progress in [0, 1] at which the model's own autoencoder takes over.
        embedded_guidance: the scale that guidance-distilled models (FLUX.1-dev) take as an input.

    Raises:
        ValueError: the model is not there, not whole or of no supported family; the message says what to do.
    """

    differentiable = True

    def __init__(
        self,
        model: str = "builtin",
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        channels_last: bool = True,
        revision: str | None = None,
        resolution: int = 0,
        autoencoder: str | None = None,
        autoencoder_until: float = 1.0,
        embedded_guidance: float = 3.5,
    ) -> None:
        self._dtype_name = dtype
        self._dtype = _resolve_dtype(dtype, torch.device("cpu"))
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._source = loading.find(model, revision)
        self._family = family(self._source)
        absent = (*self._family.text_encoders, *self._family.unused)
        pipeline = loading.load(self._source, self._dtype, dict.fromkeys(absent))
        if self._family is FluxAdapter:
            self._adapter: Adapter = FluxAdapter(pipeline, resolution, embedded_guidance)
        else:
            self._adapter = self._family(pipeline, resolution)
        self._encoder = _latent_encoder(pipeline, self._source, autoencoder, autoencoder_until, self._dtype)
        self._texts: Any = None  # the whole pipeline, while texts are embedded
        self.schedule, self.channels = self._adapter.schedule, self._adapter.channels
        self.resolution = self._adapter.resolution
        self.to("cpu")

    def to(self, device: torch.device | str) -> Self:
        """Move network and autoencoder, and free the text encoders; return self.

        Raises:
            ValueError: the device does not compute in the precision that was asked for.
        """
        device = torch.device(device)
        self._dtype = _resolve_dtype(self._dtype_name, device)
        with quiet():
            self._adapter.network.to(device=device, dtype=self._dtype, memory_format=self._layout)
            if self._encoder is not None:
                self._encoder.to(device, self._dtype, self._layout)
        self._texts = None
        self.schedule.to(device)
        return self

    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        side = self.resolution * (1 if self._encoder is None else self._encoder.factor)
        pixels = rgb.permute(0, 3, 1, 2) * 2.0 - 1.0
        if pixels.shape[-2:] != (side, side):
            pixels = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        return pixels if self._encoder is None else self._encoder(pixels, progress)

    def embed(self, prompts: list[str]) -> TextEmbedding:
        """Embed N texts as the pipeline does, without a gradient; warn of what it does not read."""
        pipeline = self._with_text_encoders()
        for prompt in prompts:
            _warn_of_cut(self._family, pipeline, prompt)
        with torch.no_grad(), quiet():
            return self._family.embed(pipeline, prompts)

    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        sample = z_t.to(self._dtype).contiguous(memory_format=self._layout)
        output = self._adapter.call(sample, self.schedule.timestep(t), text.to(self._dtype))
        prediction = output[:, : self.channels].to(z_t.dtype)  # the rest is a learned variance
        alpha, sigma = per_row(self.schedule.alpha(t)), per_row(self.schedule.sigma(t))
        return eps_from(self._adapter.prediction, prediction, z_t, alpha, sigma)

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the prompt's words that the tokenizer has no token for, in order, each once."""
        tokenizer, _ = self._family.tokenizers(self._with_text_encoders())[0]
        if (
            tokenizer.unk_token_id in tokenizer("").input_ids
        ):  # CLIP has one token for the end and the unknown
            return []
        words = dict.fromkeys(_words(prompt))
        return [word for word in words if tokenizer.unk_token_id in tokenizer(word).input_ids]

    def _with_text_encoders(self) -> Any:
        if self._texts is None:
            spare = [
                part for part in self._source.parts if not part.startswith(("tokenizer", "text_encoder"))
            ]
            dtype = _resolve_dtype(self._dtype_name, torch.device("cpu"))
            given = dict.fromkeys((*spare, *self._family.unused)) | {
                self._family.network_name: self._adapter.network
            }
            self._texts = loading.load(self._source, dtype, given)
        return self._texts


def family(source: loading.Source) -> type[Adapter]:
    """Return the adapter of a pipeline's class.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    if source.kind not in ADAPTERS:
        raise ValueError(
            f"the prior {source.model!r} is a {source.kind}, which is not supported. Supported are: "
            f"{', '.join(ADAPTERS)}. {loading.CURE}."
        )
    return ADAPTERS[source.kind]


def _latent_encoder(
    pipeline: Any, source: loading.Source, tiny: str | None, tiny_until: float, dtype: torch.dtype
) -> LatentEncoder | None:
    if "vae" not in source.parts:
        if tiny is not None:
            raise ValueError(f"the prior {source.model!r} works on pixels: it has no use for an autoencoder")
        return None
    return LatentEncoder(pipeline.vae, None if tiny is None else loading.load_tiny(tiny, dtype), tiny_until)


def _warn_of_cut(adapter: type[Adapter], pipeline: Any, prompt: str) -> None:
    for tokenizer, limit in adapter.tokenizers(pipeline):
        tokens = tokenizer(prompt).input_ids
        if len(tokens) > limit:
            cut = tokenizer.decode(tokens[limit - 1 :], skip_special_tokens=True)
            warnings.warn(
                f"the prompt has {len(tokens)} tokens, the view's name included, and a text encoder of the "
                f"prior reads {limit}: it does not see {cut!r}. Shorten it",
                stacklevel=3,
            )


def _words(text: str) -> list[str]:
    stripped = (word.strip("\"'.,;:!?()[]{}") for word in text.lower().split())
    return [word for word in stripped if word]


def _resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        if name == "bfloat16" and not native:
            raise ValueError("this GPU does not compute in bfloat16: take --model.prior.dtype float32")
    else:
        native = device.type == "cpu" and _cpu_has_bfloat16()
    if name == "auto":
        return torch.bfloat16 if native else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def _cpu_has_bfloat16() -> bool:
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
