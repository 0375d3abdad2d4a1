"""Differences of objects: none between equal ones, clear ones between others."""

from __future__ import annotations

import math

import pytest
import torch
from solids import ball, solid, turned, world

from dreamfusion_pl.metrics.diversity import Diversity, Object, difference, from_the_others, shape_difference


def test_equal_solids_have_no_difference_wherever_they_stand():
    chair = solid(world("a red chair").distance)
    assert shape_difference(chair, chair) == 0.0
    moved = solid(turned(world("a red chair").distance, 0.0))  # smaller, and not in the middle
    assert shape_difference(chair, moved) < 0.15
    assert shape_difference(solid(ball(0.5)), solid(ball(0.3))) < 0.03


def test_different_solids_differ_clearly():
    chair, car = (world(prompt).distance for prompt in ("a red chair", "a red car"))
    assert shape_difference(solid(chair), solid(car)) > 0.7
    backwards = solid(turned(chair, 180.0))  # a front is part of the meaning
    assert shape_difference(solid(chair), backwards) > 0.4
    cube = solid(lambda points: points.abs().amax(-1) - 0.4)
    known = shape_difference(solid(ball(0.5)), cube)
    assert shape_difference(cube, solid(ball(0.5))) == pytest.approx(known)
    assert known == pytest.approx(1.0 - 2.0 / (3**0.5 * math.pi), abs=0.05)  # the cube is inside of the ball


def test_each_object_is_compared_with_all_others():
    cube = solid(lambda points: points.abs().amax(-1) - 0.4, resolution=40)
    shapes = [solid(ball(0.5), resolution=40), solid(ball(0.5), resolution=40), cube]
    grays = [torch.full((2, 4, 4, 3), level) for level in (0.2, 0.2, 0.5)]
    objects = [Object(*pair) for pair in zip(shapes, grays, strict=True)]
    first, second, third = from_the_others(objects)
    assert first == second
    assert first.pictures == pytest.approx(0.15) and third.pictures == pytest.approx(0.3)
    assert first.shape == pytest.approx(0.5 * third.shape) and third.shape > 0.5
    assert difference(objects[0], objects[1]) == Diversity(0.0, 0.0)


def test_other_cameras_are_not_compared():
    shape = solid(ball(0.5), resolution=20)
    one, other = (Object(shape, torch.zeros(2, side, side, 3)) for side in (4, 8))
    with pytest.raises(ValueError, match="not of the same cameras"):
        difference(one, other)
