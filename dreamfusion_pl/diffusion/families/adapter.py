"""The role of an adapter: what is particular to one family of diffusers pipelines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from dreamfusion_pl.diffusion.noise import NoiseSchedule, Prediction, VariancePreserving
from dreamfusion_pl.types import TextEmbedding


class Adapter(ABC):
    """How a family of pipelines reads texts and calls its network. ``PretrainedPrior`` does the rest.

    Args:
        pipeline: the diffusers pipeline, with or without text encoders.
        resolution: side h = w of z; 0: the model's own.

    Raises:
        ValueError: the network takes no z of that side.
    """

    network_name: ClassVar[str]  # the pipeline's part that predicts
    text_encoders: ClassVar[tuple[str, ...]]  # its parts that are needed only to embed texts
    unused: ClassVar[tuple[str, ...]]  # its parts that are never needed

    network: Any  # the torch module that predicts
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
            z_t: noisy pictures [N, C, h, w] in the network's precision.
            timestep: [N], of ``schedule.timestep``.
            text: embeddings of N texts in the network's precision.

        Returns:
            What the network predicts, [N, C or more, h, w]; what follows the first C is a learned variance.
        """

    @staticmethod
    @abstractmethod
    def embed(pipeline: Any, prompts: list[str]) -> TextEmbedding:
        """Embed N texts with the whole pipeline, as its own call does."""

    @staticmethod
    @abstractmethod
    def tokenizers(pipeline: Any) -> list[tuple[Any, int]]:
        """Return the tokenizers that read a text, each with the number of tokens that its encoder reads."""


def diffusion_process(pipeline: Any) -> tuple[NoiseSchedule, Prediction]:
    """Read noise levels and the kind of prediction off the scheduler of a variance-preserving model.

    Raises:
        ValueError: the scheduler is of another kind.
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
    """Width D of the tokens that a U-Net attends to, or projects to what it attends to."""
    return int(unet.config.encoder_hid_dim or unet.config.cross_attention_dim)


def side_of(resolution: int, own: int, patch: int = 1, largest: int | None = None) -> int:
    """Return the side h = w of z.

    Args:
        resolution: what was asked for; 0: the model's own.
        own: the model's own.
        patch: the network takes so many latents along each side as one token.
        largest: the side in tokens above which the network has no positions; None: there is none.

    Raises:
        ValueError: the network takes no z of that side.
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
