"""The judgement of objects whose faults are known."""

import math
from typing import final

import pytest
import torch
from fakes import small_model
from scenes import AnalyticDensity, Balls
from solids import WorldField, world

from dreamfusion_pl.evaluation.ground_truth import NOTHING, judge_result, overlap_with
from dreamfusion_pl.evaluation.run_settings import RunSettings
from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.scene.background import DirectionBackground
from dreamfusion_pl.scene.base import Scene


def shown(scene, prompt: str = "a red chair"):
    """A finished model of a scene."""
    model = small_model()
    model.scene, model.prompt, model.progress = scene, prompt, 1.0
    model.renderer = Renderer(num_samples=32, occupancy_resolution=0)
    model.background = DirectionBackground(width=4)
    torch.nn.init.constant_(model.background.network[-1].bias, -8.0)  # black: it must not be looked at
    return model.eval()


def test_the_true_object_is_perfect():
    found = judge_result(shown(WorldField("a red chair")))
    assert found.iou > 0.85 and found.iou_free == found.iou
    assert abs(found.yaw_deg) < 5.0 and not found.backwards
    assert found.chamfer < 0.015 and found.f_score > 0.9 and found.normal_consistency > 0.9
    assert found.albedo_error < 0.05 and abs(found.saturation_bias) < 0.05
    assert found.object and found.color
    assert found.named >= 0.75 and found.worst_lead > 0.3


def test_an_object_that_faces_backwards_is_told():
    found = judge_result(shown(WorldField("a red chair", yaw_deg=180.0)))
    assert found.backwards and abs(found.yaw_deg) > 175.0
    assert found.iou < 0.6 and found.iou_free > 0.85
    assert found.f_score < 0.8 and found.chamfer > 0.02
    assert found.object and found.named >= 0.75  # seen from all around, it is a chair


@final
class TwoFronts(Scene):
    """The front half of a scene on both sides."""

    latent_colors, surface, empty_level = None, 0.0, -1.0

    def __init__(self, scene: WorldField) -> None:
        super().__init__()
        self.scene, self.radius = scene, scene.radius

    def density(self, points, progress):
        return self.scene.density(self._front(points), progress)

    def level(self, points, progress):
        return self.scene.level(self._front(points), progress)

    def forward(self, points, progress):
        return self.scene(self._front(points), progress)

    def param_groups(self, learning_rate):
        return []

    def _front(self, points):
        """Points behind x = 0 turned by half a turn about the up axis."""
        return torch.where(points[:, :1] < 0.0, points * points.new_tensor([-1.0, -1.0, 1.0]), points)


@pytest.mark.parametrize("prompt", ["a black penguin", "a brown teddy bear", "a blue cat"])
def test_a_front_on_both_sides_is_told(prompt):
    front = WorldField(prompt)
    assert judge_result(shown(TwoFronts(front), prompt)).second_front
    for fine in (front, WorldField(prompt, yaw_deg=180.0)):  # the second is merely backwards
        assert not judge_result(shown(fine, prompt)).second_front


def test_what_has_no_front_has_no_second_one():
    assert not judge_result(shown(WorldField("a red ball"), "a red ball")).second_front


def test_another_prompts_object_is_told():
    found = judge_result(shown(WorldField("a red chair")), "a blue mug")
    assert found.iou < 0.3 and found.f_score < 0.5
    assert not found.object and not found.color and found.named == 0.0 and found.worst_lead < -0.5


PAIR = "a red apple on a blue cube"


def test_both_objects_of_a_relation_are_looked_at():
    found = judge_result(shown(WorldField(PAIR)), PAIR)
    assert found.iou > 0.85 and found.object and found.color and found.named >= 0.75
    assert found.worst_lead > 0.0


@pytest.mark.parametrize(
    "other",
    ["a blue cube", "a red apple next to a blue cube", "a red duck on a blue cube"],
)
def test_a_missing_misplaced_or_other_object_of_a_relation_is_told(other):
    found = judge_result(shown(WorldField(other)), PAIR)
    assert not found.object and found.named < 0.3 and found.worst_lead < 0.0


def test_exchanged_colors_of_a_relation_are_told():
    found = judge_result(shown(WorldField("a blue apple on a red cube")), PAIR)
    assert found.object and found.named >= 0.75 and not found.color


@final
class Fog(AnalyticDensity):
    """A red haze of the same density everywhere; a ray through the middle is .3 opaque."""

    radius = 0.6

    def density(self, points, progress):
        return torch.full_like(points[:, 0], -math.log(0.7) / (2.0 * self.radius))

    def appearance(self, points):
        return points.new_tensor([0.85, 0.08, 0.08]).expand(len(points), 3)


def test_a_fog_is_no_chair():
    found = judge_result(shown(Fog()))
    assert found.iou <= found.iou_free < 0.15 and found.f_score < 0.3
    assert found.named == 0.0 and found.worst_lead == -1.0  # as anything: it is nowhere solid


def test_a_fog_is_no_pair_of_objects():
    found = judge_result(shown(Fog()), PAIR)
    assert not found.object and found.named == 0.0 and found.worst_lead == -1.0
    assert found.albedo_error > 0.5 and found.f_score < 0.3


@pytest.mark.parametrize("density", [0.0, float("nan")])
def test_what_has_no_surface_is_worth_nothing_and_says_why(density, capsys):
    empty = Balls([(torch.zeros(3), 0.4)], inside=density)
    assert judge_result(shown(empty), "a red ball") == NOTHING
    out = capsys.readouterr().out
    assert out.startswith("a red ball: no geometry: the scene") and out.count("\n") == 1


def test_floaters_are_judged_as_they_are_exported():
    scene = Balls(
        [(torch.tensor([0.0, 0.0, -0.1]), 0.35), (torch.tensor([0.0, 0.0, 0.85]), 0.04)], edge=0.005
    )
    model, truth = shown(scene, "a red ball"), world("a red ball")
    assert overlap_with(model, truth) > 0.95
    assert overlap_with(model, truth, RunSettings(smallest_part=0.0)) < 0.9


def test_a_prompt_without_a_truth_is_refused(finished_run):
    with pytest.raises(ValueError, match="names nothing of the procedural world"):
        judge_result(finished_run, "a unicorn on the moon")
