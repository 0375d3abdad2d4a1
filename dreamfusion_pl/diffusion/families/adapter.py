"""Interface of adapters, which hold what is specific to one family of diffusers pipelines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from dreamfusion_pl.diffusion.noise import NoiseSchedule, Prediction, VariancePreserving
from dreamfusion_pl.types import TextEmbedding


class Adapter(ABC):
    """Embeds texts and calls the network for one family of pipelines. ``PretrainedPrior`` does the rest.

    Args:
        pipeline: the diffusers pipeline, with or without text encoders.
        resolution: side h = w of z; 0: the model's own.

    Raises:
        ValueError: the network does not accept this resolution.
    """

    network_name: ClassVar[str]  # component that is the denoising network
    text_encoders: ClassVar[tuple[str, ...]]  # components that are needed only to embed texts
    unused: ClassVar[tuple[str, ...]]  # components that are never needed
    vae_overflows: ClassVar[bool] = True  # whether its autoencoder may do so in float16

    network: Any  # the denoising network
    schedule: NoiseSchedule
    prediction: Prediction
    channels: int  # C of z
    resolution: int  # side h = w of z
    text_width: int  # D of the texts' tokens

    @abstractmethod
    def __init__(self, pipeline: Any, resolution: int) -> None: ...

    @abstractmethod
    def call(self, z_t: Tensor, timestep: Tensor, text: TextEmbedding) -> Tensor:
        """Call the network as the family's pipeline does.

        Args:
            z_t: noisy images or latents [N, C, h, w] in the network's dtype.
            timestep: [N], from ``schedule.timestep``.
            text: embeddings of N texts in the network's dtype.

        Returns:
            Prediction [N, C or more, h, w]; channels after the first C are a learned variance.
        """

    @staticmethod
    @abstractmethod
    def embed(pipeline: Any, prompts: list[str]) -> TextEmbedding:
        """Embed N texts as the pipeline itself does."""

    @staticmethod
    @abstractmethod
    def tokenizers(pipeline: Any) -> list[tuple[Any, int]]:
        """Return the tokenizers, each with the maximum number of tokens of its text encoder."""


def diffusion_process(pipeline: Any) -> tuple[NoiseSchedule, Prediction]:
    """Return noise schedule and prediction type from the scheduler of a variance-preserving model.

    Raises:
        ValueError: the scheduler is not variance-preserving, or its prediction type is unknown.
    """
    scheduler = pipeline.scheduler
    alphas_cumprod = getattr(scheduler, "alphas_cumprod", None)
    kind = scheduler.config.get("prediction_type", "epsilon")
    if alphas_cumprod is None or kind not in ("epsilon", "v_prediction", "sample"):
        raise ValueError(
            f"a {type(pipeline).__name__} with the scheduler {type(scheduler).__name__}, predicting {kind}, "
            "is not supported: its noise levels are not those of a variance-preserving process. Take a model "
            "with a DDPM, DDIM, PNDM, Euler or DPM-Solver scheduler"
        )
    return VariancePreserving(alphas_cumprod), kind


def text_width_of(unet: Any) -> int:
    """Width D of the text tokens that a U-Net expects, before its own projection if it has one."""
    return int(unet.config.encoder_hid_dim or unet.config.cross_attention_dim)


def side_of(resolution: int, own: int, patch: int = 1, largest: int | None = None) -> int:
    """Return the side h = w of z.

    Args:
        resolution: requested side; 0: the model's own.
        own: the model's own side.
        patch: patch size, latents along each side of a token.
        largest: largest side in tokens that has position embeddings; None: no limit.

    Raises:
        ValueError: the network does not accept this side.
    """
    if resolution < 0:
        raise ValueError(f"resolution is the side of z, or 0 for the model's own, got {resolution}")
    side = resolution or own
    if side % patch:
        rule = "even" if patch == 2 else f"a multiple of {patch}"
        raise ValueError(
            f"the network takes {patch} x {patch} latents as a token: resolution must be {rule}, got {side}"
        )
    if largest is not None and side > largest * patch:
        raise ValueError(
            f"this network has positions for latents of {largest * patch} x {largest * patch} and no more: "
            f"resolution must not be above that, got {side}"
        )
    return side
