"""Every shipped configuration starts with an object that can become one, and every loss has an effect."""

from __future__ import annotations

import functools

import pytest
import torch
from benchmarks.stand_in import REGIMES, build
from torch import Tensor

from dreamfusion_pl import rng
from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.types import Views

NUM_VIEWS, SIZE = 24, 16


@functools.cache
def started(regime: str) -> tuple[DreamFusion, RandomViews]:
    """Model and data of a regime, with the occupancy grid of the first step."""
    model, data = build(regime)
    model.renderer.update_occupancy(model.scene, 0.0, rng.generator(0, "occupancy"))
    return model, data


@torch.no_grad()
def opacities(model: DreamFusion, views: Views) -> Tensor:
    """Opacity of the initial object, [B, H, W]."""
    return torch.cat(
        [
            model(Views(*(field[i : i + 1] for field in views)), False).opacity
            for i in range(len(views.origin))
        ]
    )


def border(opacity: Tensor) -> Tensor:
    """Opacities of the border's pixels, [B, 4 S]."""
    return torch.cat([opacity[:, 0], opacity[:, -1], opacity[:, :, 0], opacity[:, :, -1]], dim=1)


@pytest.mark.parametrize("regime", REGIMES)
def test_the_first_pictures_show_an_object_with_space_around_it(regime):
    model, data = started(regime)
    steps = range(-(-NUM_VIEWS // data.views_per_step))
    opacity = torch.cat([opacities(model, data.draw(step, 0.0, SIZE)) for step in steps])
    assert 0.1 <= opacity.mean() <= 0.45
    assert (border(opacity) > 0.5).float().mean() < 0.1


@pytest.mark.parametrize("regime", REGIMES)
def test_the_whole_initial_object_is_in_every_preview_and_turntable(regime):
    model, data = started(regime)
    data.look_resolution, data.turntable_resolution, data.num_test_views = 24, 24, 4
    for views in (*data.val_dataloader(), *data.test_dataloader()):
        opacity = opacities(model, views)
        assert opacity.amax() > 0.8
        assert border(opacity).amax() < 0.5


@pytest.mark.parametrize("regime", REGIMES)
def test_a_regularizer_is_weaker_than_the_distillation_and_not_without_effect(regime):
    """Norms of the gradients with respect to the scene, in the middle of training."""
    model, data = started(regime)
    model.progress, sums = 0.5, {}
    for step in range(3):
        views = data.draw(step, 0.5, SIZE)
        rendering = model(views)
        generator = rng.generator(0, "distillation", 0, step)
        z = model.prior.encode(rendering.rgb, 0.5)
        losses = model.distillation(z, model.prompts(views), model.prior, 0.5, generator)
        terms = {"distillation": losses.surrogate}
        for name, (weight, loss) in model.regularizers.terms.items():
            terms[name] = losses.unit * weight(0.5) * loss(rendering)
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + gradient_norm(term, model)
    assert set(sums) > {"distillation"}
    for name, value in sums.items():
        if name != "distillation":
            assert 1e-4 < value / sums["distillation"] < 0.5, name


def gradient_norm(loss: Tensor, model: DreamFusion) -> float:
    """Norm of the gradient with respect to the scene."""
    gradients = torch.autograd.grad(
        loss, list(model.scene.parameters()), retain_graph=True, allow_unused=True
    )
    return float(torch.nn.utils.get_total_norm([one for one in gradients if one is not None]))
