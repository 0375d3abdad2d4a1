"""Pictures of surfaces that are known, and of a baked field beside the renderer's."""

import pytest
import torch
from torch import Tensor

from dreamfusion_pl.data.orbit import orbit
from dreamfusion_pl.export.texture.atlas import Charts
from dreamfusion_pl.export.texture.pixels import covered_pixels
from dreamfusion_pl.export.texture.raster import render_surface

GRAY = (0.5, 0.5, 0.5)


def panel(x: float, half: float) -> Charts:
    """A square that faces the front (+x), its texture's left at the viewer's left."""
    corner = torch.tensor([[-half, -half], [half, -half], [half, half], [-half, half]])
    vertices = torch.cat([torch.full((4, 1), x), corner], dim=-1)
    normals = torch.tensor([[1.0, 0.0, 0.0]]).expand(4, 3)
    return Charts(vertices, normals, torch.tensor([[0, 1, 2], [0, 2, 3]]), 0.5 + corner / (2 * half))


def both(first: Charts, second: Charts) -> Charts:
    faces = torch.cat([first.faces, second.faces + len(first.vertices)])
    return Charts(*(torch.cat(parts) for parts in zip(first, second, strict=True)))._replace(faces=faces)


def test_every_pixel_of_a_split_square_is_found_with_its_place():
    triangles = torch.tensor([[[1.0, 1.0], [5.0, 1.0], [5.0, 4.0]], [[1.0, 1.0], [5.0, 4.0], [1.0, 4.0]]])
    found = torch.zeros(6, 8, 2)
    for face, pixel, weights in covered_pixels(triangles, 6, 8):
        found.view(-1, 2)[pixel] = (weights[:, :, None] * triangles[face]).sum(1)
    for row in range(6):
        for column in range(8):
            inside = 1 <= row < 4 and 1 <= column < 5
            expected = [column + 0.5, row + 0.5] if inside else [0.0, 0.0]
            assert found[row, column].tolist() == pytest.approx(expected, abs=1e-5)


def test_triangles_outside_of_the_picture_are_left_out():
    triangles = torch.tensor(
        [[[-9.0, -9.0], [-2.0, -9.0], [-9.0, -2.0]], [[20.0, 3.0], [30.0, 3.0], [20.0, 9.0]]]
    )
    assert sum(len(face) for face, _, _ in covered_pixels(triangles, 6, 8)) == 0


def colors_of(size: int = 64) -> Tensor:
    """Red grows to the right, green upwards."""
    ramp = (torch.arange(size) + 0.5) / size
    return torch.stack(
        [ramp.expand(size, size), ramp.flip(0)[:, None].expand(size, size), torch.zeros(size, size)], -1
    )


def test_a_panel_has_its_size_its_place_and_its_texture_the_right_way_round():
    views = orbit([0.0], 0.0, 2.0, 1.0, 64, 64, GRAY)
    pictures, seen = render_surface(panel(0.0, 0.5), colors_of(), views)
    rows, columns = seen[0].nonzero().unbind(1)  # 1 wide at distance 2: half of the picture
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 47, 16, 47)
    assert int(seen.sum()) == 32 * 32
    ramp = (torch.arange(32) + 0.5) / 32
    torch.testing.assert_close(pictures[0, 16:48, 16:48, 0], ramp.expand(32, 32), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(
        pictures[0, 16:48, 16:48, 1], ramp.flip(0)[:, None].expand(32, 32), atol=1e-4, rtol=0.0
    )
    assert torch.equal(pictures[0][~seen[0]].unique(), torch.tensor([0.5]))


def test_perspective_is_right_inside_of_a_triangle():
    views = orbit([60.0], 0.0, 2.0, 1.0, 65, 65, GRAY)  # the middle pixel looks at the origin
    pictures, _ = render_surface(panel(0.0, 0.5), colors_of(), views)
    assert pictures[0, 32, 32, :2].tolist() == pytest.approx([0.5, 0.5], abs=0.01)


def test_what_is_in_front_is_seen_whatever_its_order():
    views = orbit([0.0], 0.0, 2.0, 1.0, 32, 32, GRAY)
    texture = torch.zeros(2, 2, 3)
    texture[:, 0], texture[:, 1] = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    near, far = panel(0.3, 0.2), panel(-0.3, 0.6)
    red, blue = torch.tensor([0.1, 0.5]).expand(4, 2), torch.tensor([0.9, 0.5]).expand(4, 2)
    for charts in (
        both(near._replace(uv=red), far._replace(uv=blue)),
        both(far._replace(uv=blue), near._replace(uv=red)),
    ):
        pictures, _ = render_surface(charts, texture, views)
        assert pictures[0, 16, 16].tolist() == [1.0, 0.0, 0.0]
        assert pictures[0, 16, 9].tolist() == [0.0, 0.0, 1.0]


def test_a_camera_inside_is_refused():
    with pytest.raises(ValueError, match="behind the camera"):
        render_surface(panel(3.0, 0.5), colors_of(), orbit([0.0], 0.0, 2.0, 1.0, 8, 8))
