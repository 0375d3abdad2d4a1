"""Finds and loads finished runs, and renders the views that they are evaluated on."""

from __future__ import annotations

import io
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from jsonargparse import ArgumentError
from torch import Tensor

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.configuration import migration
from dreamfusion_pl.data.orbit import GRAY, orbit, ring
from dreamfusion_pl.metrics.looks import Camera, looks, seeing_all
from dreamfusion_pl.run_folder.checkpoint_io import is_whole
from dreamfusion_pl.types import Views

PLACEHOLDER_PRIOR = "dreamfusion_pl.diffusion.placeholder.PlaceholderPrior"
STAND_INS = {  # without weights, for what a finished object does not need
    "prior": {"class_path": PLACEHOLDER_PRIOR},
    "distillation": {
        "class_path": "dreamfusion_pl.distillation.sds.ScoreDistillation",
        "init_args": {
            "guidance_scale": 0.0,
            "weighting": {"class_path": "dreamfusion_pl.diffusion.noise.Uniform"},
        },
    },
}
CHECKPOINT = Path("checkpoints") / "last.ckpt"
DEFAULT_CAMERA = Camera()


def find_runs(places: list[Path]) -> list[Path]:
    """Return the finished runs at or below some folders, in order, without duplicates.

    Raises:
        ValueError: there is no run at or below one of them.
    """
    runs: dict[Path, None] = {}
    for place in places:
        found = (
            [place]
            if (place / CHECKPOINT).is_file()
            else sorted(file.parent.parent for file in place.glob(f"**/{CHECKPOINT}"))
        )
        if not found:
            raise ValueError(
                f"no finished run at {place}: pass run folders, such as lightning_logs/version_0"
            )
        runs.update(dict.fromkeys(found))
    return list(runs)


def load(place: Path) -> DreamFusion:
    """Load the object of a run folder or a checkpoint, with averaged weights if the run has them.

    The prior is not loaded: rendering does not need it, and it may not be on this machine.

    Raises:
        ValueError: there is no checkpoint, it cannot be read, or it holds no object.
    """
    checkpoint = place if place.is_file() else place / CHECKPOINT
    if not checkpoint.is_file():
        raise ValueError(
            f"no finished run at {place}: pass a run folder such as lightning_logs/version_0, or a checkpoint"
        )
    if not is_whole(checkpoint):
        raise ValueError(f"{checkpoint} cannot be read as a finished object: it is damaged or no checkpoint")
    try:
        import dreamfusion_pl.optimizers  # noqa: F401 - lets torch read the state of Shampoo

        stored = io.BytesIO()
        torch.save(_object_of(torch.load(checkpoint, map_location="cpu", weights_only=True)), stored)
        stored.seek(0)
        model = DreamFusion.load_from_checkpoint(stored, map_location="cpu", weights_only=True)
    except (
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        EOFError,
        OSError,
        UnpicklingError,
        ArgumentError,
    ) as error:
        raise ValueError(f"{checkpoint} cannot be read as a finished object: {error}") from error
    if not isinstance(model, DreamFusion):  # a checkpoint names its own class
        raise ValueError(
            f"{checkpoint} holds a {type(model).__name__} and no object: pass the run of a fit with a prompt"
        )
    return model.eval()


def _object_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says of the object, in today's names: no prior, distillation or optimizer.

    Raises:
        ValueError: it holds no configuration.
    """
    if "hyper_parameters" not in checkpoint:
        raise ValueError("it holds no configuration, so that it was not written by `fit`")
    updated = migration.update_checkpoint(checkpoint)
    weights = updated["state_dict"].items()
    spare = ("optimizer_states", "lr_schedulers", "current_model_state", "callbacks", "loops")
    return {key: value for key, value in updated.items() if key not in spare} | {
        "state_dict": {name: value for name, value in weights if not name.startswith("distillation.")},
        "hyper_parameters": updated["hyper_parameters"] | STAND_INS,
    }


def judged_views(
    num_azimuths: int, elevation_deg: float, size: int, textureless: bool, camera: Camera = DEFAULT_CAMERA
) -> Views:
    """Return the views of the paper's protocol: one elevation, evenly spaced azimuths (paper section 4).

    Args:
        num_azimuths: number of views V.
        elevation_deg: elevation of all views; 30 in the paper.
        size: height and width in pixels.
        textureless: True shows geometry only, white and lit from the camera; False shows the albedo.
        camera: distance and focal length; for a run those of its data, see ``settings_of``.
    """
    views = orbit(ring(num_azimuths), elevation_deg, *camera, size, size, GRAY)
    if not textureless:
        return views
    return views._replace(
        textureless=torch.ones(num_azimuths, dtype=torch.bool),
        ambient=torch.full((num_azimuths,), 0.1),
        diffuse=torch.full((num_azimuths,), 0.9),
    )


def pictures(model: DreamFusion, views: Views) -> Tensor:
    """Render views of a finished object over their background colours: [V, H, W, 3] in [0, 1] on the CPU.

    Where the object would be cut off, all cameras step back (``seeing_all``).
    """
    views = seeing_all(model.scene, model.renderer, views, model.progress)
    needs_normals = bool((views.diffuse > 0).any())
    return looks(model.scene, model.renderer, views, model.progress, needs_normals).rgb
