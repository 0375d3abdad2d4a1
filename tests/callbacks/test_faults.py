"""A run when something goes wrong: signals, damaged checkpoints, gradients that are not finite."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import pytest
import torch
from fakes import SMALL_RUN, finish, small_model
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.cli import LightningArgumentParser

from dreamfusion_pl.callbacks.average import WeightAverage
from dreamfusion_pl.callbacks.checkpoints import LastCheckpoints
from dreamfusion_pl.callbacks.safety import FULL, DivergedError, Safety
from dreamfusion_pl.callbacks.signals import HANDLED_SIGNALS
from dreamfusion_pl.cli import main
from dreamfusion_pl.configuration import layers
from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.run_folder.checkpoint_io import is_whole
from dreamfusion_pl.run_folder.saved_config import SavedConfiguration
from dreamfusion_pl.runs import RunCommand
from dreamfusion_pl.scene.density import LinearBias, SoftplusDensity
from dreamfusion_pl.scene.field_scene import FieldScene
from dreamfusion_pl.scene.initial_shape import Ball
from dreamfusion_pl.scene.planes import PlaneFeatures
from dreamfusion_pl.terminal import guarded

TESTS = Path(__file__).parents[1]
WORDS = ["fit", *SMALL_RUN, "--prompt", "a red ball"]
RUN = Path("lightning_logs") / "version_0"


def start(python: str, folder: Path, steps: int) -> subprocess.Popen:
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=paths)
    return subprocess.Popen(
        [
            *[python, "-m", "dreamfusion_pl", *WORDS],
            *["--trainer.max_steps", str(steps), "--trainer.val_check_interval", "100000"],
        ],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_run_killed_after_its_last_step_is_still_delivered(finished_run, tmp_path, monkeypatch):
    """Its checkpoint has every step, so nothing is trained: what comes after training has to come."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_run, RUN)
    trained = weights(RUN)
    for name in ("object.glb", "turntable.gif", "viewer.html", "status.json"):
        (RUN / name).unlink()
    assert main(["fit", "--resume", str(RUN)]) == 0
    run = max(Path("lightning_logs").glob("version_*"), key=lambda folder: folder.name)
    for name in ("object.glb", "turntable.gif", "viewer.html"):
        assert (run / name).stat().st_size > 0
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    torch.testing.assert_close(weights(run), trained, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_the_resumed_run_is_exact(tmp_path, monkeypatch, warm_python, number):
    python = sys.executable if number == signal.SIGTERM else warm_python  # a real start for one of them
    process = start(python, tmp_path, 100_000)
    status = tmp_path / RUN / "status.json"
    deadline = time.time() + 120
    while not status.exists() and time.time() < deadline and process.poll() is None:
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = finish(process, timeout=60)
    assert process.returncode == 128 + number, errors
    assert f"fit --resume {RUN}" in errors and "Traceback" not in errors
    assert json.loads(status.read_text())["state"] == "interrupted"
    saved = torch.load(tmp_path / RUN / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert saved > 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # the schedules run over max_steps, so the length stays; a few steps more than the interrupted run had
    more = ["--trainer.limit_train_batches", str(saved + 3)]
    assert main(["fit", "--resume", str(RUN), "--trainer.max_epochs", "1", *more]) == 0
    whole = [
        *SMALL_RUN,
        "--prompt",
        "a red ball",
        "--trainer.max_steps",
        "100000",
        "--trainer.max_epochs",
        "1",
    ]
    assert main(["fit", *whole, *more, "--trainer.val_check_interval", "100000"]) == 0
    resumed, expected = (weights(Path("lightning_logs") / name) for name in ("version_0", "version_1"))
    for name, value in expected.items():
        assert torch.equal(value, resumed[name]), name


def checkpoints(folder: Path, *contents: bytes) -> list[Path]:
    """Files of a run, oldest first."""
    place = folder / "checkpoints"
    place.mkdir(parents=True)
    files = [place / name for name in ("previous.ckpt", "last.ckpt")[-len(contents) :]]
    for age, (file, content) in enumerate(zip(files, contents, strict=True)):
        file.write_bytes(content)
        os.utime(file, (1000 + age, 1000 + age))
    return files


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    file = tmp_path_factory.mktemp("whole") / "last.ckpt"
    torch.save({"weights": torch.rand(1000)}, file)
    return file.read_bytes()


def damaged(content: bytes, how: str) -> bytes:
    middle = len(content) // 2
    if how == "truncated":
        return content[:middle]
    if how == "empty":
        return b""
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


@pytest.mark.parametrize("how", ["truncated", "empty", "flipped"])
def test_the_newest_whole_checkpoint_is_taken(tmp_path, whole, capsys, how):
    previous, last = checkpoints(tmp_path, whole, damaged(whole, how))
    assert layers.find_checkpoint(str(tmp_path)) == previous
    assert f"{last} is damaged" in capsys.readouterr().err
    with pytest.raises(ValueError, match="is damaged"):
        layers.find_checkpoint(str(last))
    previous.write_bytes(damaged(whole, how))
    with pytest.raises(ValueError, match="every checkpoint at .* is damaged"):
        layers.find_checkpoint(str(tmp_path))


def test_a_checkpoint_is_whole_whatever_its_folder_is_called(tmp_path, whole):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xf6lder"))  # an old name, not UTF-8
    folder.mkdir()
    (folder / "last.ckpt").write_bytes(whole)
    assert is_whole(folder / "last.ckpt")


def test_no_flipped_bit_is_taken_for_a_whole_checkpoint(tmp_path, whole):
    """Wherever the bit is: either the file can still be read, or another one is looked for."""
    file, directory = tmp_path / "last.ckpt", whole.rindex(b"PK\x01\x02")
    for place in [*range(0, 64), *range(directory, len(whole), 3)]:
        for bit in (0x01, 0x80):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            if is_whole(file):
                torch.load(file, weights_only=True)


@pytest.mark.parametrize("kind", ["zip", "list", "encrypted", "weights"])
def test_a_file_that_is_no_checkpoint_is_one_message(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "other.ckpt"
    if kind in ("list", "weights"):
        torch.save([1, 2] if kind == "list" else {"weights": torch.zeros(3)}, file)
    else:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.txt", "text")
    if kind == "encrypted":
        content = bytearray(file.read_bytes())
        content[6] |= 1
        content[content.rindex(b"PK\x01\x02") + 8] |= 1
        file.write_bytes(content)
    assert main(["fit", "--config", "default.yaml", *WORDS[1:], "--resume", str(file)]) == 2
    said = "is no checkpoint of a run" if kind == "weights" else "is damaged, or another kind of file"
    error = capsys.readouterr().err
    assert said in error and error.count("error") == 1 and "Traceback" not in error


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # by ModelCheckpoint
def test_no_fit_goes_on_from_weights_only(tmp_path, monkeypatch, capsys):
    """With a checkpoint of all beside them, which is older, that one is taken."""
    monkeypatch.chdir(tmp_path)
    weights_only = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.save_weights_only=true"]
    assert main([*WORDS, *weights_only]) == 0
    (file,) = (path for path in (RUN / "checkpoints").iterdir() if path.name.startswith("epoch"))
    stored = torch.load(file, weights_only=True)
    torch.save(stored | {"global_step": stored["global_step"] + 1}, file)
    capsys.readouterr()
    assert main(["fit", "--resume", str(file), "--trainer.max_steps=5"]) == 2
    error = capsys.readouterr().err
    assert "save_weights_only" in error and "pass its run folder" in error and "Traceback" not in error
    assert main(["test", "--ckpt_path", str(file)]) == 0
    assert main(["fit", "--resume", str(RUN), "--trainer.max_steps=5"]) == 0
    assert f"{file} has the weights only" in capsys.readouterr().err
    for other in (RUN / "checkpoints").glob("[lp]*.ckpt"):
        other.unlink()
    assert main(["fit", "--resume", str(RUN)]) == 2
    assert "start again without --resume" in capsys.readouterr().err


def fit(model, callbacks, folder, steps=40, views=None, checkpoint=None):
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(one, LastCheckpoints) for one in callbacks) or False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    views = views or RandomViews(views_per_step=2, look_resolution=8)
    trainer.fit(model, datamodule=views, ckpt_path=checkpoint)
    return trainer


class Poison(Callback):
    """Makes gradients not finite in some steps; stands before Safety."""

    def __init__(self, steps, value=float("nan")):
        self.steps, self.value = steps, value

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step in self.steps:
            pl_module.scene.features.planes.grad[0, 0, 0, 0] = self.value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_gradient_is_skipped(tmp_path, value, capsys):
    model, safety = small_model(), Safety(every=10, patience=3)
    fit(model, [Poison({4, 15}, value), safety], tmp_path)
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    assert safety.notes == [] and capsys.readouterr().err == ""


def test_many_bad_gradients_send_the_run_back(tmp_path, capsys):
    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            planes[trainer.global_step] = pl_module.scene.features.planes.detach().clone()

    planes, model, safety = {}, small_model(), Safety(every=5, patience=3)
    fit(model, [Poison(range(11, 15)), safety, Watch()], tmp_path, steps=20)
    assert torch.equal(planes[15], planes[10]) and not torch.equal(planes[14], planes[10])
    assert "back to the last good state at step 15" in capsys.readouterr().err
    assert not torch.equal(planes[20], planes[15])


def test_the_average_leaves_out_weights_that_are_not_finite(tmp_path, capsys):
    model = small_model()
    fit(model, [Spoiled(12), WeightAverage(0.5), Safety(every=5)], tmp_path, steps=20)
    assert "went back" in capsys.readouterr().err
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())  # it has the average


def test_a_resumed_run_goes_back_where_an_unbroken_one_does(tmp_path, capsys):
    """Of the two bad steps that send it back, one is before the checkpoint and one after it."""
    models, safeties = [], []
    for place, start in (("whole", None), ("rest", tmp_path / "whole" / "checkpoints" / "previous.ckpt")):
        models.append(small_model())
        safeties.append(Safety(every=5, patience=2))
        callbacks = [Poison({1, 7, 9}), safeties[-1], LastCheckpoints(9)]
        fit(models[-1], callbacks, tmp_path / place, steps=12, checkpoint=start)
    whole, resumed = (model.state_dict() for model in models)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert capsys.readouterr().err.count("went back") == 2
    assert [(one.skipped, len(one.notes)) for one in safeties] == [(3, 1), (3, 1)]


def test_a_second_fit_with_the_same_callback_is_saved_too(tmp_path):
    keeper = LastCheckpoints()
    for place in (tmp_path / "one", tmp_path / "two"):
        fit(small_model(), [keeper], place, steps=3)
        assert (place / "checkpoints" / "last.ckpt").exists()


def test_a_hopeless_run_ends_with_advice(tmp_path):
    with pytest.raises(DivergedError, match="--model.learning_rate"):
        fit(small_model(), [Poison(range(1000)), Safety(every=5, patience=3, rollbacks=2)], tmp_path)


def test_a_run_that_diverged_saves_its_last_good_state(tmp_path):
    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            planes[trainer.global_step] = pl_module.scene.features.planes.detach().clone()

    planes, safety = {}, Safety(every=5, patience=3, rollbacks=1)
    with pytest.raises(DivergedError, match="state of step 10, the last good one, is saved"):
        fit(small_model(), [Poison(range(11, 1000)), safety, Watch(), LastCheckpoints(100)], tmp_path)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=False)
    assert torch.equal(saved["state_dict"]["scene.features.planes"], planes[10])
    assert saved["global_step"] == 20


@pytest.mark.parametrize("steps", [2, 10, 30])
def test_a_short_run_without_a_good_step_fails(tmp_path, steps):
    with pytest.raises(DivergedError, match=f"{steps} of {steps} steps"):
        fit(small_model(), [Poison(range(1000)), Safety()], tmp_path, steps=steps)


class Spoiled(Callback):
    """Weights become NaN after a step, while all gradients are finite."""

    def __init__(self, at):
        self.at = at

    @torch.no_grad()
    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.global_step == self.at:
            pl_module.scene.features.planes[0, 0, 0, 0] = float("nan")


def test_a_short_run_whose_weights_are_not_finite_fails(tmp_path):
    with pytest.raises(DivergedError, match="check the optimizer"):
        fit(small_model(), [Spoiled(3), Safety()], tmp_path, steps=3)


def test_a_run_that_fails_in_its_last_step_keeps_its_good_state(tmp_path, capsys):
    model = small_model()
    fit(model, [Spoiled(8), Safety(every=5)], tmp_path, steps=8)
    assert "went back" in capsys.readouterr().err
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def test_a_vanished_object_is_reported_once(tmp_path, capsys):
    model, safety = small_model(), Safety(every=5, lost=0)
    torch.nn.init.constant_(model.scene.head.bias, -100.0)
    fit(model, [safety], tmp_path)
    assert len(safety.notes) == 1 and "vanished" in safety.notes[0]
    assert capsys.readouterr().err.count("vanished") == 1


@pytest.mark.parametrize("bias, what", [(-100.0, "vanished"), (100.0, "fills the picture")])
def test_a_lost_object_ends_the_run(tmp_path, bias, what):
    class Watch(Callback):
        def on_train_batch_end(self, trainer, *_):
            steps.append(trainer.global_step)

    steps, model = [], small_model()
    torch.nn.init.constant_(model.scene.head.bias, bias)
    model.scene.requires_grad_(False)
    model.scene.features.planes.requires_grad_()
    views = RandomViews(views_per_step=2, look_resolution=8, distance=(0.8, 0.8), focal=(2.0, 2.0))
    with pytest.raises(DivergedError, match=what):
        fit(model, [Safety(every=5, lost=3), Watch()], tmp_path, steps=40, views=views)
    assert steps[-1] == 19  # looks at 10, 15 and 20; Safety stands before Watch


@pytest.mark.parametrize("seed", range(4))
def test_a_healthy_object_that_close_cameras_crop_is_not_lost(seed, tmp_path):
    """A ball that fills the picture of many steps, of one view each."""
    ball = SoftplusDensity(Ball(0.7), LinearBias(1000.0))
    model, safety = small_model(), Safety(every=10, lost=1)
    model.scene = FieldScene(PlaneFeatures(resolution=8, channels=4, width=8), ball, radius=1.0)
    model.learning_rate, full = 1e-9, []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, *_):
            full.append(float(trainer.callback_metrics["opacity"]) > FULL)

    views = RandomViews(views_per_step=1, resolution=8, look_resolution=8, seed=seed)
    fit(model, [safety, Watch()], tmp_path, steps=60, views=views)
    assert sum(full) > 8 and safety.notes == []


def test_an_opacity_that_is_no_number_is_no_lost_object(tmp_path, capsys):
    class Spoil(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            trainer.callback_metrics["opacity"].fill_(float("nan"))

    safety = Safety(every=5, lost=1)
    fit(small_model(), [Spoil(), safety], tmp_path, steps=20)
    assert safety.notes == [] and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "error, status, said",
    [
        (DivergedError("no hope"), 3, "no hope"),
        (UnpicklingError("Weights only load failed"), 2, "more than tensors"),
        (RuntimeError("Error(s) in loading state_dict for A: size mismatch"), 2, "another configuration"),
        (RuntimeError("[/__w/gloo/pair.cc] Connection closed by peer\n"), 1, "another process of this run"),
        (OSError(28, "No space left on device"), 1, "space left"),
        (RuntimeError("derivative for aten::grid_sampler_2d_backward is not implemented"), 2, "torch 2.13"),
    ],
)
def test_an_accident_is_one_message_and_a_status(capsys, error, status, said):
    def fail():
        raise error

    assert guarded(fail, "fit") == status and said in capsys.readouterr().err


def test_an_error_of_the_program_is_not_hidden():
    def fail():
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        guarded(fail, "fit")


def test_impossible_arguments():
    with pytest.raises(ValueError, match="every and patience"):
        Safety(every=0)


@pytest.mark.parametrize("moment", ["dump", "write"])
def test_a_configuration_that_was_not_written_to_its_end_leaves_the_one_before(tmp_path, monkeypatch, moment):
    def write_half(self, text, **how):
        raw(self, text[: len(text) // 2], **how)
        raise OSError(28, "No space left on device")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    raw = Path.write_text
    parser = LightningArgumentParser()
    parser.add_argument("--prompt", type=str)
    config = parser.parse_args(["--prompt=a red ball"])
    trainer = Trainer(logger=False, default_root_dir=tmp_path, enable_progress_bar=False)
    SavedConfiguration(parser, config, save_to_log_dir=False).setup(trainer, small_model(), "fit")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before == {"config.yaml": b"prompt: a red ball\n", "prompt.txt": b"a red ball\n"}
    monkeypatch.setattr(*((parser, "dump", fail) if moment == "dump" else (Path, "write_text", write_half)))
    with pytest.raises(OSError, match="No space"):
        SavedConfiguration(parser, config, save_to_log_dir=False).setup(trainer, small_model(), "fit")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class Failing(Callback):
    """Fails in the first step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        raise RuntimeError("a fault of this callback")


def test_a_run_that_fails_leaves_no_handlers_of_signals(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {number: signal.getsignal(number) for number in HANDLED_SIGNALS}
    with pytest.raises(RuntimeError, match="a fault of this callback"):
        RunCommand("fit", WORDS[1:], lambda model, trainer: trainer.callbacks.append(Failing()))
    assert {number: signal.getsignal(number) for number in HANDLED_SIGNALS} == before
