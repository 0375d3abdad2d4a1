import pytest
import torch
from scenes import frequency_scene, plane_scene

from dreamfusion_pl.scene.density import truncated_exp
from dreamfusion_pl.scene.planes import PlaneFeatures
from dreamfusion_pl.schedule import Constant

SCENES = (frequency_scene, plane_scene)


def points_in(scene, count=200):
    directions = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    lengths = torch.rand(count, 1, generator=torch.Generator().manual_seed(1)) * scene.radius
    return torch.nn.functional.normalize(directions, dim=-1) * lengths


@pytest.mark.parametrize("scene_class", SCENES)
def test_density_and_albedo_are_in_range_and_agree(scene_class):
    scene = scene_class()
    points = points_in(scene)
    density, albedo, level = scene(points, 0.3)
    assert density.shape == (200,) and albedo.shape == (200, 3)
    assert (density >= 0).all() and (albedo >= 0).all() and (albedo <= 1).all()
    torch.testing.assert_close(scene.density(points, 0.3), density)
    torch.testing.assert_close(scene.level(points, 0.3), level)
    assert scene.surface is None and torch.equal(level, density)


@pytest.mark.parametrize("scene_class", SCENES)
def test_there_is_a_blob_in_the_middle(scene_class):
    scene = scene_class()
    middle, edge = scene.density(torch.tensor([[0.0, 0.0, 0.0], [scene.radius, 0.0, 0.0]]), 0.0)
    assert middle > 5.0 * edge


@pytest.mark.parametrize("scene_class", SCENES)
def test_parameter_groups_cover_every_parameter_once(scene_class):
    scene = scene_class()
    groups = scene.param_groups(0.02)
    listed = [parameter for group in groups for parameter in group["params"]]
    assert {id(p) for p in listed} == {id(p) for p in scene.parameters()} and len(listed) == len(set(listed))
    assert groups[0]["lr"] == 0.02 and all(group["lr"] > 0 for group in groups)


@pytest.mark.parametrize(
    "scene",
    [
        frequency_scene(width=8, num_blocks=1, num_frequencies=3),
        plane_scene(resolution=4, channels=2, width=4),
    ],
)
def test_first_and_second_derivatives(scene):
    scene = scene.double()
    points = (0.5 * points_in(scene, 6).double()).requires_grad_()

    def density(p):
        return scene.density(p, 0.5)

    assert torch.autograd.gradcheck(density, points)
    assert torch.autograd.gradgradcheck(density, points)


@pytest.mark.parametrize(
    "scene",
    [
        frequency_scene(width=8, num_blocks=1, num_frequencies=3),
        plane_scene(resolution=4, channels=2, width=4),
    ],
)
def test_the_gradient_of_a_normal_reaches_the_parameters(scene):
    scene = scene.double()
    name, parameter = next(iter(scene.named_parameters()))
    points = 0.5 * points_in(scene, 5).double()

    def slope(value):
        moved = points.clone().requires_grad_()
        density = torch.func.functional_call(scene, {name: value}, (moved, 0.5))[0]
        return torch.autograd.grad(density.sum(), moved, create_graph=True)[0]

    assert torch.autograd.gradcheck(slope, parameter.detach().clone().requires_grad_())


def test_the_triplane_interpolates_between_its_features_linearly():
    scene = PlaneFeatures(resolution=5)
    line = torch.tensor([[x, 0.2, -0.1] for x in (0.01, 0.05, 0.09)])
    features = scene.sample(line)
    torch.testing.assert_close(features[:, 1], features[:, [0, 2]].mean(1))


def test_the_mlp_sees_less_detail_early():
    points = torch.tensor([[0.1, 0.0, 0.0], [0.1 + 3.14159 / 128, 0.0, 0.0]])
    scene = frequency_scene(covariance=Constant(1.0))
    blurred = (scene(points, 0.0)[1][0] - scene(points, 0.0)[1][1]).abs().max()
    scene.features.covariance = Constant(0.0)
    sharp = (scene(points, 0.0)[1][0] - scene(points, 0.0)[1][1]).abs().max()
    assert blurred < 0.2 * sharp


def test_truncated_exp_is_exp_below_its_limit_and_never_loses_its_gradient():
    x = torch.tensor([-3.0, 2.0, 40.0], requires_grad=True)
    y = truncated_exp(x)
    torch.testing.assert_close(y[:2], x.detach()[:2].exp())
    y.sum().backward()
    assert y.isfinite().all() and torch.equal(x.grad, y.detach()) and x.grad[2] > 1e6


@pytest.mark.parametrize("scene_class", SCENES)
def test_an_impossible_radius_is_refused(scene_class):
    with pytest.raises(ValueError, match="radius"):
        scene_class(radius=0.0)


@pytest.mark.parametrize(("strength", "seen"), [(3.0, 0.121), (10.0, 0.00225)])
def test_how_much_of_the_background_a_ray_through_the_blob_sees(strength, seen):
    scene = plane_scene(radius=0.6, resolution=4, channels=2, width=4, strength=strength)
    for parameter in scene.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.linspace(-0.6, 0.6, 2001)
    density = scene.density(torch.stack([x, 0.0 * x, 0.0 * x], dim=-1), 0.0)
    assert torch.exp(-torch.trapezoid(density, x)).item() == pytest.approx(seen, rel=0.01)
