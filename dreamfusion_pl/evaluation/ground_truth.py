"""Compares a result with the ground truth: the object of the procedural world that its prompt describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.data.orbit import orbit, ring
from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.data.world.scenes import WorldScene
from dreamfusion_pl.data.world.tracer import render_world
from dreamfusion_pl.evaluation.finished_runs import load
from dreamfusion_pl.evaluation.items import in_result, looks_at_item
from dreamfusion_pl.evaluation.run_settings import RunSettings, settings_of
from dreamfusion_pl.export.surface.mesh import Mesh, extract
from dreamfusion_pl.metrics.alignment import Alignment, pose
from dreamfusion_pl.metrics.classifier import load_classifier
from dreamfusion_pl.metrics.geometry import (
    albedo_error,
    chamfer_distance,
    distance_surface,
    f_score,
    has_second_front,
    normal_consistency,
    saturation_bias,
    surface_samples,
)
from dreamfusion_pl.metrics.looks import Looks, looks, seeing_all
from dreamfusion_pl.metrics.recognition import StrictLook, recognized, strictly
from dreamfusion_pl.metrics.solid import solid_of, truth_of

TOLERANCE = 0.02  # of the F-score, as a share of the truth's diagonal


class Judgement(NamedTuple):
    """Metrics of one result, as docs/measures.md defines them.

    The result is aligned with the truth in scale, translation and a yaw within 30 degrees of the front.
    """

    iou: float  # volumetric intersection over union, in [0, 1]
    iou_free: float  # the same with a free yaw, which forgives an object that faces elsewhere
    yaw_deg: float  # how far the object is turned, in [-180, 180)
    backwards: bool  # whether its front is on the far side
    second_front: bool  # whether it has a front on both sides
    chamfer: float  # symmetric Chamfer distance in world units; the truth fits in a ball of diameter 1
    f_score: float  # F-score at 2 % of the truth's diagonal, in [0, 1]
    normal_consistency: float  # mean absolute cosine of nearest normals, in [0, 1]
    albedo_error: float  # mean absolute albedo error where both are visible, in [0, 1]
    saturation_bias: float  # mean saturation there, less the truth's, in [-1, 1]
    object: bool  # lenient: the world classifier names the object from 8 azimuths together (both of two)
    color: bool  # the same of the colour
    named: float  # strict: share of the azimuths that each name it (both) by a clear margin, in [0, 1]
    worst_lead: float  # lead of the true name from the worst azimuth, in [-1, 1]


NOTHING = Judgement(  # a result without a surface
    iou=0.0,
    iou_free=0.0,
    yaw_deg=float("nan"),
    backwards=False,
    second_front=False,
    chamfer=float("nan"),
    f_score=0.0,
    normal_consistency=0.0,
    albedo_error=1.0,
    saturation_bias=float("nan"),
    object=False,
    color=False,
    named=0.0,
    worst_lead=-1.0,
)


def judge_result(
    result: DreamFusion | Path, prompt: str | None = None, settings: RunSettings | None = None
) -> Judgement:
    """Judge a finished run, or an object in memory, against the object that a prompt names.

    Args:
        result: a run folder, a checkpoint, or the model itself.
        prompt: a prompt of the procedural world; None takes the result's own.
        settings: how to look at it. None takes those of the run, and the defaults for a model in memory; for
            one that was trained with other cameras pass ``RunSettings(camera_of(datamodule))``.

    Returns:
        The measures; ``NOTHING`` for a result without a surface, and the reason is printed.

    Raises:
        ValueError: the run cannot be read, or the prompt is not of the world.
    """
    model = load(result) if isinstance(result, Path) else result
    if settings is None:
        settings = settings_of(result) if isinstance(result, Path) else RunSettings()
    words = model.prompt if prompt is None else prompt
    scene = parse(words)
    if scene is None:
        raise ValueError(
            f"{words!r} names nothing of the procedural world, so that there is no truth to compare"
        )
    try:
        return judge(model, scene, settings)
    except ValueError as error:
        print(f"{words}: no geometry: {error}")
        return NOTHING


def judge(model: DreamFusion, scene: WorldScene, settings: RunSettings | None = None) -> Judgement:
    """Compare a finished object with the ground truth.

    Args:
        model: the object.
        scene: the truth.
        settings: cameras that it is recognized from, and the surface that is exported; None: the defaults.

    Raises:
        ValueError: the result has no surface.
    """
    settings = settings or RunSettings()
    mesh = _exported(model, settings)
    truth = truth_of(scene.distance)
    stands = pose(solid_of(mesh), truth)
    mine = surface_samples(mesh.vertices, mesh.faces).to_truth(stands.front)
    theirs = surface_samples(*distance_surface(scene.distance), seed=1)
    names = _recognize(model, scene, stands.front, settings)
    return Judgement(
        iou=stands.iou,
        iou_free=stands.iou_free,
        yaw_deg=stands.yaw_deg,
        backwards=stands.is_backwards,
        chamfer=chamfer_distance(mine.points, theirs.points),
        f_score=f_score(mine.points, theirs.points, TOLERANCE * truth.diagonal),
        normal_consistency=normal_consistency(mine, theirs),
        **_compare_pictures(model, scene, stands.front),
        object=names.object,
        color=names.color,
        named=names.look.share,
        worst_lead=names.look.worst,
    )


def overlap_with(model: DreamFusion, scene: WorldScene, settings: RunSettings | None = None) -> float:
    """Return only the volumetric IoU near the front, in [0, 1]; a wrong object gives a benchmark's floor.

    Raises:
        ValueError: the result has no surface.
    """
    mesh = _exported(model, settings or RunSettings())
    return pose(solid_of(mesh), truth_of(scene.distance)).iou


def _exported(model: DreamFusion, settings: RunSettings) -> Mesh:
    """The surface that is exported: what a mesh drops, such as floaters, is not judged."""
    return extract(
        model.scene,
        threshold=settings.threshold,
        progress=model.progress,
        smallest_part=settings.smallest_part,
    )


class _Names(NamedTuple):
    """Whether all objects of a scene, and their colours, are recognized."""

    object: bool
    color: bool
    look: StrictLook  # from each azimuth, that at the object which is recognized worst


def _recognize(model: DreamFusion, scene: WorldScene, alignment: Alignment, settings: RunSettings) -> _Names:
    """Let the classifier name a single object as it is, and each of several by itself."""
    classifier, found = load_classifier(), []
    for index, item in enumerate(scene.items):
        if scene.relation:
            seen = looks_at_item(model, scene, alignment, index)
        else:
            seen = _from_all_sides(model, settings)
        named = recognized(classifier, seen.albedo, item.object, item.color)
        found.append(_Names(*named, strictly(classifier, seen.albedo, seen.opacity, item.object)))
    leads = torch.stack([one.look.lead for one in found])
    return _Names(
        all(one.object for one in found), all(one.color for one in found), StrictLook(leads.amin(0))
    )


def _from_all_sides(model: DreamFusion, settings: RunSettings) -> Looks:
    """Pictures of the unlit object from 8 azimuths, by the data's cameras."""
    views = orbit(ring(8), 15.0, *settings.camera, 64, 64)
    views = seeing_all(model.scene, model.renderer, views, model.progress)
    return looks(model.scene, model.renderer, views, model.progress)


def _compare_pictures(model: DreamFusion, scene: WorldScene, alignment: Alignment) -> dict[str, Any]:
    """Compare albedo in views of the truth with that in views of the aligned result."""
    views = orbit(ring(8), 15.0, 1.5, 1.2, 64, 64)
    seen = looks(model.scene, model.renderer, in_result(views, alignment), model.progress)
    truth = render_world(scene, views)
    pictures, rear = truth.over(views.background), len(seen.albedo) // 2
    both = seen.albedo, seen.opacity, pictures, truth.alpha
    return {
        "second_front": has_second_front(seen.albedo[0], seen.albedo[rear], pictures[0], pictures[rear]),
        "albedo_error": albedo_error(*both),
        "saturation_bias": saturation_bias(*both),
    }
