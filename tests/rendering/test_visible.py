"""Samples that are not visible are left out."""

import pytest
import torch
from scenes import plane_scene

from dreamfusion_pl.rendering.regularizers import orientation_loss
from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.rendering.visible import VISIBLE, Evaluated, evaluate_visible
from dreamfusion_pl.scene.background import SolidBackground


@pytest.mark.parametrize("normals", ["exact", "finite_difference", "surface"])
def test_picture_and_gradient_hardly_change_and_few_samples_are_evaluated(make_views, monkeypatch, normals):
    torch.manual_seed(0)
    scene, views = plane_scene(radius=1.0, resolution=8, channels=4, width=8), make_views(2, 32)
    renderer = Renderer(num_samples=16, normals=normals, occupancy_resolution=16)
    torch.nn.init.normal_(scene.features.planes)
    scene.head.weight.data[0] *= 30.0  # a surface, behind which nothing is seen
    renderer.update_occupancy(scene, 0.0, torch.Generator().manual_seed(0))
    sizes, forward = [], type(scene).forward

    def counted(scene, points, progress):
        sizes[-1] += len(points)
        return forward(scene, points, progress)

    monkeypatch.setattr(type(scene), "forward", counted)
    pictures, gradients = [], []
    for renderer.skip_empty_rays in (False, True):
        sizes.append(0)
        pictures.append(renderer(scene, SolidBackground(), views, 0.0))
        loss = pictures[-1].rgb.square().sum() + orientation_loss(pictures[-1])
        parts = torch.autograd.grad(loss, list(scene.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]))
    assert 0 < sizes[1] < 0.75 * sizes[0]
    assert (pictures[0].rgb - pictures[1].rgb).abs().max() < 16 * VISIBLE
    torch.testing.assert_close(pictures[0].opacity, pictures[1].opacity, rtol=0, atol=1e-5)
    assert (gradients[0] - gradients[1]).norm() < 0.01 * gradients[0].norm()


def test_density_stays_where_nothing_is_visible_and_all_is_evaluated_if_nothing_is():
    scene = plane_scene(radius=1.0, resolution=4, channels=2, width=4)
    points = torch.linspace(-0.3, 0.3, 24).reshape(2, 4, 3)
    calls = []

    def evaluate(points):
        calls.append(len(points))
        sample = scene(points, 0.0)
        return Evaluated(sample.density, sample.appearance, points)

    density = scene.density(points.reshape(-1, 3), 0.0)
    thin = evaluate_visible(scene, points, torch.full((2, 1), 1e-9), 0.0, evaluate)
    assert calls == [8] and thin.density.requires_grad
    thick = evaluate_visible(scene, points, torch.full((2, 1), 1e3), 0.0, evaluate)
    torch.testing.assert_close(thick.density, density)
    hidden = thick.appearance.sum(-1) == 0
    assert hidden.sum() == 6 and (~hidden[::4]).all()  # the first sample of each ray hides the others
    assert torch.equal(thick.normal[~hidden], points.reshape(-1, 3)[~hidden])
    (gradient,) = torch.autograd.grad(thick.density.sum(), scene.head.bias)
    (all_of_it,) = torch.autograd.grad(scene.density(points.reshape(-1, 3), 0.0).sum(), scene.head.bias)
    assert 0.0 < gradient[0] < all_of_it[0]
