"""The judge against pictures of the world that it has not seen, and its metric against counting."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from dreamfusion_pl.data.orbit import orbit
from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.data.world.objects.catalog import OBJECT_NAMES
from dreamfusion_pl.data.world.tracer import render_world
from dreamfusion_pl.metrics.classifier import ClassifierTraining, load_classifier
from dreamfusion_pl.metrics.recognition import MARGIN, Recognition, StrictLook, recognized, strictly

PROMPTS = [
    "a red chair", "a blue mug", "a green car", "a yellow duck", "a pink house", "a purple donut",
    "a brown table", "a white snowman", "a black penguin", "an orange pumpkin", "a gray rocket",
    "a cyan fish",
]  # fmt: skip


@cache
def ring_of(prompt: str) -> torch.Tensor:
    scene = parse(prompt)
    assert scene is not None
    views = orbit([45.0 * i for i in range(8)], 15.0, 1.5, 1.2, 48, 48, (0.72, 0.6, 0.8))
    return render_world(scene, views).over(views.background)


def test_the_judge_names_true_pictures_and_the_metric_counts_them() -> None:
    right, swapped = Recognition(), Recognition()
    for prompt, other in zip(PROMPTS, PROMPTS[1:] + PROMPTS[:1], strict=True):
        pictures = ring_of(prompt)
        item, wrong = parse(prompt).items[0], parse(other).items[0]
        right.update(pictures, item.object, item.color)
        swapped.update(pictures, wrong.object, wrong.color)
    assert float(right.compute()["object"]) >= 11 / 12 and float(right.compute()["color"]) >= 11 / 12
    assert float(swapped.compute()["object"]) <= 1 / 12 and float(swapped.compute()["color"]) <= 1 / 12


def test_missing_weights_name_the_cure(tmp_path) -> None:
    with pytest.raises(ValueError, match="classifier.yaml"):
        load_classifier(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="learning_rate"):
        ClassifierTraining(learning_rate=0.0)


def test_scores_are_log_probabilities_at_any_size() -> None:
    scores = load_classifier()(torch.rand(2, 64, 64, 3))
    for part in scores:
        assert torch.allclose(part.exp().sum(-1), torch.ones(2), atol=1e-4)


OPAQUE = torch.ones(8, 48, 48)


def test_a_strict_look_counts_azimuths_by_hand() -> None:
    look = StrictLook(torch.tensor([0.9, MARGIN, 0.2, -0.7]))
    assert look.share == 0.5 and look.worst == pytest.approx(-0.7)


def test_the_strict_look_names_true_objects_from_nearly_every_side() -> None:
    shares = []
    for prompt, other in zip(PROMPTS, PROMPTS[1:] + PROMPTS[:1], strict=True):
        pictures = ring_of(prompt)
        shares.append(strictly(load_classifier(), pictures, OPAQUE, parse(prompt).items[0].object).share)
        wrong = strictly(load_classifier(), pictures, OPAQUE, parse(other).items[0].object)
        assert wrong.share == 0.0 and wrong.worst < -0.9
    assert sum(shares) / len(shares) > 0.95 and min(shares) >= 0.75


Looks = tuple[torch.Tensor, torch.Tensor]  # pictures and their opacity


def noise() -> Looks:
    return torch.rand(8, 48, 48, 3, generator=torch.Generator().manual_seed(0)), OPAQUE


def fog() -> Looks:
    """A red haze over gray, densest in the middle."""
    across = torch.linspace(-1.0, 1.0, 32)
    opacity = 0.3 * (1.0 - across[:, None].square() - across.square()).clamp_min(0.0).sqrt()[..., None]
    red, gray = torch.tensor([0.85, 0.08, 0.08]), torch.tensor(0.72)
    picture = opacity * red + (1.0 - opacity) * gray
    return picture.expand(8, 32, 32, 3), opacity[..., 0].expand(8, 32, 32)


def nothing() -> Looks:
    return torch.full((8, 48, 48, 3), 0.72), 0.0 * OPAQUE


def one_good_side() -> Looks:
    """A car from one side, and next to nothing from the others."""
    pictures = torch.full((8, 48, 48, 3), 0.72)
    pictures[0] = ring_of("a green car")[0]
    return pictures, OPAQUE


@pytest.mark.parametrize("make", [noise, fog, nothing, one_good_side])
def test_what_a_lenient_look_gives_a_name_a_strict_one_does_not(make) -> None:
    (pictures, opacity), classifier = make(), load_classifier()
    lenient = [name for name in OBJECT_NAMES if recognized(classifier, pictures, name, "red")[0]]
    assert len(lenient) == 1  # whatever it sees, it says a name
    look = strictly(classifier, pictures, opacity, lenient[0])
    assert look.share <= 1 / 8 and look.worst < MARGIN
