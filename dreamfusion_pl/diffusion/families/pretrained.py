"""The prior that is a diffusers text-to-image pipeline: the embedded one, a folder, or a hub model."""

from __future__ import annotations

import warnings
from typing import Any, Self, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.families.adapter import Adapter
from dreamfusion_pl.diffusion.families.autoencoder import LatentEncoder
from dreamfusion_pl.diffusion.families.compilation import can_compile
from dreamfusion_pl.diffusion.families.deepfloyd import IFAdapter
from dreamfusion_pl.diffusion.families.flux import FluxAdapter
from dreamfusion_pl.diffusion.families.offload import Offloaded
from dreamfusion_pl.diffusion.families.pixart import PixArtAdapter
from dreamfusion_pl.diffusion.families.precision import Precision, resolve_dtype, warn_if_slow
from dreamfusion_pl.diffusion.families.stable_diffusion import (
    StableDiffusionAdapter,
    StableDiffusionXLAdapter,
)
from dreamfusion_pl.diffusion.families.stable_diffusion_3 import StableDiffusion3Adapter
from dreamfusion_pl.diffusion.families.text_encoders import TextEncoders
from dreamfusion_pl.diffusion.loading import pipelines, sources
from dreamfusion_pl.diffusion.loading.library_logging import quiet
from dreamfusion_pl.diffusion.loading.lora import fuse_lora
from dreamfusion_pl.diffusion.noise import eps_from, per_row
from dreamfusion_pl.diffusion.prior import DiffusionPrior
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

    Text encoders are in memory only while they embed: they are loaded by ``embed``, for texts that are not
    on disk yet, and freed by ``to``.

    Args:
        model: ``builtin`` for the prior inside this package, a folder that a pipeline's ``save_pretrained``
            wrote, a hub name such as ``stable-diffusion-v1-5/stable-diffusion-v1-5``, or a checkpoint in one
            safetensors file. The pipeline's class says which family it is of.
        revision: branch, tag or commit of a hub model.
        config: folder or hub name of the pipeline that a checkpoint in one file is one of: what the file
            lacks is taken from there; None: the names of its weights tell the hub name.
        lora: a low-rank change of the network: a safetensors file, or on the hub ``owner/name`` or
            ``owner/name/file.safetensors``; None: none.
        lora_scale: factor on that change; 1: as it was trained.
        embeddings: folder that the command ``embed --out`` wrote, maybe on another machine: texts are read
            from it, and no text encoder is needed. None: they are embedded here, once, and kept in the
            user's cache.
        dtype: precision of the networks. ``auto`` takes bfloat16 where the device computes it natively,
            float32 elsewhere.
        channels_last: lay out convolutions with channels last, which is faster on CPUs and tensor cores.
        compile: compile network and autoencoder with ``torch.compile`` when they are moved to a device; where
            the compiler is missing the run goes on without, with a warning.
        offload: keep the network in host memory and copy it to the device for every call, which saves the
            device's memory and costs the time of the copy; of no use on a CPU.
        resolution: side of z in the model's own grid: pixels for a pixel-space model, latents otherwise;
            0: the model's own.
        autoencoder: folder or hub name of an ``AutoencoderTiny`` that encodes early in training, such as
            ``madebyollin/taesd``; None: the model's own encodes throughout.
        autoencoder_until: progress in [0, 1] at which the model's own autoencoder takes over.
        embedded_guidance: the scale that guidance-distilled models (FLUX.1-dev) take as an input.

    Raises:
        ValueError: the model is not there, not whole or of no supported family, or arguments exclude each
            other; the message says what to do.
    """

    differentiable = True

    def __init__(
        self,
        model: str = "builtin",
        revision: str | None = None,
        config: str | None = None,
        lora: str | None = None,
        lora_scale: float = 1.0,
        embeddings: str | None = None,
        dtype: Precision = "auto",
        channels_last: bool = True,
        compile: bool = False,
        offload: bool = False,
        resolution: int = 0,
        autoencoder: str | None = None,
        autoencoder_until: float = 1.0,
        embedded_guidance: float = 3.5,
    ) -> None:
        if compile and offload:
            raise ValueError("what is compiled stays on the device: take compile or offload, not both")
        cpu = torch.device("cpu")
        self._dtype_name, self._dtype = dtype, resolve_dtype(dtype, cpu)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        source = sources.find(model, revision, config)
        self.is_builtin = model == "builtin"
        adapter = family(source)
        self._texts = TextEncoders(source, adapter, self._dtype, embeddings)
        reads = [name for name in source.parts if name.startswith(("tokenizer", "text_encoder"))]
        pipeline = pipelines.load(source, self._dtype, dict.fromkeys((*reads, *adapter.unused)))
        if lora is not None:
            fuse_lora(pipeline, adapter.network_name, lora, lora_scale)
        if adapter is FluxAdapter:
            self._adapter: Adapter = FluxAdapter(pipeline, resolution, embedded_guidance)
        else:
            self._adapter = adapter(pipeline, resolution)
        self._encoder = _latent_encoder(pipeline, source, autoencoder, autoencoder_until, self._dtype)
        self.schedule, self.channels = self._adapter.schedule, self._adapter.channels
        self.resolution = self._adapter.resolution
        self._network, self._offload, self._is_to_compile = self._adapter.network, offload, compile
        self._move(cpu)

    def to(self, device: torch.device | str) -> Self:
        """Move network and autoencoder, and free the text encoders; return self.

        Raises:
            ValueError: the device does not compute in the precision that was asked for.
        """
        device = torch.device(device)
        warn_if_slow(self._dtype_name, device)
        self._move(device)
        self._texts.free()
        if self._offload and device.type == "cpu":
            warnings.warn("offload is of no use on a CPU: the network is in host memory", stacklevel=2)
        if self._is_to_compile and can_compile(device):
            self._network.compile()
            if self._encoder is not None:
                self._encoder.compile()
        self._is_to_compile = False
        return self

    def _move(self, device: torch.device) -> None:
        self._dtype = resolve_dtype(self._dtype_name, device)
        is_offloaded = self._offload and device.type != "cpu"
        place = torch.device("cpu") if is_offloaded else device
        with quiet():
            self._network.to(device=place, dtype=self._dtype, memory_format=self._layout)
            if self._encoder is not None:
                self._encoder.to(device, self._dtype, self._layout)
        self._adapter.network = Offloaded(self._network, device) if is_offloaded else self._network
        self.schedule.to(device)

    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        side = self.resolution * (1 if self._encoder is None else self._encoder.factor)
        pixels = rgb.permute(0, 3, 1, 2) * 2.0 - 1.0
        if pixels.shape[-2:] != (side, side):
            pixels = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        return pixels if self._encoder is None else self._encoder(pixels, progress)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        pixels = z if self._encoder is None else self._encoder.decode(z)
        return pixels.permute(0, 2, 3, 1) * 0.5 + 0.5

    def embed(self, prompts: list[str]) -> TextEmbedding:
        """Embed N texts as the pipeline does, without a gradient; warn of what it does not read.

        Raises:
            ValueError: the texts were embedded for another model, or cannot be embedded here.
        """
        text = self._texts.embed(prompts)
        width = text.tokens.shape[-1]
        if width != self._adapter.text_width:
            raise ValueError(
                f"the texts are embedded in {width} numbers a token, and this model reads "
                f"{self._adapter.text_width}: embed them with the same --model.prior.model"
            )
        return text

    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        sample = z_t.to(self._dtype).contiguous(memory_format=self._layout)
        output = self._adapter.call(sample, self.schedule.timestep(t), text.to(self._dtype))
        prediction = output[:, : self.channels].to(z_t.dtype)  # the rest is a learned variance
        alpha, sigma = per_row(self.schedule.alpha(t)), per_row(self.schedule.sigma(t))
        return eps_from(self._adapter.prediction, prediction, z_t, alpha, sigma)

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the prompt's words that the tokenizer has no token for, in order, each once."""
        return self._texts.unknown_words(prompt)


def family(source: sources.Source) -> type[Adapter]:
    """Return the adapter of a pipeline's class.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    if source.kind not in ADAPTERS:
        raise ValueError(
            f"the prior {source.model!r} is a {source.kind}, which is not supported. Supported are: "
            f"{', '.join(ADAPTERS)}. {sources.CURE}."
        )
    return ADAPTERS[source.kind]


def _latent_encoder(
    pipeline: Any, source: sources.Source, tiny: str | None, tiny_until: float, dtype: torch.dtype
) -> LatentEncoder | None:
    if "vae" not in source.parts:
        if tiny is not None:
            raise ValueError(f"the prior {source.model!r} works on pixels: it has no use for an autoencoder")
        return None
    return LatentEncoder(pipeline.vae, None if tiny is None else pipelines.load_tiny(tiny, dtype), tiny_until)
