"""Finds and loads finished runs, and renders the views that they are evaluated on."""

from __future__ import annotations

import io
from argparse import ArgumentTypeError
from contextlib import nullcontext
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from jsonargparse import ArgumentError
from torch import Tensor

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.configuration import trust
from dreamfusion_pl.configuration.checkpoints import RUNS, find_checkpoint
from dreamfusion_pl.configuration.old_names import migration
from dreamfusion_pl.data.orbit import orbit, ring
from dreamfusion_pl.metrics.looks import Camera, looks, seeing_all
from dreamfusion_pl.run_folder.layout import newest_run
from dreamfusion_pl.types import Views

DEFAULT_CAMERA = Camera()
TRUST_HELP = "import the classes that the run names, of whatever package: only for runs of people you trust"
_UNREADABLE = (
    RuntimeError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    EOFError,
    OSError,
    UnpicklingError,
    ArgumentError,
)


def run_named(name: str) -> Path:
    """Return the place that a command's argument names; ``last`` is the newest run in ``lightning_logs``.

    Raises:
        ArgumentTypeError: there is none.
    """
    if name != "last" or Path(name).exists():
        return Path(name)
    run = newest_run(RUNS)
    if run is None:
        raise ArgumentTypeError(f"'last' is the newest run in {RUNS}, where there is none")
    return run


def find_runs(places: list[Path]) -> list[Path]:
    """Return the finished runs at or below some folders, in order, without duplicates.

    Raises:
        ValueError: there is no run at or below one of them.
    """
    runs: dict[Path, None] = {}
    for place in places:
        here = any(file.is_file() for file in place.glob("checkpoints/*.ckpt"))
        below = () if here else place.glob("**/checkpoints/*.ckpt")
        found = [place] if here else sorted({file.parent.parent for file in below if file.is_file()})
        if not found:
            raise ValueError(
                f"no finished run at {place}: pass run folders, such as lightning_logs/version_0"
            )
        runs.update(dict.fromkeys(found))
    return list(runs)


def load(place: Path, trusted: bool = False) -> DreamFusion:
    """Load the object of a run folder or a checkpoint, with averaged weights if the run has them.

    Of a run folder, the newest checkpoint that can be read is taken. The prior is not loaded: rendering does
    not need it, and it may not be on this machine.

    Args:
        place: the run folder or the checkpoint.
        trusted: whether classes that are not of this package are imported; whoever made the run chose them.

    Raises:
        ValueError: there is no checkpoint, it cannot be read, it holds no object, or it names a class that is
            not of this package.
    """
    if not place.is_file() and not any(file.is_file() for file in place.glob("checkpoints/*.ckpt")):
        raise ValueError(
            f"no finished run at {place}: pass a run folder such as lightning_logs/version_0, or a checkpoint"
        )
    try:
        checkpoint = find_checkpoint(str(place))
    except ValueError as error:
        raise ValueError(f"{place} cannot be read as a finished object: {error}") from error
    try:
        import dreamfusion_pl.optimizers  # noqa: F401 - lets torch read the state of Shampoo

        stored = io.BytesIO()
        read = _object_of(torch.load(checkpoint, map_location="cpu", weights_only=True))
        torch.save(read, stored)
    except _UNREADABLE as error:
        raise ValueError(f"{checkpoint} cannot be read as a finished object: {error}") from error
    if not trusted:
        trust.check_classes(read["hyper_parameters"], str(checkpoint))
    stored.seek(0)
    try:
        with nullcontext() if trusted else trust.own_classes_only(str(checkpoint)):
            model = DreamFusion.load_from_checkpoint(stored, map_location="cpu", weights_only=True)
    except trust.ForeignClassError:
        raise
    except _UNREADABLE as error:
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
    updated = trust.without_distillation(migration.update_checkpoint(checkpoint))
    needed = ("state_dict", "progress", "prompt", "pytorch-lightning_version", "epoch", "global_step")
    return {key: updated[key] for key in needed if key in updated} | {
        "hyper_parameters": trust.object_arguments(updated["hyper_parameters"])
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
    views = orbit(ring(num_azimuths), elevation_deg, *camera, size, size)
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
