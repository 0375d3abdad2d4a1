import torch
from scenes import plane_scene

from dreamfusion_pl.rendering import ray_batch as ray_batches
from dreamfusion_pl.rendering.ray_batch import (
    RayBatch,
    Traced,
    filled_up,
    ray_batch,
    trace_where_occupied,
)
from dreamfusion_pl.rendering.rays import pixel_rays
from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.scene.background import SolidBackground
from dreamfusion_pl.types import Rays


def test_only_rays_that_meet_something_are_traced_and_the_picture_is_the_same(make_views):
    torch.manual_seed(0)
    scene, views = plane_scene(radius=1.0, resolution=8, channels=4, width=8), make_views(2, 16)
    renderer = Renderer(num_samples=16, normals="exact", occupancy_resolution=16, skip_empty_rays=True)
    torch.nn.init.normal_(scene.features.planes)
    renderer.update_occupancy(scene, 0.0, torch.Generator().manual_seed(0))
    renderer.occupancy.occupied[:] = False
    renderer.occupancy.occupied[6:10, 5:8, 4:9] = True
    pictures = [renderer(scene, SolidBackground(), views, 0.0)]
    renderer.skip_empty_rays = False
    pictures.append(renderer(scene, SolidBackground(), views, 0.0))
    rays = pixel_rays(views.origin, views.rotation, views.focal, 16, 16)
    met = pictures[0].weights.sum(-1) > 0
    assert 0.2 < met.float().mean() < 0.8 and bool((pictures[1].weights.sum(-1) > 0)[~met].any())
    for name in ("rgb", "albedo", "opacity", "normal", "facing"):
        one, other = (getattr(picture, name)[met] for picture in pictures)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    behind = SolidBackground()(rays.directions, views)
    assert torch.equal(pictures[0].rgb[~met], behind[~met])
    pictures[0].rgb.sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in scene.parameters())


def test_a_large_picture_without_gradients_is_traced_in_parts_and_the_same(make_views, monkeypatch):
    monkeypatch.setattr(ray_batches, "RAYS_AT_ONCE", 100)
    scene, views = plane_scene(radius=1.0, resolution=8, channels=4, width=8), make_views(2, 16)
    renderer = Renderer(num_samples=8, normals="surface", occupancy_resolution=16, skip_empty_rays=True)
    renderer.occupancy.occupied[:] = False
    renderer.occupancy.occupied[6:10, 5:8, 4:9] = True
    trained, sizes = renderer(scene, SolidBackground(), views, 0.0), []
    trace = Renderer._trace
    monkeypatch.setattr(
        Renderer,
        "_trace",
        lambda self, scene, rays, **more: sizes.append(len(rays.near)) or trace(self, scene, rays, **more),
    )
    renderer.skip_empty_rays = False
    with torch.no_grad():
        looked = renderer(scene, SolidBackground(), views, 0.0, skip_empty_rays=True)
    assert sum(sizes) < 400 and len(sizes) > 1 and max(sizes) <= 100
    for name, expected in trained._asdict().items():
        torch.testing.assert_close(getattr(looked, name), expected.detach(), rtol=1e-5, atol=1e-6)


def test_auto_leaves_rays_out_on_a_cpu_unless_the_renderer_is_compiled():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    renderer = Renderer(skip_empty_rays="auto")
    assert renderer._skips(cpu) and not renderer._skips(gpu)
    assert not Renderer(skip_empty_rays="auto", compile=True)._skips(cpu)
    for fixed in (True, False):
        renderer = Renderer(skip_empty_rays=fixed)
        assert renderer._skips(cpu) is fixed and renderer._skips(gpu) is fixed


def test_all_are_traced_where_nothing_is_occupied(make_views):
    views = make_views(1, 4)
    rays = Rays(torch.zeros(16, 3), torch.ones(16, 3))
    seen = []

    def trace(batch: RayBatch) -> Traced:
        seen.append(len(batch.near))
        return Traced(*(batch.near for _ in Traced._fields))

    near = torch.zeros(16)
    nothing = torch.zeros(16, 5, dtype=torch.bool)
    for occupied, count in ((None, 16), (nothing, 16), (~nothing, 16)):
        trace_where_occupied(ray_batch(rays, near, near + 1.0, occupied, views), trace)
        assert seen[-1] == count
    nothing[3, 2] = True
    result = trace_where_occupied(ray_batch(rays, near + 2.0, near + 3.0, nothing, views), trace)
    assert seen[-1] == 64 and result.depth.tolist() == [0.0] * 3 + [2.0] + [0.0] * 12


def test_sizes_are_filled_up():
    assert filled_up(torch.tensor([4, 7, 9]), 8).tolist() == [4, 7, 9, 4, 7, 9, 4, 7]
    assert filled_up(torch.tensor([4, 7]), 2).tolist() == [4, 7]
