"""The live view: its page, its camera, its share of the time."""

import builtins
import math
import socket
import sys
import urllib.request
from types import SimpleNamespace

import pytest
import torch
from fakes import ColorPrior, small_model
from pytorch_lightning import Callback, Trainer

from dreamfusion_pl.callbacks.previews.live import LiveView, Throttle, camera_view
from dreamfusion_pl.data.orbit import orbit
from dreamfusion_pl.data.views import RandomViews


def fit(callbacks: list[Callback], steps: int = 3) -> None:
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(small_model(), datamodule=RandomViews(views_per_step=2))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def camera(wxyz: tuple[float, ...], position: tuple[float, ...], aspect: float = 1.0) -> SimpleNamespace:
    return SimpleNamespace(wxyz=wxyz, position=position, fov=math.radians(60.0), aspect=aspect)


def test_the_page_is_there_while_it_trains_and_gone_afterwards(capsys):
    pytest.importorskip("viser")

    class Visitor(Callback):
        """Loads the page, and looks through a camera."""

        def on_train_batch_start(self, trainer, pl_module, *_):
            if trainer.global_step == 1:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=20) as answer:
                    pages.append(answer.read().decode())
                scene = SimpleNamespace(set_background_image=lambda pixels, format: pictures.append(pixels))
                half = math.sqrt(0.5)
                visitor = SimpleNamespace(camera=camera((half, half, 0, 0), (0, -1.5, 0)), scene=scene)
                live._server.get_clients = lambda: {0: visitor}

    port, pages, pictures = free_port(), [], []
    live = LiveView(port, size=16, share=0.999)
    fit([live, Visitor()])
    assert "<html" in pages[0].lower()
    assert len(pictures) >= 1 and pictures[0].shape == (16, 16, 3)
    assert f"live view: http://127.0.0.1:{port}" in capsys.readouterr().out
    with socket.socket() as probe:  # nobody listens any more
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    fit([LiveView(port, size=16)])  # and the port is free again


def test_a_failed_run_closes_the_page(capsys):
    pytest.importorskip("viser")

    class Fails(Callback):
        def on_train_batch_end(self, *_):
            raise RuntimeError("on fire")

    port = free_port()
    with pytest.raises(RuntimeError, match="on fire"):
        fit([LiveView(port), Fails()])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("broken", [{"aspect": math.nan}, {"fov": 0.0}, {"wxyz": None}])
def test_a_visitor_whose_picture_fails_spoils_it_for_nobody_else(broken, capsys):
    pictures, stopped, live = [], [], LiveView(size=8)
    scene = SimpleNamespace(set_background_image=lambda pixels, format: pictures.append(pixels))
    first, second = (
        SimpleNamespace(camera=camera((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 2.0)), scene=scene) for _ in range(2)
    )
    vars(first.camera).update(broken)
    live._server = SimpleNamespace(
        get_clients=lambda: {0: first, 1: second}, stop=lambda: stopped.append(True)
    )
    for _ in range(2):
        live._throttle = Throttle(0.5, 0.0)
        live.on_train_batch_end(None, small_model(), None, None, 0)
    assert len(pictures) == 2 and stopped == []
    assert capsys.readouterr().err.count("visitor 0 of the live view got no picture") == 1


def test_a_checkbox_shows_what_the_prior_wants():
    pictures, live = [], LiveView(size=8)
    scene = SimpleNamespace(set_background_image=lambda pixels, format: pictures.append(pixels))
    visitor = SimpleNamespace(camera=camera((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 2.0)), scene=scene)
    live._server = SimpleNamespace(get_clients=lambda: {0: visitor})
    live._wants = SimpleNamespace(value=False)
    for live._wants.value in (False, True):
        live._throttle = Throttle(0.5, 0.0)
        live.on_train_batch_end(None, small_model(prior=ColorPrior((1.0, 0.0, 0.0), 1e-3)), None, None, 0)
    own, wanted = (picture.astype(int) for picture in pictures)
    assert own.shape == wanted.shape == (8, 8, 3)
    assert abs(wanted - [255, 0, 0]).max() <= 1 < abs(own - wanted).max()
    for visitor.camera.aspect in (2.0, 0.5):  # the prior sees a square in the middle
        live._throttle = Throttle(0.5, 0.0)
        live.on_train_batch_end(None, small_model(prior=ColorPrior((1.0, 0.0, 0.0), 1e-3)), None, None, 0)
    wide, tall = (picture.astype(int) for picture in pictures[-2:])
    assert wide.shape == (8, 16, 3) and tall.shape == (16, 8, 3)
    for picture in (wide, tall.transpose(1, 0, 2)):
        assert abs(picture[:, 4:12] - [255, 0, 0]).max() <= 1
        assert (picture[:, :4] == picture[0, 0, 0]).all() and picture[0, 0, 0] == picture[0, 0, 1]


@pytest.mark.parametrize("error", [RuntimeError, ZeroDivisionError, KeyError])
def test_a_server_that_fails_closes_the_page_and_training_goes_on(error, capsys):
    def fail():
        raise error("on fire")

    stopped, live = [], LiveView(size=8)
    live._server = SimpleNamespace(get_clients=fail, stop=lambda: stopped.append(True))
    live._throttle = Throttle(0.5, 0.0)
    live.on_train_batch_end(None, small_model(), None, None, 0)
    assert stopped == [True] and "the live view ends" in capsys.readouterr().err


def test_a_second_live_view_is_not_opened(monkeypatch, capsys):
    """A resumed run has the one of its configuration, and may get another from the command: the last one."""

    def server(host, port, verbose):
        opened.append(port)
        return SimpleNamespace(
            scene=SimpleNamespace(set_up_direction=lambda axis: None),
            initial_camera=SimpleNamespace(),
            gui=SimpleNamespace(add_checkbox=lambda label, value: SimpleNamespace(value=value)),
            get_port=lambda: port,
            get_clients=dict,
            stop=lambda: stopped.append(port),
        )

    opened, stopped = [], []
    monkeypatch.setitem(sys.modules, "viser", SimpleNamespace(ViserServer=server))
    fit([LiveView(8081), LiveView(8082)])
    assert opened == stopped == [8082] and capsys.readouterr().out.count("live view:") == 1


def test_without_viser_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "viser":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ValueError, match=r"pip install 'dreamfusion_pl\[viewer\]'"):
        fit([LiveView()])


@pytest.mark.parametrize("competing", [0.0, 0.05, 0.4])
def test_pictures_take_no_more_than_their_share_with_what_they_cost_the_next_steps(competing):
    """Steps of 10 ms, pictures of 30 ms; sending one takes ``competing`` seconds from the next."""
    now, steps, sending, throttle = 0.0, 40_000, 0.0, Throttle(0.05, 0.0)
    pictures = 0
    for _ in range(steps):
        slower = min(sending, 0.2)
        now, sending = now + 0.01 + slower, sending - slower
        throttle.stepped(0.01 + slower)
        if throttle.is_due(now):
            throttle.took(now, now + 0.03)
            now, sending, pictures = now + 0.03, competing, pictures + 1
    assert pictures > 2 and 0.04 < 1.0 - 0.01 * steps / now <= 0.052


def test_the_view_measures_what_its_pictures_cost(monkeypatch):
    """With a fake clock: a slow renderer, and a slow step after it."""
    clock, live, pictures = [0.0], LiveView(size=8, share=0.05), []
    monkeypatch.setattr("dreamfusion_pl.callbacks.previews.live.time.monotonic", lambda: clock[0])

    def show(*_):
        clock[0] += 0.2
        pictures.append(clock[0])

    monkeypatch.setattr("dreamfusion_pl.callbacks.previews.live._show", show)
    live._server, live._throttle = SimpleNamespace(get_clients=lambda: {0: None}), Throttle(0.05, 0.0)
    for step in range(2000):
        live.on_train_batch_start(None, None, None, step)
        clock[0] += 0.1 if pictures and clock[0] - pictures[-1] < 0.05 else 0.05
        live.on_train_batch_end(None, None, None, None, step)
        clock[0] += 0.01  # other callbacks, a validation: not the view's
    share = 1.0 - 2000 * 0.06 / clock[0]
    assert len(pictures) > 10 and 0.04 < share <= 0.0505


def test_the_camera_is_the_packages():
    """Looking from -y along +y: right is +x, down is -z."""
    half = math.sqrt(0.5)
    view = camera_view(camera((half, -half, 0.0, 0.0), (0.0, -1.5, 0.0)), 16, 1.0)  # a quarter turn about x
    expected = orbit([270.0], 0.0, 1.5, 0.5 / math.tan(math.radians(30.0)), 16, 16)
    torch.testing.assert_close(view.rotation, expected.rotation, atol=1e-6, rtol=0.0)
    torch.testing.assert_close(view.origin, expected.origin, atol=1e-6, rtol=0.0)
    torch.testing.assert_close(view.focal, expected.focal)
    for place, elevation, azimuth in [((1, 1, 0), 0, 45), ((-1, 0, 1), 45, 180), ((0, 0, 2), 90, 0)]:
        view = camera_view(camera((1.0, 0.0, 0.0, 0.0), place), 16, 1.0)
        assert [float(view.elevation_deg), float(view.azimuth_deg)] == pytest.approx([elevation, azimuth])
    wide = camera_view(camera((half, -half, 0.0, 0.0), (0.0, -1.5, 0.0)), 16, 2.0)
    assert wide.jitter.shape == (1, 16, 32)
    assert float(wide.focal) == pytest.approx(float(view.focal) / 2.0)  # in widths, which are twice as large


@pytest.mark.parametrize("arguments", [{"port": 0}, {"size": 4}, {"share": 0.0}, {"share": 1.0}])
def test_arguments_out_of_range(arguments):
    with pytest.raises(ValueError, match="port must be"):
        LiveView(**arguments)
