"""The compiled renderer: the same pictures and gradients, compiled once, nothing of it in copies."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
from benchmarks.stand_in import build

from dreamfusion_pl import rng
from dreamfusion_pl.rendering import renderer as module
from dreamfusion_pl.rendering.renderer import Renderer

pytestmark = [  # what torch does itself while it compiles
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method.:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
SMALL = (
    "--model.scene.features.resolution=8",
    "--model.renderer.num_samples=8",
    "--model.renderer.occupancy_resolution=8",
    "--model.renderer.num_strata=16",
    "--model.renderer.skip_empty_rays=false",
    "--data.views_per_step=2",
)
PAPER = (
    "--model.scene.features.width=8",
    "--model.scene.features.num_blocks=1",
    "--model.renderer.skip_empty_rays=false",
    "--model.renderer.normals=finite_difference",
    "--model.occupancy_interval=1",
    "--data.views_per_step=2",
)


@pytest.fixture(autouse=True)
def by_aot_eager(monkeypatch):
    """Compile without a C++ compiler, in seconds; the graphs and their guards are those of any backend."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    for made in (module._compiled_render, module._compiles_on):
        made.cache_clear()
    torch._dynamo.reset()
    yield
    for made in (module._compiled_render, module._compiles_on):
        made.cache_clear()


def rendered(model, views, progress, compiled, views_at_once=0):
    """A rendering and the gradients of a loss of it."""
    renderer = model.renderer
    renderer.compile_rendering, renderer.views_at_once = compiled, views_at_once
    model.zero_grad()
    rendering = renderer(model.scene, model.background, views, progress)
    (rendering.rgb.square().sum() + (rendering.weights * rendering.facing).sum()).backward()
    gradients = [one.grad.clone() for one in model.parameters() if one.grad is not None]
    return [field.detach() for field in rendering], gradients


@pytest.mark.parametrize(("regime", "words"), [("default", SMALL), ("paper", PAPER)])
@pytest.mark.skipif(
    torch.__version__ < "2.13", reason="before torch 2.13 a scene that depends on progress is compiled again"
)
def test_it_renders_the_same_and_is_compiled_for_all_of_training(regime, words):
    model, data = build(regime, *words)
    for step, progress in enumerate((0.0, 0.1, 0.37, 0.99)):
        model.renderer.update_occupancy(model.scene, progress, rng.generator(0, "occupancy", step=step))
        views = data.draw(step, progress, 8)
        with torch._dynamo.config.patch(error_on_recompile=step > 1):  # the second sees that progress varies
            found = rendered(model, views, progress, compiled=True)
        wanted = rendered(model, views, progress, compiled=False)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_it_renders_one_view_at_a_time_and_is_not_part_of_copies():
    model, data = build("default", *SMALL)
    views = data.draw(0, 0.5, 8)
    wanted = rendered(model, views, 0.5, compiled=False)
    torch.testing.assert_close(rendered(model, views, 0.5, True, views_at_once=1), wanted)
    assert set(model.renderer.state_dict()) == {"occupancy.density", "occupancy.occupied"}
    other = pickle.loads(pickle.dumps(copy.deepcopy(model.renderer)))
    other.occupancy.occupied.zero_()  # a copy renders with its own grid
    other.occupancy.occupied[:4] = True
    other.compile_rendering, other.views_at_once = True, 1
    found = other(model.scene, model.background, views, 0.5)
    other.compile_rendering = False
    torch.testing.assert_close(found, other(model.scene, model.background, views, 0.5))
    assert not torch.allclose(found.rgb, wanted[0][0])


def test_without_a_compiler_it_warns_and_renders(monkeypatch):
    def no_compiler(*_):
        raise RuntimeError("no C++ compiler here")

    model, data = build("default", *SMALL, "--model.renderer.compile=true")
    monkeypatch.setattr(torch, "compile", lambda function: no_compiler)
    with pytest.warns(UserWarning, match="no C.. compiler here.*without"):
        rendered(model, data.draw(0, 0.5, 8), 0.5, compiled=True)


@pytest.mark.parametrize("other", [{"skip_empty_rays": True}, {"normals": "exact"}])
def test_what_cannot_be_compiled_is_refused(other):
    with pytest.raises(ValueError, match="compile"):
        Renderer(compile=True, **other)
