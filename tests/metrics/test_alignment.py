"""Overlap and alignment: what is right scores high, what is wrong scores low, and a turn is reported."""

from __future__ import annotations

import math

import pytest
import torch
from solids import IDENTITY, ball, solid, turned, world

from dreamfusion_pl.metrics.alignment import SCALE, Alignment, align, overlap, pose
from dreamfusion_pl.metrics.solid import Distance, Solid, truth_of


@pytest.fixture(scope="module")
def chair():
    return truth_of(world("a red chair").distance)


def test_the_union_is_counted_wherever_the_truth_reaches():
    assert overlap(solid(ball(0.4)), truth_of(ball(0.5)), IDENTITY) == pytest.approx(0.8**3, abs=0.01)
    small = solid(ball(0.25), half=0.3)  # its grid ends far inside of the truth
    assert overlap(small, truth_of(ball(0.5)), IDENTITY) == pytest.approx(0.125, abs=0.01)
    aside = Alignment(0.0, 1.0, (3.0, 0.0, 0.0))
    assert overlap(small, truth_of(ball(0.5)), aside) == 0.0


def test_alignment_round_trip():
    alignment = Alignment(0.7, 1.3, (0.1, -0.2, 0.3))
    points = torch.randn(10, 3)
    assert torch.allclose(alignment.to_truth(alignment.to_result(points)), points, atol=1e-5)


def test_align_finds_a_known_similarity(chair):
    known = Alignment(1.1, 0.85, (0.05, -0.03, 0.06))
    moved = solid(lambda points: 0.85 * chair.distance(known.to_truth(points)))
    found = align(moved, chair)
    assert overlap(moved, chair, found) > 0.9
    assert math.cos(found.yaw - known.yaw) > 0.99 and found.scale == pytest.approx(0.85, abs=0.03)


def wall(points: torch.Tensor) -> torch.Tensor:
    """A thin wall that fills the pictures from the front."""
    return (points.abs() - torch.tensor([0.03, 0.65, 0.65])).amax(-1)


def noise(points: torch.Tensor) -> torch.Tensor:
    """Random lumps in a ball."""
    lumps = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    value = torch.nn.functional.grid_sample(lumps, points.view(1, -1, 1, 1, 3) / 0.6, align_corners=True)
    return torch.maximum(0.5 - value.view(-1), points.norm(dim=-1) - 0.58)


@pytest.mark.parametrize(
    ("result", "prompt", "most"),
    [
        (ball(0.6), "a red chair", 0.13),  # .657 when the union ended with the result's grid
        (ball(0.6), "a red car", 0.43),  # .711
        (wall, "a red chair", 0.12),
        (noise, "a red chair", 0.15),
        (world("a red car").distance, "a red chair", 0.3),
        (world("a red chair").distance, "a red mug", 0.3),
    ],
    ids=["ball as chair", "ball as car", "wall", "noise", "car as chair", "chair as mug"],
)
def test_what_is_wrong_scores_low(result: Distance, prompt: str, most: float):
    truth, wrong = truth_of(world(prompt).distance), solid(result, resolution=56)
    found = align(wrong, truth, 30.0)
    assert 0.02 < overlap(wrong, truth, found) < most
    mine = 0.5 * (wrong.points.amax(0) + wrong.points.amin(0))
    radius = float((wrong.points - mine).norm(dim=-1).max())
    assert 1.0 / SCALE - 1e-6 <= found.scale * truth.radius / radius <= SCALE + 1e-6


@pytest.mark.parametrize(
    ("yaw_deg", "is_turned", "is_backwards"),
    [(0.0, False, False), (20.0, False, False), (-90.0, True, False), (180.0, True, True)],
)
def test_a_turn_is_reported_and_costs(chair, yaw_deg, is_turned, is_backwards):
    found = pose(solid(turned(chair.distance, yaw_deg)), chair)
    assert math.cos(math.radians(found.yaw_deg - yaw_deg)) > 0.99 and -180.0 <= found.yaw_deg < 180.0
    assert (found.is_turned, found.is_backwards) == (is_turned, is_backwards)
    assert found.iou_free > 0.9
    assert (found.iou < 0.6) if is_turned else (found.iou == found.iou_free)


@pytest.mark.parametrize("prompt", ["a red ball", "a blue donut"])
def test_what_looks_the_same_from_everywhere_is_never_turned(prompt):
    truth = truth_of(world(prompt).distance)
    found = pose(solid(turned(truth.distance, 170.0), resolution=48), truth)
    assert not found.is_turned and not found.is_backwards and abs(found.yaw_deg) <= 30.0
    assert found.iou > 0.9


def test_align_refuses_nothing():
    nothing = Solid(torch.zeros(8, 8, 8, dtype=torch.bool), torch.zeros(3), 0.1)
    with pytest.raises(ValueError, match="empty solid"):
        align(nothing, truth_of(ball(0.4)))
    with pytest.raises(ValueError, match="empty object"):
        truth_of(lambda points: points.norm(dim=-1) + 1.0)
