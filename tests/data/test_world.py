"""The procedural world against its own definitions, closed forms and pictures."""

from __future__ import annotations

import random

import pytest
import torch

from dreamfusion_pl.data.labels import LINE
from dreamfusion_pl.data.orbit import GRAY, orbit
from dreamfusion_pl.data.world import captions, colors, sheet
from dreamfusion_pl.data.world.colors import COLORS, PATTERNS, ROLES, contrast
from dreamfusion_pl.data.world.layers import Layers, sample_views, trace_chunk, trace_world
from dreamfusion_pl.data.world.objects import primitives
from dreamfusion_pl.data.world.objects.catalog import OBJECT_NAMES, OBJECTS, distance, distances, frame
from dreamfusion_pl.data.world.pictures import WorldPictures, scene_of
from dreamfusion_pl.data.world.scenes import Item, Layout, WorldScene, placements
from dreamfusion_pl.data.world.tracer import compose, draw_layers, normals, render_world, trace
from dreamfusion_pl.rng import generator


def test_colours_are_display_values_and_are_called_so() -> None:
    views = orbit([0.0], 0.0, 1.5, 1.2, 9, 9, (0.0, 0.0, 0.0))
    unlit = render_world(WorldScene((Item("cube", "brown"),)), views).rgb[0, 4, 4]
    assert torch.allclose(unlit, torch.tensor(COLORS["brown"]), atol=1e-6)  # as a pixel and a texture hold it
    assert "display values (sRGB)" in str(colors.__doc__) and "Linear RGB" not in str(colors.__doc__)


def test_the_world_is_as_large_as_promised() -> None:
    families = [item.family for item in OBJECTS.values()]
    assert len(OBJECTS) >= 40 and len(set(families)) == 6 and len(COLORS) >= 12 and len(PATTERNS) >= 4
    assert min(families.count(family) for family in set(families)) >= 7


@pytest.mark.parametrize("name", OBJECT_NAMES)
def test_every_object_fills_the_ball_and_its_distance_never_jumps(name: str) -> None:
    rng = generator(0, name)
    points = 1.2 * torch.rand(4000, 3, generator=rng) - 0.6
    nudged = points + 1e-3 * torch.randn(points.shape, generator=rng)
    before, after = distance(name, points), distance(name, nudged)
    slope = (after - before).abs() / (nudged - points).norm(dim=-1)
    assert (
        slope[before.abs() < 0.05].quantile(0.99) < 1.35
    )  # a distance near the surface, a rough bound elsewhere
    assert slope.max() < 12.0
    inside = points[before < 0]
    assert len(inside) > 10 and inside.norm(dim=-1).max() < 0.56
    low, high = frame(name).low, frame(name).high
    assert (inside >= low - 0.03).all() and (inside <= high + 0.03).all()


def test_exact_primitives_agree_with_brute_force() -> None:
    rng = generator(1, "primitives")
    points = 3.0 * torch.rand(64, 3, generator=rng) - 1.5
    shapes = {
        "box": lambda p: primitives.box(p, (0.1, 0, 0), (0.5, 0.3, 0.4)),
        "cylinder": lambda p: primitives.cylinder(p, (0, 0.1, 0), 0.4, 0.5),
        "cone": lambda p: primitives.cone(p, (0, 0, 0.1), 0.6, 0.2, 0.5),
        "torus": lambda p: primitives.torus(p, (0, 0, 0), 0.6, 0.2),
        "capsule": lambda p: primitives.capsule(p, (0, 0, -0.4), (0.3, 0, 0.4), 0.2),
    }
    ticks = torch.linspace(-1.1, 1.1, 90)
    grid = torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"), dim=-1).reshape(-1, 3)
    for name, shape in shapes.items():
        value = shape(grid)
        inside, outside = grid[value < 0], grid[value >= 0]
        d_in, d_out = torch.cdist(points, inside).amin(-1), torch.cdist(points, outside).amin(-1)
        brute = torch.where(shape(points) < 0, -d_out, d_in)
        assert (shape(points) - brute).abs().max() < 0.045, name  # the grid's diagonal


def test_traced_ball_has_the_analytic_silhouette_depth_and_normals() -> None:
    views = orbit([30.0], 20.0, 1.5, 1.2, 64, 64)
    from dreamfusion_pl.data.cameras import pixel_rays

    rays = pixel_rays(views.origin, views.rotation, views.focal, 64, 64)
    origins, directions = rays.origins.reshape(-1, 3), rays.directions.reshape(-1, 3)
    hits = trace(Layout(("ball",)), origins, directions)
    radius = 0.5 * 0.8 / frame("ball").radius
    along = -(origins * directions).sum(-1)
    miss = (origins + along[:, None] * directions).norm(dim=-1)
    clear = (miss - radius).abs() > 5e-3  # grazing rays may go either way
    assert (hits.mask == (miss < radius))[clear].all() and clear.float().mean() > 0.95
    assert (hits.points.norm(dim=-1) - radius).abs().max() < 5e-3
    outward = torch.nn.functional.normalize(hits.points, dim=-1)
    assert (normals(Layout(("ball",)), hits.points) - outward).norm(dim=-1).max() < 2e-2


def test_pictures_show_the_solid_that_the_distance_describes() -> None:
    scene = WorldScene((Item("mug", "green"),))
    views = orbit([0.0, 90.0], 10.0, 1.5, 1.2, 48, 48)
    alpha = render_world(scene, views).alpha
    points = 0.55 * (2 * torch.rand(60_000, 3, generator=generator(0, "mug")) - 1)
    inside = points[scene.distance(points) < 0]
    for view in range(2):
        camera = (inside - views.origin[view]) @ views.rotation[view]
        plane = camera[:, :2] / -camera[:, 2:] * views.focal[view]
        column = ((plane[:, 0] + 0.5) * 48).long().clamp(0, 47)
        row = ((0.5 - plane[:, 1]) * 48).long().clamp(0, 47)
        assert (alpha[view, row, column] > 0).float().mean() > 0.99  # every point of the solid is covered
        covered = torch.zeros(48, 48, dtype=torch.bool)
        covered[row, column] = True
        assert (covered & (alpha[view] > 0.99)).sum() > 0.9 * (
            alpha[view] > 0.99
        ).sum()  # and nothing else is


def test_albedo_follows_the_named_colour_and_the_parts() -> None:
    scene = WorldScene((Item("snowman", "red"),))
    points = torch.tensor([[0.0, 0.0, -0.3], [0.0, 0.0, 0.43]])  # belly, hat
    albedo = scene.albedo(points)
    assert torch.allclose(albedo[0], torch.tensor(COLORS["red"]))
    assert albedo[1].max() < 0.2


def test_pictures_are_linear_in_colours() -> None:
    views = orbit([20.0, 200.0], 15.0, 1.5, 1.2, 32, 32)
    layers = draw_layers(Layout(("cube", "ball"), "on"), ("striped", "plain"), views)
    colors = torch.rand(2, 2, 3, generator=generator(3, "colors"))
    drawing = compose(layers, colors)
    for view in range(2):
        pairs = [colors[view, 0], contrast(colors[view, 0]), colors[view, 1], contrast(colors[view, 1])]
        slow = layers[view, ..., 4:7].clone()
        for k, color in enumerate(pairs):
            slow += layers[view, ..., k : k + 1] * color
        assert torch.allclose(drawing.rgb[view], slow.clamp(0, 1), atol=1e-6)
    assert drawing.alpha.max() <= 1.0


@pytest.mark.parametrize("relation", ["on", "next to"])
def test_related_objects_touch_or_stand_apart_and_stay_inside_the_ball(relation: str) -> None:
    for first, kind, second in captions.related_pairs():
        if kind != relation:
            continue
        (s1, o1), (s2, o2) = placements(Layout((first, second), relation))
        f1, f2 = frame(first), frame(second)
        if relation == "on":
            assert o1[2] + s1 * float(f1.low[2]) == pytest.approx(o2[2] + s2 * float(f2.high[2]), abs=1e-5)
        else:
            assert o1[1] + s1 * float(f1.high[1]) < o2[1] + s2 * float(f2.low[1])
        for s, o in ((s1, o1), (s2, o2)):
            assert torch.tensor(o).norm() + 0.5 * s < 0.9
    scene = WorldScene((Item("ball", "red"), Item("cube", "blue")), relation)
    points = 1.6 * torch.rand(20_000, 3, generator=generator(0, relation)) - 0.8
    assert points[scene.distance(points) < 0].norm(dim=-1).max() < 0.56


def test_captions_are_read_back_as_what_they_describe() -> None:
    rng = random.Random(0)
    for name in OBJECT_NAMES:
        scene = WorldScene((Item(name, rng.choice(tuple(COLORS)), rng.choice(PATTERNS)),))
        assert captions.parse(captions.describe(scene, rng, "side view")) == scene
        assert captions.parse(captions.plain_caption(scene)) == scene
    for first, relation, second in captions.related_pairs()[::17]:
        scene = WorldScene((Item(first, "red"), Item(second, "cyan", "spotted")), relation)
        assert captions.parse(captions.describe(scene, rng)) == scene
    assert captions.parse("a red dragon") is None and captions.parse("") is None
    assert captions.parse("a red ball on a blue cube in rain") is None


def test_the_vocabulary_covers_every_caption() -> None:
    data = WorldPictures(batch_size=64, size=8, count=64)
    data._layers = trace_of(64, 8)
    for step in range(4):
        for caption in data.batch(data._layers, step).captions:
            assert set(caption.replace(",", " , ").split()) <= set(captions.VOCABULARY), caption


def trace_of(count: int, size: int):  # noqa: ANN201
    return trace_world(count, size, 0, (-10.0, 80.0))


def alone(layers: Layers) -> tuple[str, ...]:
    """Names of the objects that some pictures show alone."""
    found = layers.layout[layers.layout[:, 2] < 0, 0].unique()
    return tuple(OBJECT_NAMES[index] for index in found.tolist())


def test_some_objects_are_shown_three_times_as_often() -> None:
    layers = trace_of(16 * len(OBJECT_NAMES), 8)
    names = alone(layers)[:2]
    data = WorldPictures(batch_size=4000, size=8, more_of=names)
    first = layers.layout[data._choose(layers, generator(0, "choice")), 0]
    shares = torch.bincount(first, minlength=len(OBJECT_NAMES)) / torch.bincount(
        layers.layout[:, 0], minlength=len(OBJECT_NAMES)
    )
    often = [OBJECT_NAMES.index(name) for name in names]
    others = [index for index in range(len(OBJECT_NAMES)) if index not in often]
    assert 2.6 < float(shares[often].mean() / shares[others].nanmean()) < 3.4
    data.more_of = names[:1] * 3
    first = layers.layout[data._choose(layers, generator(0, "choice")), 0]
    named, count = int((layers.layout[:, 0] == often[0]).sum()), len(layers.layout)
    share = 7.0 * named / (count + 6.0 * named)  # 1 + 2 * 3 times as often
    assert abs(float((first == often[0]).float().mean()) / share - 1.0) < 0.15
    with pytest.raises(ValueError, match="more_of does not know \\['sofas'\\]"):
        WorldPictures(more_of=("sofas",))
    with pytest.raises(ValueError, match="only does not know \\['striped'\\]"):
        WorldPictures(only=("striped",))


@pytest.mark.parametrize("name", ["striped", "on"])
def test_patterns_and_relations_are_shown_more_often_too(name: str) -> None:
    layers = trace_of(32 * len(OBJECT_NAMES), 8)
    shown = torch.tensor(
        [
            name == scene.relation or name in [item.pattern for item in scene.items]
            for scene in (scene_of(layers, index, ("red", "blue")) for index in range(len(layers.layout)))
        ]
    )
    data = WorldPictures(batch_size=4000, size=8, more_of=(name,))
    chosen = data._choose(layers, generator(0, "choice"))
    known = float(shown.float().mean())
    assert 0.0 < known < 0.5
    assert abs(float(shown[chosen].float().mean()) / (3.0 * known / (1.0 + 2.0 * known)) - 1.0) < 0.15


def test_a_curriculum_shows_some_objects_alone() -> None:
    layers = trace_of(16 * len(OBJECT_NAMES), 8)
    names = alone(layers)[:2]
    data = WorldPictures(batch_size=500, size=8, only=names)
    shown = layers.layout[data._choose(layers, generator(0, "choice"))]
    assert {OBJECT_NAMES[index] for index in shown[:, 0].tolist()} == {*names}
    assert (shown[:, 2] < 0).all()
    few = type(layers)(*(field[:16] for field in layers))  # of one layout
    data.only = tuple(name for name in OBJECT_NAMES if OBJECT_NAMES.index(name) != int(few.layout[0, 0]))
    with pytest.raises(ValueError, match="none of the 16 pictures.*data.count"):
        data._choose(few, generator(0, "choice"))
    with pytest.raises(ValueError, match="only does not know \\['sofas'\\]"):
        WorldPictures(only=("sofas",))


def test_held_out_pairs_never_reach_training_but_do_reach_judges() -> None:
    layers = trace_of(16 * 20, 8)
    seen = {True: False, False: False}
    for judge in (False, True):
        data = WorldPictures(batch_size=64, size=8, count=320, held_out=judge)
        for step in range(12):
            for caption in data.batch(layers, step).captions:
                scene = captions.parse(caption)
                seen[judge] |= scene is not None and captions.held_out(scene)
    assert seen == {True: True, False: False}
    share = sum(captions.pair_held_out(o, c) for o in OBJECT_NAMES for c in COLORS)
    assert share / (len(OBJECT_NAMES) * len(COLORS)) == pytest.approx(1 / 8, abs=0.02)


def test_batches_depend_on_seed_and_step_alone() -> None:
    layers = trace_of(32, 8)
    first = WorldPictures(batch_size=8, size=8, count=32).batch(layers, 5)
    again = WorldPictures(batch_size=8, size=8, count=32).batch(layers, 5)
    other = WorldPictures(batch_size=8, size=8, count=32).batch(layers, 6)
    assert torch.equal(first.pictures, again.pictures) and first.captions == again.captions
    assert first.captions != other.captions
    assert first.pictures.min() >= 0 and first.pictures.max() <= 1
    one, two = trace_chunk(3, 0, 8, (-10.0, 80.0), "cpu"), trace_chunk(3, 0, 8, (-10.0, 80.0), "cpu")
    assert torch.equal(one.layers, two.layers)


def test_cache_is_made_once_and_read_back(tmp_path) -> None:  # noqa: ANN001
    data = WorldPictures(batch_size=4, size=8, count=16, cache_dir=str(tmp_path))
    data.prepare_data()
    stamp = data.cache_file.stat().st_mtime_ns
    data.prepare_data()
    data.setup()
    assert data.cache_file.stat().st_mtime_ns == stamp and len(list(tmp_path.iterdir())) == 1
    assert next(iter(data.train_dataloader())).pictures.shape == (4, 8, 8, 3)


def test_views_and_words_agree() -> None:
    assert captions.view_words(70, 0) == "overhead view"
    assert captions.view_words(10, 350) == captions.view_words(10, 22) == "front view"
    assert captions.view_words(10, 90) == captions.view_words(10, -270) == "left side view"
    assert captions.view_words(10, 270) == "right side view"
    assert captions.view_words(10, 45) == "front left view"
    assert captions.view_words(10, 180) == captions.view_words(10, 158) == "back view"
    assert captions.view_and_elevation(-9, 350) == "front view, elevation 0"
    assert captions.view_and_elevation(80, 90) == "left side view, elevation 75"
    views = sample_views(512, 4, generator(0, "views"), (-10.0, 80.0))
    assert views.elevation_deg.min() >= -10 and views.elevation_deg.max() <= 80
    assert (views.ambient + views.diffuse).sub(1).abs().max() < 1e-6


def test_the_front_is_at_positive_x() -> None:
    """The truck's cab, in its colour, is in front of its box; the mug's handle is on +y."""
    points = torch.tensor([[0.34, 0.0, -0.1], [-0.3, 0.0, 0.1]])
    assert [ROLES[role] for role in distances("truck", points)[1]] == ["main", "light"]
    sides = torch.tensor([[0.0, 0.38, 0.0], [0.0, 0.38, 0.28], [0.0, -0.37, 0.28]])  # handle, above it, wall
    handle, above, wall = distance("mug", sides).tolist()
    assert handle < 0.0 < 0.04 < above and wall < 0.0


def test_sheet_command(tmp_path, capsys) -> None:  # noqa: ANN001
    out = tmp_path / "sheet.png"
    assert sheet.main(["--out", str(out), "--prompt", "a red chair", "--size", "16", "--views", "2"]) == 0
    assert out.stat().st_size > 100
    small = ["--size", "16", "--views", "1", "--out", str(out)]
    assert sheet.main(["--prompt", "a red ball on a blue cube", *small]) == 0
    assert sheet.main(["--out", str(out), "--prompt", "a red dragon"]) == 2
    assert "cannot show 'a red dragon'" in capsys.readouterr().err


def test_the_sheet_is_labelled_and_has_a_row_for_each_pattern_and_relation() -> None:
    titles = {section.title: section.scenes for section in sheet._everything(seed=0)}
    assert [scene.items[0].object for scene in titles["objects"]] == list(OBJECT_NAMES)
    for pattern in colors.PATTERNS[1:]:
        assert len(titles[pattern]) == 4 and {scene.items[0].pattern for scene in titles[pattern]} == {
            pattern
        }
    for relation in ("on", "next to"):
        assert len(titles[relation]) == 4 and {scene.relation for scene in titles[relation]} == {relation}
    scenes = [captions.parse("a white chair"), captions.parse("a checkered orange windmill")]
    picture = sheet.contact_sheet([sheet.Section("two", scenes)], views=2, size=32, seed=0)
    assert picture.shape[0] == LINE + 32 + LINE
    title, views, labels = picture.split([LINE, 32, LINE])
    assert title.max() == 1.0 and title[0].max() == 0.0  # white letters on black
    other = sheet.contact_sheet([sheet.Section("two", scenes)], views=2, size=32, seed=1)[LINE : LINE + 32]
    assert torch.equal(other[:, :32], views[:, :32])  # from the front and left, whatever the seed
    assert not torch.equal(other[:, 32:64], views[:, 32:64])  # a random view
    assert torch.equal(views[0, 0], torch.tensor(GRAY))  # white objects are visible
    dark = (labels < 0.2).all(-1)
    left, right = dark.chunk(2, dim=1)
    assert right.sum() > left.sum() > 20  # the longer name
    assert not dark[:, -2:].any()  # and it is not cut off, though its views are narrower
