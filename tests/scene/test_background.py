import pytest
import torch

from dreamfusion_pl.scene.background import DirectionBackground, SolidBackground
from dreamfusion_pl.types import Views

DIRECTIONS = torch.nn.functional.normalize(
    torch.randn(2, 3, 4, 3, generator=torch.Generator().manual_seed(0)), dim=-1
)


def views_with(background, solid=(False, False)):
    fields = {name: torch.zeros(2) for name in Views._fields}
    return Views(**{**fields, "background": background, "solid": torch.tensor(solid)})


def test_a_solid_background_is_the_colour_of_its_view():
    colors = torch.tensor([[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]])
    picture = SolidBackground()(DIRECTIONS, views_with(colors))
    assert picture.shape == (2, 3, 4, 3)
    assert torch.equal(picture[0, 2, 3], colors[0]) and torch.equal(picture[1, 0, 0], colors[1])


def test_a_direction_background_depends_on_the_direction_only_and_learns():
    background = DirectionBackground()
    white, black = (background(DIRECTIONS, views_with(torch.full((2, 3), v))) for v in (1.0, 0.0))
    assert torch.equal(white, black) and white.shape == (2, 3, 4, 3)
    assert white.min() > 0.0 and white.max() < 1.0 and white.std() > 0.0
    white.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in background.parameters())


def test_solid_views_replace_a_learned_background():
    colors, background = torch.rand(2, 3, generator=torch.Generator().manual_seed(1)), DirectionBackground()
    mixed = background(DIRECTIONS, views_with(colors, solid=(False, True)))
    assert torch.equal(mixed[0], background(DIRECTIONS, views_with(colors))[0])
    assert torch.equal(mixed[1], SolidBackground()(DIRECTIONS, views_with(colors))[1])


def test_a_background_learns_at_a_tenth_of_the_learning_rate():
    (group,) = DirectionBackground().param_groups(0.02)
    assert group["lr"] == pytest.approx(0.002) and len(group["params"]) == 4
    assert not SolidBackground().param_groups(0.02)


@pytest.mark.parametrize(
    "wrong", [{"num_frequencies": 0}, {"width": 0}, {"rate": 0.0}, {"rate": float("nan")}]
)
def test_bad_sizes_and_rates_are_refused(wrong):
    with pytest.raises(ValueError, match="rate above 0"):
        DirectionBackground(**wrong)
