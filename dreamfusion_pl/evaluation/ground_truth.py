"""Compares a result with the ground truth: the object of the procedural world that its prompt describes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.data.orbit import GRAY, orbit, ring
from dreamfusion_pl.data.world.scenes import WorldScene
from dreamfusion_pl.data.world.tracer import render_world
from dreamfusion_pl.export.surface.mesh import extract, surface_threshold
from dreamfusion_pl.metrics.alignment import Alignment, align
from dreamfusion_pl.metrics.classifier import load_classifier
from dreamfusion_pl.metrics.geometry import (
    albedo_error,
    chamfer_distance,
    distance_surface,
    overlap,
    solid_of,
    surface_points,
)
from dreamfusion_pl.metrics.recognition import recognized
from dreamfusion_pl.types import Views


class Judgement(NamedTuple):
    """Metrics of one result, after alignment in yaw, scale and translation."""

    iou: float  # volumetric intersection over union, in [0, 1]
    chamfer: float  # symmetric Chamfer distance in world units; the truth fits in a ball of diameter 1
    albedo_error: float  # mean absolute albedo error where both are visible, in [0, 1]
    object: bool  # whether the world classifier names the object from 8 azimuths
    color: bool  # whether it names the colour


def judge(model: DreamFusion, scene: WorldScene) -> Judgement:
    """Compare a finished object with the ground truth.

    Raises:
        ValueError: the result has no surface.
    """
    threshold = surface_threshold(model.scene, model.progress)
    solid = solid_of(model.scene, threshold, progress=model.progress)
    mesh = extract(model.scene, threshold=threshold, progress=model.progress)
    fit = align(solid, scene.distance)
    truth_surface = surface_points(*distance_surface(scene.distance), seed=1)
    views = orbit(ring(8), 15.0, 1.5, 1.2, 64, 64, GRAY)
    truth = render_world(scene, views)
    albedo, opacity = _albedo(model, _matching(fit, views))
    item = scene.items[0]
    named = recognized(load_classifier(), _albedo(model, views)[0], item.object, item.color)
    return Judgement(
        iou=overlap(solid, scene.distance, fit),
        chamfer=chamfer_distance(fit.to_truth(surface_points(mesh.vertices, mesh.faces)), truth_surface),
        albedo_error=albedo_error(albedo, opacity, truth.over(views.background), truth.alpha),
        object=named[0],
        color=named[1],
    )


def overlap_with(model: DreamFusion, scene: WorldScene) -> float:
    """Return only the volumetric IoU after alignment, in [0, 1]; a wrong object gives a benchmark's floor.

    Raises:
        ValueError: the result has no surface.
    """
    solid = solid_of(model.scene, surface_threshold(model.scene, model.progress), progress=model.progress)
    return overlap(solid, scene.distance, align(solid, scene.distance))


def _matching(alignment: Alignment, views: Views) -> Views:
    """Transform views of the truth so that the aligned result appears at the same pixels."""
    rotation = alignment.rotation(views.origin)
    return views._replace(origin=alignment.to_result(views.origin), rotation=rotation @ views.rotation)


@torch.no_grad()
def _albedo(model: DreamFusion, views: Views) -> tuple[Tensor, Tensor]:
    """Render albedo over the background [B, H, W, 3], and opacity [B, H, W]."""
    rendering = model(views, needs_normals=False)
    return rendering.albedo, rendering.opacity
