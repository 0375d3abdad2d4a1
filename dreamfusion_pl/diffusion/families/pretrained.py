"""Prior from a diffusers text-to-image pipeline: embedded, folder, hub model or single file."""

from __future__ import annotations

import warnings
from typing import Any, Self, final

import torch
from torch import Tensor

from dreamfusion_pl.device.compilation import Compilation, can_compile, checked, mode_of
from dreamfusion_pl.diffusion.families.adapter import Adapter
from dreamfusion_pl.diffusion.families.autoencoder import LatentEncoder
from dreamfusion_pl.diffusion.families.deepfloyd import IFAdapter
from dreamfusion_pl.diffusion.families.flux import FluxAdapter
from dreamfusion_pl.diffusion.families.offload import Offloaded
from dreamfusion_pl.diffusion.families.pixart import PixArtAdapter
from dreamfusion_pl.diffusion.families.precision import (
    Precision,
    encoder_dtype,
    resolve_dtype,
    warn_if_slow,
    with_scaled_gradient,
)
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

ADAPTERS: dict[str, type[Adapter]] = {  # by class name of the diffusers pipeline
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

    Text encoders are in memory only while needed: ``embed`` loads them for texts that are not cached on disk
    yet, and ``to`` frees them.

    Args:
        model: ``builtin`` for the prior inside this package, a folder written by a pipeline's
            ``save_pretrained``, a hub name such as ``stable-diffusion-v1-5/stable-diffusion-v1-5``, or a
            single-file safetensors checkpoint. The class of the pipeline determines the family.
        revision: branch, tag or commit of a hub model.
        config: folder or hub name of the pipeline that a single-file checkpoint belongs to, for everything
            that the file lacks; None infers the hub name from the names of its weights.
        lora: LoRA for the network: a safetensors file, or ``owner/name`` or ``owner/name/file.safetensors``
            on the hub; None: no LoRA.
        lora_scale: LoRA scale; 1 is the strength of its training.
        embeddings: folder written by ``embed --out``, possibly on another machine. Text embeddings are read
            from it, and no text encoder is needed. None: texts are embedded once and kept in the user's
            cache.
        dtype: precision of the networks. ``auto`` is bfloat16 if the device supports it natively, else
            float16 on GPUs that are made for it (T4, V100), else float32. With float16, an autoencoder that
            would overflow stays float32.
        channels_last: use the channels-last memory format, which is faster on CPUs and tensor cores.
        compile: compile network and autoencoder with ``torch.compile`` when they are moved to a device: true,
            or one of its modes ``reduce-overhead`` and ``max-autotune``, in which a GPU replays the network
            as CUDA graphs. The autoencoder has none: its activations are kept while the network runs. If
            there is no working compiler, the run continues uncompiled, with a warning.
        offload: keep the network in host memory and copy it to the device for every call. Saves GPU memory
            and costs the time of the copy; useless on a CPU.
        resolution: side of z, in pixels for a pixel-space model and in latents otherwise; 0: the model's own.
        autoencoder: folder or hub name of an ``AutoencoderTiny`` that encodes early in training, such as
            ``madebyollin/taesd``; None: always use the model's own autoencoder.
        autoencoder_until: progress in [0, 1] at which encoding switches to the model's own autoencoder.
        embedded_guidance: guidance input of guidance-distilled models (FLUX.1-dev).

    Raises:
        ValueError: the model is missing, incomplete or not supported, or arguments exclude each other; the
            message says how to fix it.
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
        compile: Compilation = False,
        offload: bool = False,
        resolution: int = 0,
        autoencoder: str | None = None,
        autoencoder_until: float = 1.0,
        embedded_guidance: float = 3.5,
    ) -> None:
        if checked(compile) and offload:
            raise ValueError("a compiled network stays on the device: use compile or offload, not both")
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
        self._vae_overflows = adapter.vae_overflows
        self._encoder = _latent_encoder(pipeline, source, autoencoder, autoencoder_until, self._dtype)
        self.schedule, self.channels = self._adapter.schedule, self._adapter.channels
        self.resolution = self._adapter.resolution
        self._network, self._offload = self._adapter.network, offload
        self.network = None if compile or offload else self._network
        self._compilation, self._is_to_compile = compile, compile is not False
        self._has_graphs = False  # whether the network's output is in memory that its next call overwrites
        self._move(cpu)

    def to(self, device: torch.device | str) -> Self:
        """Move network and autoencoder, and free the text encoders; return self.

        Raises:
            ValueError: the device does not support the requested precision.
        """
        device = torch.device(device)
        warn_if_slow(self._dtype_name, device)
        self._move(device)
        self._texts.free()
        if self._offload and device.type == "cpu":
            warnings.warn("offload is of no use on a CPU: the network is in host memory", stacklevel=2)
        if self._is_to_compile and can_compile(device):
            self._network.compile(mode=mode_of(self._compilation))
            self._has_graphs = self._compilation is not True
            if self._encoder is not None:
                self._encoder.compile(mode_of(self._compilation, graphs=False))
        self._is_to_compile = False
        return self

    def _move(self, device: torch.device) -> None:
        self._dtype = resolve_dtype(self._dtype_name, device)
        is_offloaded = self._offload and device.type != "cpu"
        place = torch.device("cpu") if is_offloaded else device
        with quiet():
            self._network.to(device=place, dtype=self._dtype, memory_format=self._layout)
            if self._encoder is not None:
                overflows = self._vae_overflows and self._encoder.demands_float32
                self._encoder.to(device, encoder_dtype(self._dtype, overflows), self._layout)
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
        """Embed N texts as the pipeline does, without gradient; warn about truncated texts.

        Raises:
            ValueError: the texts were embedded for another model, or cannot be embedded on this machine.
        """
        text = self._texts.embed(prompts)
        width = text.tokens.shape[-1]
        if width != self._adapter.text_width:
            raise ValueError(
                f"the text embeddings have width {width}, and this model expects "
                f"{self._adapter.text_width}: embed them with the same --model.prior.model"
            )
        return text

    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        timestep = self.schedule.timestep(t)
        text = text.to(self._dtype).each(Tensor.contiguous)  # a repeated row may be rounded otherwise

        def call(z: Tensor) -> Tensor:
            sample = z.to(self._dtype).contiguous(memory_format=self._layout)
            output = self._adapter.call(sample, timestep, text)
            # The rest is a learned variance.
            return output[:, : self.channels].to(z.dtype, copy=self._has_graphs)

        is_half = self._dtype == torch.float16
        prediction = with_scaled_gradient(call, z_t) if is_half else call(z_t)
        alpha, sigma = per_row(self.schedule.alpha(t)), per_row(self.schedule.sigma(t))
        return eps_from(self._adapter.prediction, prediction, z_t, alpha, sigma)

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words of a prompt that the tokenizer does not know, in order, without duplicates."""
        return self._texts.unknown_words(prompt)


def family(source: sources.Source) -> type[Adapter]:
    """Return the adapter for the class of a pipeline.

    Raises:
        ValueError: the class is not supported; the message lists the supported ones.
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
