"""What a finished run's configuration says about looking at its object: cameras, and what was exported."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.export.surface.mesh import SMALLEST_PART, check_surface
from dreamfusion_pl.metrics.looks import Camera, camera_of

MESH = "dreamfusion_pl.callbacks.mesh.MeshExport"
LENGTHS = (1e-2, 1e3)  # of distances and focal lengths that are believed


class RunSettings(NamedTuple):
    """How to look at the object of a run."""

    camera: Camera = Camera()
    threshold: float | None = None  # density at the exported surface; None finds it
    smallest_part: float = SMALLEST_PART  # of the exported surface


def settings_of(place: Path) -> RunSettings:
    """Read the settings from the config.yaml of a run folder, or of a checkpoint's run.

    A configuration that is missing or makes no sense gives the defaults, and a warning says so.
    """
    config = (place.parent.parent if place.is_file() else place) / "config.yaml"
    try:
        tree = yaml.safe_load(config.read_text(encoding="utf-8"))
        return RunSettings(_camera(tree), *_surface(tree))
    except (OSError, yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(
            f"dreamfusion_pl: warning: {config} does not say how the object was looked at and exported "
            f"({reason}): it is judged with the default cameras and export",
            file=sys.stderr,
        )
        return RunSettings()


def _camera(tree: dict[str, Any]) -> Camera:
    arguments = (tree.get("data") or {}).get("init_args") or {}
    names = ("distance", "focal", "look_distance", "look_focal")
    given = {name: arguments[name] for name in names if arguments.get(name) is not None}
    if not given:
        return Camera()
    camera = camera_of(RandomViews(**given))
    camera = Camera(*map(float, camera))
    if not all(LENGTHS[0] <= length <= LENGTHS[1] for length in camera):
        raise ValueError(f"a camera with distance and focal length {tuple(camera)}")
    return camera


def _surface(tree: dict[str, Any]) -> tuple[float | None, float]:
    callbacks = (tree.get("trainer") or {}).get("callbacks") or []
    for callback in callbacks:
        if isinstance(callback, dict) and callback.get("class_path") == MESH:
            arguments = callback.get("init_args") or {}
            threshold = arguments.get("threshold")
            smallest_part = float(arguments.get("smallest_part", SMALLEST_PART))
            if threshold is not None and not math.isfinite(float(threshold)):
                raise ValueError(f"a threshold of {threshold}")
            check_surface(8, threshold, smallest_part)
            return threshold, smallest_part
    return None, SMALLEST_PART
