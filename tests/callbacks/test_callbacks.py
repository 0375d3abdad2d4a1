import hashlib
import json
import os
import signal
from datetime import datetime
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh
from fakes import small_model
from pytorch_lightning import Callback, Trainer

from dreamfusion_pl.callbacks import mesh as mesh_callback
from dreamfusion_pl.callbacks import progress
from dreamfusion_pl.callbacks.average import WeightAverage
from dreamfusion_pl.callbacks.checkpoints import LastCheckpoints
from dreamfusion_pl.callbacks.mesh import MeshExport
from dreamfusion_pl.callbacks.previews.renders import Renders, sheet
from dreamfusion_pl.callbacks.previews.turntable import Turntable
from dreamfusion_pl.callbacks.progress import Progress, results
from dreamfusion_pl.callbacks.report import Report
from dreamfusion_pl.callbacks.signals import Signals
from dreamfusion_pl.data.orbit import GRAY, orbit
from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.export.asset import Settings
from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.run_folder.checkpoint_io import WholeCheckpoints, keep_as
from dreamfusion_pl.types import Rendering


def fit(root, callbacks, steps=4, model=None, checkpoint=None, **arguments):
    model = model or small_model()
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        default_root_dir=root,
        callbacks=callbacks,
        enable_progress_bar=any(isinstance(callback, Progress) for callback in callbacks),
        enable_checkpointing=any(isinstance(callback, LastCheckpoints) for callback in callbacks) or False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=None,
        inference_mode=False,
        **arguments,
    )
    views = RandomViews(views_per_step=2, look_resolution=16, num_val_views=2, num_test_views=4)
    trainer.fit(model, datamodule=views, ckpt_path=checkpoint)
    return model


def test_sheet_by_hand():
    one = torch.ones(2, 3, 5)
    rendering = Rendering(
        rgb=torch.rand(2, 3, 5, 3),
        albedo=torch.zeros(2, 3, 5, 3),
        opacity=torch.stack([one[0], 0.0 * one[0]]),
        depth=one,
        normal=torch.stack([torch.tensor([0.0, 0.0, -1.0]).expand(3, 5, 3), torch.zeros(3, 5, 3)]),
        weights=one[..., None],
        facing=one[..., None],
        latent=torch.zeros(2, 3, 5, 0),
    )
    picture = sheet(rendering)
    assert picture.shape == (9, 10, 3)
    assert torch.equal(picture[:3, 5:], rendering.rgb[1])
    torch.testing.assert_close(picture[3, 0], torch.tensor([0.5, 0.5, 0.0]))  # opaque, facing down
    torch.testing.assert_close(picture[3, 5], torch.tensor(GRAY))  # nothing there
    assert bool((picture[6:, :5] == 1).all()) and bool((picture[6:, 5:] == 0).all())


def test_previews_show_averaged_weights(tmp_path):
    class Probe(Callback):
        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *_):
            self.shown = pl_module.scene.features.planes.detach().clone()

        def on_train_batch_end(self, trainer, pl_module, *_):
            self.raw = pl_module.scene.features.planes.detach().clone()

    probe, average = Probe(), WeightAverage(decay=0.5)
    model = fit(tmp_path, [average, probe, Renders()], val_check_interval=4)
    assert not torch.equal(probe.shown, probe.raw)
    assert torch.equal(probe.shown, model.scene.features.planes)  # which training ends with
    assert (tmp_path / layout.RENDERS / "step_000004.png").exists()


def test_the_average_is_that_of_a_loop_and_forgets_the_start_of_a_short_run(tmp_path):
    class Watch(Callback):
        history: list[torch.Tensor] = []

        def on_train_batch_end(self, trainer, pl_module, *_):
            self.history.append(pl_module.scene.head.weight.detach().clone())

    watch, average = Watch(), WeightAverage(decay=0.3, warmup=True)
    model = fit(tmp_path, [average, watch], val_check_interval=100)
    expected = watch.history[0]
    for step, weight in enumerate(watch.history, start=1):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1.0 - decay) * weight
    assert len(watch.history) == 4 and (1 + 2) / (10 + 2) < 0.3 < (1 + 4) / (10 + 4)
    torch.testing.assert_close(model.scene.head.weight.detach(), expected)


def test_the_turntable_shows_the_scene_as_it_ended(tmp_path):
    from PIL import Image

    model = fit(tmp_path, [Turntable(frames_per_second=5)], val_check_interval=100)
    with Image.open(tmp_path / layout.TURNTABLE_GIF) as film:
        assert film.n_frames == 4 and film.size == (32, 32)
        film.seek(0)
        pixels = np.array(film.convert("RGB"))
    with torch.no_grad():
        first = model(orbit([0.0], 15.0, 1.25, 1.025, 32, 32)).rgb[0]
    shown = torch.from_numpy(pixels) / 255.0
    assert (shown - first).abs().mean() < 0.03


def test_mesh_of_an_empty_scene_is_a_warning(tmp_path, capsys):
    class Emptied(Callback):
        def on_train_end(self, trainer, pl_module):
            torch.nn.init.constant_(pl_module.scene.head.bias, -100.0)

    fit(tmp_path, [Emptied(), MeshExport(resolution=16)], val_check_interval=100)
    assert "no mesh was written" in capsys.readouterr().err
    assert not (tmp_path / layout.OBJECT).exists()


def test_the_mesh_in_tensorboard_stands_upright(monkeypatch):
    drawn = {}
    writer = SimpleNamespace(add_mesh=lambda name, vertices, *_, **__: drawn.update({name: vertices}))
    monkeypatch.setattr(layout, "tensorboard", lambda trainer: writer)
    vertices = torch.tensor([[1.0, 2.0, 3.0]])  # x front, y left, z up
    asset = SimpleNamespace(mesh=(vertices, torch.zeros(1, 3), torch.zeros(1, 3)))
    mesh_callback._show(SimpleNamespace(global_step=4), asset)
    assert drawn["object"].tolist() == [[[2.0, 3.0, 1.0]]]  # x left, y up, z front


def test_mesh(tmp_path):
    fit(tmp_path, [MeshExport(resolution=16, size_m=0.2, normal_map=True)], val_check_interval=100)
    assert (tmp_path / layout.OBJECT).read_bytes()[:4] == b"glTF"
    report = json.loads((tmp_path / layout.OBJECT_REPORT).read_text())
    assert report["watertight"] and report["volume_m3"] > 0.0
    assert max(report["size_m"]) == pytest.approx(0.2) and 0.5 < report["texture"]["outline_iou"] <= 1.0
    assert report["texture"]["outline_db"] > 10.0
    (mesh,) = trimesh.load(tmp_path / layout.OBJECT).geometry.values()
    assert mesh.visual.material.normalTexture is not None


@pytest.mark.parametrize("name", ["resolution", "max_faces", "texture_size", "threshold", "size_m"])
def test_the_mesh_is_exported_within_the_bounds_of_the_command(name):
    with pytest.raises(ValueError, match="got.* 0"):
        MeshExport(**{name: 0})
    assert MeshExport(**{name: 16}).settings == Settings(**{name: 16})


def test_the_callback_exports_the_smallest_part_that_it_is_told():
    assert MeshExport().settings == Settings()
    assert MeshExport(smallest_part=0.0).settings == Settings(smallest_part=0.0)
    with pytest.raises(ValueError, match="smallest part is a share"):
        MeshExport(smallest_part=-1.0)


def test_a_threshold_is_given_to_the_mesh(tmp_path, capsys):
    fit(tmp_path, [MeshExport(resolution=16, threshold=1e9)], val_check_interval=100)
    assert "the surface's threshold is 1e+09" in capsys.readouterr().err


def test_checkpoints_keep_the_one_before(tmp_path):
    fit(tmp_path, [LastCheckpoints(every=2)], steps=5, val_check_interval=100)
    stored = {path.name: torch.load(path, weights_only=True) for path in (tmp_path / "checkpoints").iterdir()}
    assert {name: checkpoint["global_step"] for name, checkpoint in stored.items()} == {
        "last.ckpt": 5,
        "previous.ckpt": 4,
    }


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path, monkeypatch):
    fit(tmp_path, [LastCheckpoints()], val_check_interval=100)
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    monkeypatch.setattr(Trainer, "save_checkpoint", lambda *_: None)
    with pytest.raises(OSError, match="could not be written"):
        fit(tmp_path, [LastCheckpoints()], val_check_interval=100)
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before


@pytest.fixture
def saved(tmp_path):
    """A run folder with two checkpoints."""
    fit(tmp_path, [LastCheckpoints(every=2)], steps=4, val_check_interval=100)
    return tmp_path / "checkpoints"


def test_a_damaged_checkpoint_does_not_replace_the_whole_one_before(saved, tmp_path):
    before = (saved / "previous.ckpt").read_bytes()
    (saved / "last.ckpt").write_bytes(b"half")
    fit(tmp_path, [LastCheckpoints(every=2)], steps=2, val_check_interval=100)
    assert (saved / "previous.ckpt").read_bytes() == before
    assert torch.load(saved / "last.ckpt", weights_only=True)["global_step"] == 2


@pytest.mark.parametrize("fault", ["disk full", "other bytes"])
def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch, fault):
    place = tmp_path / "last.ckpt"
    WholeCheckpoints(update=dict).save_checkpoint({"state_dict": {"weights": torch.rand(1000)}}, place)
    before = place.read_bytes()

    def sync(descriptor):
        if fault == "disk full":
            raise OSError(28, "No space left on device")
        os.pwrite(descriptor, b"other bytes", 1000)

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(OSError, match="No space|different data"):
        WholeCheckpoints(update=dict).save_checkpoint({"state_dict": {"weights": torch.rand(1000)}}, place)
    assert place.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_checkpoints_are_of_whole_steps(tmp_path):
    class Watch(Callback):
        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            saved.append((trainer.global_step, batches))

        def on_train_batch_start(self, trainer, *_):
            nonlocal batches
            batches += 1

        def on_train_batch_end(self, trainer, *_):
            if batches == 7:
                signals.notice(signal.SIGTERM)

    saved, batches, signals = [], 0, Signals()
    callbacks = [Watch(), signals, LastCheckpoints(every=2)]
    with pytest.raises(SystemExit):
        fit(tmp_path, callbacks, steps=9, val_check_interval=100, accumulate_grad_batches=3)
    assert saved == [(2, 6), (3, 9)]


def test_a_signal_during_the_last_step_is_not_forgotten(tmp_path):
    class Late(Callback):
        def on_train_epoch_end(self, trainer, *_):
            signals.notice(signal.SIGTERM)

    signals = Signals()
    with pytest.raises(SystemExit, match="143"):
        fit(tmp_path, [Late(), signals, LastCheckpoints()], steps=2, val_check_interval=100)
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2


def test_a_resumed_run_does_not_save_before_its_first_step(tmp_path):
    more = {"accumulate_grad_batches": 2, "val_check_interval": 100}
    fit(tmp_path / "a", [LastCheckpoints(every=2)], steps=2, **more)

    class Watch(Callback):
        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            saved.append(trainer.global_step)

    saved = []
    callbacks = [Watch(), LastCheckpoints(every=2)]
    start = tmp_path / "a" / "checkpoints" / "last.ckpt"
    fit(tmp_path / "b", callbacks, steps=4, checkpoint=start, **more)
    assert saved == [4]


def test_progress_prints_few_lines_without_a_terminal(tmp_path, capsys):
    fit(tmp_path, [Renders(), Progress(lines=2)], steps=10, val_check_interval=5)
    lines = capsys.readouterr().out.splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert [line.split(",")[0] for line in steps] == ["step 5/10", "step 10/10"]
    assert "left" in steps[0] and "loss" in steps[0]
    assert "preview" in steps[1] and "step_000005.png" in steps[1]


def status_of(run):
    return json.loads((run / layout.STATUS).read_text(encoding="utf-8"))


def test_status_and_page_of_a_finished_run(tmp_path):
    callbacks = [Renders(), MeshExport(resolution=16), LastCheckpoints(), Report()]
    fit(tmp_path, callbacks, steps=4, val_check_interval=2)
    status = status_of(tmp_path)
    assert (status["state"], status["prompt"], status["seed"]) == ("finished", "a red ball", 0)
    assert (status["format"], status["step"], status["max_steps"]) == (1, 4, 4)
    assert datetime.fromisoformat(status["started"]) <= datetime.fromisoformat(status["updated"])
    assert status["metrics"]["loss"] > 0
    expected = {
        "object.glb",
        "object.report.json",
        "viewer.html",
        "renders/step_000002.png",
        "checkpoints/last.ckpt",
    }
    assert expected <= set(status["files"])
    for name, facts in status["files"].items():
        data = (tmp_path / name).read_bytes()
        assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    page = (tmp_path / layout.VIEWER).read_text(encoding="utf-8")
    assert page.count("a red ball") >= 2 and page.count("data:image/png") == 2


def test_status_while_it_runs_and_when_it_fails(tmp_path):
    class Fail(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 3:
                states.append(status_of(tmp_path)["state"])
                raise ValueError("no more of this")

    states = []
    with pytest.raises(ValueError, match="no more"):
        fit(tmp_path, [Report(), Fail()], steps=8, val_check_interval=2)
    assert states == ["running"]
    status = status_of(tmp_path)
    assert (status["state"], status["error"], status["step"]) == ("failed", "ValueError: no more of this", 3)
    assert not (tmp_path / layout.VIEWER).exists()


def test_status_of_a_run_that_fails_in_its_first_step(tmp_path):
    class Fail(Callback):
        def on_train_batch_start(self, *_):
            raise torch.OutOfMemoryError("no more")

    with pytest.raises(torch.OutOfMemoryError):
        fit(tmp_path, [Report(), Fail()], val_check_interval=100)
    assert status_of(tmp_path)["state"] == "failed" and "no more" in status_of(tmp_path)["error"]


def test_results_name_only_what_is_there(tmp_path):
    (tmp_path / layout.OBJECT).touch()
    assert results(tmp_path) == [f"object:     {tmp_path / 'object.glb'}", f"run folder: {tmp_path}"]


@pytest.mark.parametrize(
    "make",
    [lambda: LastCheckpoints(0), lambda: Turntable(0), lambda: MeshExport(4)],
    ids=["every", "fps", "cells"],
)
def test_impossible_arguments(make):
    with pytest.raises(ValueError, match="or more"):
        make()


def test_the_last_checkpoint_is_there_while_the_one_before_is_kept(tmp_path, monkeypatch):
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    for content in (b"new", b"newer"):
        last.write_bytes(content)
        for _ in range(2):  # the second time both are one file
            keep_as(last, previous)
            assert (last.read_bytes(), previous.read_bytes()) == (content, content)
        last.unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["previous.ckpt"]
    last.write_bytes(b"newest")
    monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(OSError("no hard links")))
    keep_as(last, previous)
    assert previous.read_bytes() == b"newest" and not last.exists()


def test_progress_shows_the_loss_and_what_other_modules_ask_for(tmp_path, monkeypatch):
    monkeypatch.setattr(progress.layout, "run_folder", lambda _: tmp_path)
    metrics = {"loss": torch.tensor(2.5), "opacity": torch.tensor(0.1), "train/color": torch.tensor(0.75)}
    trainer = SimpleNamespace(callback_metrics=metrics, progress_bar_metrics={"mine": 3.0})
    assert progress._state(trainer) == "loss 2.5, train/color 0.75, mine 3"
