"""Stage 2: steps a second and memory with the true architectures, by the configurations that are shipped."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from gpu_stages import architectures
from gpu_stages.clock import timed
from gpu_stages.stage import PROMPT, TINY_SCENE, Stage

GRAPHS = "--model.prior.compile=reduce-overhead"
RENDERER = "--model.renderer.compile=true"
LATENTS = ("--model.scene.latents=4", "--model.latent_until=1")
TINY = (*TINY_SCENE, "--data.resolution=8", "--model.prior.dtype=float32", "--model.prior.resolution=8")


class Variant(NamedTuple):
    """One row."""

    family: str
    what: str
    words: tuple[str, ...] = ()
    views: int = 1
    autoencoder: bool = False  # a tiny one
    needs: float = 15.0  # seconds


SD, XL, IF = "stable_diffusion", "stable_diffusion_xl", "deepfloyd"
VARIANTS = (  # in order of value
    Variant(SD, "channels_last"),
    Variant(SD, "CUDA graphs", (GRAPHS,), needs=60.0),
    Variant(SD, "CUDA graphs, compiled renderer", (GRAPHS, RENDERER), needs=60.0),
    Variant(SD, "tiny autoencoder, CUDA graphs, compiled renderer", (GRAPHS, RENDERER), 1, True, 45.0),
    Variant(SD, "latents, CUDA graphs, compiled renderer", (GRAPHS, RENDERER, *LATENTS), needs=45.0),
    Variant(SD, "contiguous", ("--model.prior.channels_last=false",)),
    Variant(SD, "tiny autoencoder", (), 1, True),
    Variant(SD, "latents", LATENTS),
    Variant(SD, "channels_last", (), 2),
    Variant(SD, "channels_last", (), 4),
    Variant(XL, "channels_last", needs=40.0),
    Variant(IF, "channels_last", needs=25.0),
    Variant(SD, "torch.compile", ("--model.prior.compile=true",), needs=60.0),
    Variant(SD, "CUDA graphs, compiled renderer", (GRAPHS, RENDERER), 2, needs=60.0),
    Variant(SD, "CUDA graphs, compiled renderer", (GRAPHS, RENDERER), 4, needs=60.0),
    Variant(XL, "CUDA graphs, compiled renderer", (GRAPHS, RENDERER), needs=120.0),
    Variant(IF, "CUDA graphs, compiled renderer", (GRAPHS, RENDERER), needs=120.0),
)
TINY_ROWS = [VARIANTS[i] for i in (0, 3, 4, 10, 11)]  # each family and way of encoding


def run(stage: Stage) -> None:
    """Every variant, a fit that is begun and timed."""
    folders: dict[str, Path] = {}
    if stage.tiny:  # a compiler would take minutes; that compiled networks give the same is tested elsewhere
        torch.compile = lambda function, **_: function
    tiny = architectures.save_tiny_autoencoder(stage.scratch / "taesd", stage.tiny)
    for variant in TINY_ROWS if stage.tiny else VARIANTS:
        words = [
            f"--config={variant.family}.yaml",
            f"--prompt={PROMPT}",
            f"--data.views_per_step={variant.views}",
            *(TINY if stage.tiny else ()),
            *variant.words,
            *([f"--model.prior.autoencoder={tiny}"] if variant.autoencoder else []),
        ]

        def measure(variant: Variant = variant, words: list[str] = words) -> dict[str, object]:
            if variant.family not in folders:
                place = stage.scratch / variant.family
                folders[variant.family] = architectures.save(variant.family, place, stage.tiny)
            model = f"--model.prior.model={folders[variant.family]}"
            is_plain = GRAPHS not in variant.words and variant.views == 1
            seconds = min(6.0, max(stage.left - 10.0, 1.0))
            return {"views": variant.views, **timed(stage, [*words, model], seconds, waits=is_plain)}

        stage.attempt(f"{variant.family}: {variant.what}", measure, variant.needs)
