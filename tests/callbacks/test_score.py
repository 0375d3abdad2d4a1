"""The score of a finished object: seen by the data's cameras, whole, over plain gray."""

from types import SimpleNamespace

import pytest
import torch
from fakes import small_model
from scenes import Balls

from dreamfusion_pl.callbacks.hyperparameters import compared_settings
from dreamfusion_pl.callbacks.score import Score
from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.rendering.renderer import Renderer
from dreamfusion_pl.scene.background import DirectionBackground, SolidBackground
from dreamfusion_pl.schedule import Steps


def score(radius: float = 0.4, background=None, **data) -> tuple[float, torch.Tensor]:
    """The score of a ball, and the picture of its last view."""
    model = small_model()
    model.scene, model.progress = Balls([(torch.zeros(3), radius)], edge=0.01), 1.0
    model.renderer = Renderer(num_samples=32, occupancy_resolution=0)
    model.background = background or SolidBackground()
    seen, encode = [], model.encode
    model.encode = lambda rendering: seen.append(rendering) or encode(rendering)
    trainer = SimpleNamespace(is_global_zero=True, datamodule=RandomViews(**data), loggers=[], global_step=4)
    trainer.progress_bar_callback = None
    callback = Score(num_azimuths=3)
    callback.on_fit_end(trainer, model)
    return callback.value, seen[-1]


def test_a_learned_background_does_not_count():
    plain, _ = score()
    background = DirectionBackground(width=4)
    torch.nn.init.constant_(background.network[-1].bias, -5.0)
    learned, rendering = score(background=background)
    assert learned == plain
    assert torch.allclose(rendering.rgb[0, 0, 0], torch.tensor(0.72), atol=1e-3)


def test_cameras_are_those_of_the_data():
    near, middle, far = (
        float(score(distance=(d, d), focal=(1.2, 1.2))[1].opacity.mean()) for d in (1.5, 2.0, 3.0)
    )
    assert near > 1.3 * middle > 1.3 * 1.3 * far


@pytest.mark.parametrize("radius", [0.55, 0.9])
def test_a_large_object_is_seen_as_a_whole(radius):
    _, rendering = score(radius, distance=(1.2, 1.2), focal=(1.2, 1.2))
    opacity = rendering.opacity[0]
    edges = torch.cat([opacity[0], opacity[-1], opacity[:, 0], opacity[:, -1]])
    assert float(edges.max()) < 0.6 and float(opacity.max()) > 0.99


def test_views_are_as_large_as_those_of_the_last_steps():
    schedule = Steps({0.0: 8, 0.5: 24})
    _, rendering = score(resolution=schedule)
    assert rendering.opacity.shape == (1, 24, 24)
    trainer = SimpleNamespace(max_steps=4, datamodule=RandomViews(resolution=schedule))
    assert compared_settings(trainer, small_model())["resolution"] == 24
