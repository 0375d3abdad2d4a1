import pytest
import torch
from scenes import frequency_scene, plane_scene

from dreamfusion_pl.rendering.rays import pixel_rays
from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.rendering.shading import lambert
from dreamfusion_pl.scene.background import DirectionBackground, SolidBackground
from dreamfusion_pl.schedule import Steps

MODES = ("exact", "finite_difference", "surface")


def rays_of(views):
    return pixel_rays(views.origin, views.rotation, views.focal, *views.jitter.shape[1:])


@pytest.mark.parametrize("mode", MODES)
def test_depth_normal_and_shading_of_a_sphere(sphere, make_views, mode):
    views = make_views(size=16)
    renderer = Renderer(num_samples=400, normals=mode, occupancy_resolution=0, normal_step=0.004)
    rendering = renderer(sphere, SolidBackground(), views, 0.0)
    rays = rays_of(views)
    distance, inside = sphere.hit(rays)
    points = rays.origins + distance[..., None] * rays.directions
    normal = points / sphere.ball
    irradiance = lambert(
        normal,
        points,
        views.light[:, None, None],
        views.ambient[:, None, None],
        views.diffuse[:, None, None],
    )
    surface = torch.where(views.textureless[:, None, None, None], 1.0, sphere.albedo(points))
    assert inside.sum() > 100
    assert (rendering.opacity[inside] > 0.999).all()
    assert (rendering.depth - distance)[inside].abs().max() < 0.01
    assert (rendering.normal * normal).sum(-1)[inside].min() > 0.97
    assert (rendering.rgb - surface * irradiance[..., None])[inside].abs().max() < 0.05
    torch.testing.assert_close(rendering.albedo[inside], sphere.albedo(points)[inside], atol=0.01, rtol=0.0)
    outside = rendering.opacity < 1e-3
    assert outside.any()
    expected = views.background[:, None, None].expand_as(rendering.rgb)
    torch.testing.assert_close(rendering.rgb[outside], expected[outside], atol=2e-3, rtol=0.0)
    assert (rendering.facing >= 0).all() and rendering.facing[inside].mean() < 0.05


def test_the_occupancy_grid_gives_the_same_picture_with_fewer_samples(sphere, make_views):
    views = make_views(size=24)
    reference = Renderer(800, "surface", 0)(sphere, SolidBackground(), views, 0.0)
    guided = Renderer(48, "surface", 32)
    for step in range(3):
        guided.update_occupancy(sphere, 0.0, torch.Generator().manual_seed(step))
    with_grid = guided(sphere, SolidBackground(), views, 0.0)
    without = Renderer(48, "surface", 0)(sphere, SolidBackground(), views, 0.0)
    error, error_without = ((r.depth - reference.depth).abs().mean() for r in (with_grid, without))
    assert (with_grid.opacity - reference.opacity).abs().mean() < 0.01
    assert error < 0.75 * error_without


@pytest.mark.parametrize("mode", MODES)
def test_shapes_ranges_and_gradients(make_views, mode):
    views = make_views(size=6)
    scene, background = plane_scene(), DirectionBackground()
    rendering = Renderer(8, mode, 8)(scene, background, views, 0.0)
    assert rendering.rgb.shape == rendering.albedo.shape == rendering.normal.shape == (2, 6, 6, 3)
    assert rendering.opacity.shape == rendering.depth.shape == (2, 6, 6)
    assert rendering.weights.shape == (2, 6, 6, 8)
    assert rendering.facing.shape == ((2, 6, 6, 1) if mode == "surface" else (2, 6, 6, 8))
    assert rendering.rgb.min() >= 0.0 and rendering.rgb.max() <= 1.0 + 1e-5
    (rendering.rgb.square().sum() + rendering.facing.sum()).backward()
    for parameter in [*scene.parameters(), *background.parameters()]:
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()


@pytest.mark.parametrize("mode", MODES)
def test_without_normals_the_picture_is_lit_by_ambient_light(make_views, mode):
    views = make_views(diffuse=0.0)
    renderer, scene = Renderer(8, mode, 0), plane_scene()
    full = renderer(scene, SolidBackground(), views, 0.0)
    short = renderer(scene, SolidBackground(), views, 0.0, needs_normals=False)
    torch.testing.assert_close(full.rgb, short.rgb)
    assert not short.normal.any() and not short.facing.any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scene_class", [frequency_scene, plane_scene])
def test_a_picture_without_gradients_is_the_same(make_views, mode, scene_class):
    views, scene, renderer = make_views(size=4), scene_class(), Renderer(8, mode, 0)
    trained = renderer(scene, SolidBackground(), views, 0.5)
    with torch.no_grad():
        validated = renderer(scene, SolidBackground(), views, 0.5)
    assert not any(field.requires_grad for field in validated)
    for field, other in zip(trained, validated, strict=True):
        torch.testing.assert_close(field.detach(), other)


def test_shading_gradients_reach_the_geometry_through_exact_normals(make_views):
    views = make_views(size=4)
    scene = plane_scene()
    rendering = Renderer(8, "exact", 0)(scene, SolidBackground(), views, 0.0)
    (through_normals,) = torch.autograd.grad(rendering.facing.sum(), scene.features.planes)
    assert through_normals.isfinite().all() and through_normals.any()


@pytest.mark.parametrize("mode", MODES)
def test_a_few_views_at_once_give_the_same_pictures_and_gradients(make_views, mode):
    views, scene = make_views(size=4), plane_scene()
    views = type(views)(*(torch.cat([field, field[:1]]) for field in views))  # three: an odd one at the end
    gradients = []
    for views_at_once in (0, 1, 2):
        renderer = Renderer(8, mode, 0, views_at_once=views_at_once)
        rendering = renderer(scene, SolidBackground(), views, 0.5)
        loss = rendering.rgb.square().sum() + rendering.facing.sum()
        gradients.append((rendering.rgb.detach(), *torch.autograd.grad(loss, list(scene.parameters()))))
    for other in gradients[1:]:
        for value, expected in zip(other, gradients[0], strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_a_few_views_at_once_keep_less(make_views):
    def kept(views_at_once: int) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            Renderer(8, "surface", 0, views_at_once=views_at_once)(
                plane_scene(), SolidBackground(), make_views(size=8), 0.0
            )
        return sum(sizes)

    assert kept(1) < 0.3 * kept(0)


def test_the_number_of_samples_follows_its_schedule(make_views):
    scene, views = plane_scene(), make_views(1, 4)
    changing = Renderer(num_samples=Steps({0: 8, 0.4: 6}))
    for progress, count in ((0.0, 8), (0.39, 8), (0.4, 6), (1.0, 6)):
        rendering = changing(scene, SolidBackground(), views, progress)
        assert rendering.weights.shape[-1] == count
        fixed = Renderer(num_samples=count)(scene, SolidBackground(), views, progress)
        torch.testing.assert_close(rendering.rgb, fixed.rgb)
    with pytest.raises(ValueError, match="num_samples"):
        Renderer(num_samples=Steps({0: 8, 0.4: 0.2}))


def test_the_state_is_the_occupancy_grid_only():
    assert set(Renderer(8, "surface", 4).state_dict()) == {"occupancy.density", "occupancy.occupied"}
    assert not Renderer(8, "surface", 0).state_dict()
    assert not list(Renderer(8, "surface", 4).parameters())
