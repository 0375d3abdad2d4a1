"""View-dependent prompts by hand-computed cases."""

import pytest
import torch
from tiny_pipeline import save_tiny_pipeline

from dreamfusion_pl.data.world.captions import view_words
from dreamfusion_pl.diffusion.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.prompts import (
    VIEW_NAMES,
    ViewDependentPrompts,
    check_prompt,
    octant_index,
    unknown_words_warning,
    view_index,
)
from dreamfusion_pl.types import TextEmbedding, Views


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return PretrainedPrior(
        str(save_tiny_pipeline(tmp_path_factory.mktemp("prior") / "tiny")), dtype="float32"
    )


def _views(elevation_deg, azimuth_deg) -> Views:
    count, zero = len(azimuth_deg), torch.zeros(len(azimuth_deg))
    return Views(
        origin=torch.zeros(count, 3),
        rotation=torch.eye(3).expand(count, 3, 3),
        focal=zero,
        elevation_deg=torch.tensor(elevation_deg),
        azimuth_deg=torch.tensor(azimuth_deg),
        light=torch.zeros(count, 3),
        ambient=zero,
        diffuse=zero,
        textureless=zero.bool(),
        background=torch.zeros(count, 3),
        jitter=torch.zeros(count, 2, 2),
    )


def assert_same(left: TextEmbedding, right: TextEmbedding) -> None:
    for ours, theirs in zip(left, right, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("elevation", "azimuth", "name"),
    [
        (0.0, 0.0, "front view"),
        (0.0, 45.0, "front view"),
        (0.0, 315.0, "front view"),
        (0.0, 46.0, "side view"),
        (0.0, 270.0, "side view"),
        (0.0, 134.9, "side view"),
        (0.0, 135.0, "back view"),
        (0.0, 225.0, "back view"),
        (60.0, 180.0, "back view"),
        (60.1, 180.0, "overhead view"),
        (-10.0, 359.0, "front view"),
    ],
)
def test_view_names(elevation, azimuth, name):
    index = view_index(torch.tensor([elevation]), torch.tensor([azimuth]), 60.0, 45.0, 135.0)
    assert VIEW_NAMES[4][int(index)] == name


def test_eight_directions_are_named_as_in_the_worlds_captions(prior):
    azimuths = [-190.0, -22.4, 0.0, 22.6, 90.0, 135.0, 230.0, 269.0, 337.0, 337.6, 500.0, 0.0]
    elevations = [0.0] * 11 + [61.0]
    index = octant_index(torch.tensor(elevations), torch.tensor(azimuths), 60.0)
    names = [VIEW_NAMES[8][i] for i in index.tolist()]
    assert names == [view_words(e, a) for e, a in zip(elevations, azimuths, strict=True)]
    assert names[3:6] == ["front left view", "left side view", "back left view"] and len(set(names)) == 9
    prompts = ViewDependentPrompts(prior, "a ball", directions=8)
    text = prompts(_views([0.0, 80.0], [91.0, 0.0])).text
    assert_same(text, prior.embed(["a ball, left side view", "a ball, overhead view"]))


def test_each_view_gets_the_embedding_of_its_prompt(prior):
    prompts = ViewDependentPrompts(prior, " a red chair ", negative_prompt="blue")
    condition = prompts(_views([0.0, 80.0, 10.0], [180.0, 0.0, 90.0]))
    expected = prior.embed(["a red chair, back view", "a red chair, overhead view", "a red chair, side view"])
    assert_same(condition.text, expected)
    assert_same(condition.null, prior.embed(["blue"]))


def test_without_view_dependence_all_views_get_the_prompt(prior):
    condition = ViewDependentPrompts(prior, "a ball", directions=0)(_views([0.0, 80.0], [180.0, 0.0]))
    assert_same(condition.text, prior.embed(["a ball"]).expand(2))


def test_thresholds_out_of_order_are_refused(prior):
    with pytest.raises(ValueError, match="front_deg <= back_deg"):
        ViewDependentPrompts(prior, "a ball", front_deg=100.0, back_deg=80.0)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("", "empty"), ("  \n", "empty"), (None, "must be a text"), (3, "must be a text"), ("?! 12", "no word")],
)
def test_bad_prompts_are_explained(prompt, message):
    with pytest.raises(ValueError, match=f"{message}.*a red chair"):
        check_prompt(prompt)


def test_good_prompts_pass():
    assert check_prompt(" ein Stühlchen ") == "ein Stühlchen"


def test_the_warning_says_what_is_unknown_what_is_known_and_what_to_do():
    text = unknown_words_warning(["zebra"], ["chair", "ball"], ["red"])
    assert all(part in text for part in ("'zebra'", "chair, ball", "red", "--model.prior.model DeepFloyd"))
