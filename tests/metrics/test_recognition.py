"""The judge against pictures of the world that it has not seen, and its metric against counting."""

from __future__ import annotations

import pytest
import torch

from dreamfusion_pl.data.orbit import orbit
from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.data.world.tracer import render_world
from dreamfusion_pl.metrics.classifier import ClassifierTraining, load_classifier
from dreamfusion_pl.metrics.recognition import Recognition

PROMPTS = [
    "a red chair", "a blue mug", "a green car", "a yellow duck", "a pink house", "a purple donut",
    "a brown table", "a white snowman", "a black penguin", "an orange pumpkin", "a gray rocket",
    "a cyan fish",
]  # fmt: skip


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
