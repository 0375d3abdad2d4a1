"""Several fits in one process: each gives what it gives alone, and one call of the prior serves all."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import torch
from fakes import SMALL_RUN, ColorPrior, finish, small_model

from dreamfusion_pl.callbacks.signals import Signals
from dreamfusion_pl.cli import main
from dreamfusion_pl.commands import together
from dreamfusion_pl.commands.together import Fit, fit_together
from dreamfusion_pl.diffusion.shared import PriorBatcher
from dreamfusion_pl.types import TextEmbedding

TESTS = Path(__file__).parents[1]
TEXT = TextEmbedding(torch.zeros(1, 1, 1))
FITS = [("a red ball", 0), ("a red ball", 1), ("a blue mug", 2)]


def words(prompt: str, seed: int, place: Path, *more: str) -> list[str]:
    logger = "--trainer.logger.init_args"
    where = [f"{logger}.save_dir={place}", f"{logger}.name=", f"{logger}.version=run"]
    return [*SMALL_RUN, f"--prompt={prompt}", f"--seed_everything={seed}", *where, *more]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_each_gives_what_it_gives_alone(folder, monkeypatch):
    rows, predict = [], ColorPrior.predict

    def counted(self, z_t, t, text):
        rows.append(len(z_t))
        return predict(self, z_t, t, text)

    for number, (prompt, seed) in enumerate(FITS):
        assert main(["fit", *words(prompt, seed, folder / f"alone_{number}")]) == 0
    monkeypatch.setattr(ColorPrior, "predict", counted)
    together = [
        Fit(words(prompt, seed, folder / f"together_{number}"), str(folder / f"log_{number}.txt"))
        for number, (prompt, seed) in enumerate(FITS)
    ]
    assert fit_together(together) == [0, 0, 0]
    assert rows.count(12) >= 4 and max(rows) >= 12  # 3 fits, 2 views, with and without the prompt: 4 steps
    for number, (prompt, seed) in enumerate(FITS):
        alone, run = folder / f"alone_{number}" / "run", folder / f"together_{number}" / "run"
        for name, value in weights(alone).items():
            torch.testing.assert_close(weights(run)[name], value, rtol=1e-5, atol=1e-6)
        for place in alone.rglob("*"):
            if "tfevents" not in place.name:
                assert (run / place.relative_to(alone)).exists(), place
        state = json.loads((run / "status.json").read_text())
        assert (state["state"], state["prompt"], state["seed"]) == ("finished", prompt, seed)
        assert "object.glb" in (folder / f"log_{number}.txt").read_text()


def test_one_that_ends_early_does_not_hold_up_the_others(folder):
    log = [str(folder / f"log_{number}.txt") for number in range(4)]
    fits = [
        Fit(words("a red ball", 0, folder / "long", "--trainer.max_steps=6"), log[0]),
        Fit(words("?!", 0, folder / "bad"), log[1]),
        Fit(words("a mug", 0, folder / "short", "--trainer.max_steps=2"), log[2]),
        Fit(words("a mug", 0, folder / "wrong", "--no_such_option=2"), log[3]),
    ]
    assert fit_together(fits) == [0, 2, 0, 2]
    assert "no word in it" in Path(log[1]).read_text() and "no_such_option" in Path(log[3]).read_text()
    assert json.loads((folder / "long" / "run" / "status.json").read_text())["step"] == 6


def test_fits_at_different_progress_may_render_different_sizes(folder):
    sizes = "--data.resolution={class_path: Steps, init_args: {values: {0: 4, 0.5: 8}}}"
    fits = [
        Fit(
            words("a red ball", 0, folder / f"of_{steps}", sizes, f"--trainer.max_steps={steps}"),
            str(folder / "log"),
        )
        for steps in (2, 4)
    ]
    assert fit_together(fits) == [0, 0]


def test_callbacks_of_ones_own_without_a_bar(folder):
    own = "--trainer.callbacks=[{class_path: Safety}, {class_path: LastCheckpoints}]"  # Lightning has a bar
    fits = [
        Fit(words("a red ball", seed, folder / f"of_{seed}", own), str(folder / f"log_{seed}"))
        for seed in range(4)
    ]
    said = fit_together(fits), [(folder / f"log_{seed}").read_text() for seed in range(4)]
    assert said[0] == [0] * 4, said[1]


def test_an_error_of_the_shared_call_reaches_all_and_a_gradient_is_asked_alone(monkeypatch):
    def predict(self, z_t, t, text):
        if z_t.requires_grad:
            return 2.0 * z_t
        raise RuntimeError("no memory")

    monkeypatch.setattr(ColorPrior, "predict", predict)
    batcher, errors = PriorBatcher(2), []

    def run_fit(index):
        with batcher.lock:
            prior = batcher.share(index, ColorPrior())
            z = torch.zeros(1, 3, 8, 8)
            assert prior.predict(z.requires_grad_(), torch.zeros(1), TEXT).requires_grad
            try:
                prior.predict(z.detach(), torch.zeros(1), TEXT)
            except RuntimeError as error:
                errors.append(str(error))
            finally:
                batcher.leave(index)

    threads = [threading.Thread(target=run_fit, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == ["no memory", "no memory"]


def test_memory_for_fewer_halves_the_calls(monkeypatch):
    """Of four fits at most two are answered at once; who is too large alone hears it, the others do not."""
    calls, predict = [], ColorPrior.predict

    def confined(self, z_t, t, text):
        calls.append(len(z_t))
        if len(z_t) > 2:
            raise torch.OutOfMemoryError("tried to allocate 80 GiB")
        return predict(self, z_t, t, text)

    monkeypatch.setattr(ColorPrior, "predict", confined)
    batcher, answers = PriorBatcher(4), {}

    def run_fit(index, rows):
        with batcher.lock:
            prior = batcher.share(index, ColorPrior())
            text = TextEmbedding(torch.zeros(rows, 1, 1))
            for _ in range(2):
                z = torch.full((rows, 3, 8, 8), float(index))
                try:
                    answers.setdefault(index, []).append(prior.predict(z, torch.full((rows,), 0.5), text))
                except torch.OutOfMemoryError as error:
                    answers.setdefault(index, []).append(str(error))
            batcher.leave(index)

    threads = [threading.Thread(target=run_fit, args=(index, 1 + 2 * (index == 3))) for index in range(4)]
    with pytest.warns(UserWarning, match="of the fits share one call") as said:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert calls == [6, 2, 4, 1, 3, 1, 1, 1, 3]
    assert [str(one.message).partition(" at most ")[2][0] for one in said] == ["2", "1"]
    assert answers[3] == ["tried to allocate 80 GiB"] * 2
    for index in range(3):
        z = torch.full((1, 3, 8, 8), float(index))
        expected = predict(ColorPrior(), z, torch.full((1,), 0.5), TEXT)
        for answer in answers[index]:
            torch.testing.assert_close(answer, expected)


def test_out_of_memory_is_answered_with_fewer_views_at_once(folder):
    full = ["--trainer.callbacks+=fakes.FullMemory", "--trainer.callbacks.step=2"]
    fits = [
        Fit(words("a red ball", 0, folder / "tight", *full), str(folder / "tight.txt")),
        Fit(words("a red ball", 1, folder / "roomy"), str(folder / "roomy.txt")),
        Fit(
            words("a mug", 2, folder / "full", *full, "--trainer.callbacks.always=true"),
            str(folder / "f.txt"),
        ),
    ]
    assert fit_together(fits) == [0, 0, 1]
    said = {name: (folder / name).read_text() for name in ("tight.txt", "roomy.txt", "f.txt")}
    assert [text.count("one view at a time") for text in said.values()] == [1, 0, 1]
    assert "--data.views_per_step" in said["f.txt"]
    for name in ("tight", "roomy"):
        assert json.loads((folder / name / "run" / "status.json").read_text())["state"] == "finished"


def test_a_fit_with_another_prior_is_refused(folder):
    other = "--model.prior.init_args.spread=0.2"
    fits = [
        Fit(words("a red ball", 0, folder / "one"), str(folder / "one.txt")),
        Fit(words("a red ball", 1, folder / "other", other), str(folder / "other.txt")),
        Fit(
            words("a mug", 2, folder / "two", "--model.distillation.init_args.guidance_scale=2"),
            str(folder / "two.txt"),
        ),
    ]
    assert fit_together(fits) == [0, 2, 0]
    said = (folder / "other.txt").read_text()
    assert "0.2" in said and "a process of its own" in said and "Traceback" not in said


def test_a_signal_stops_all_in_order(folder, warm_python):
    runs = [folder / name for name in ("one", "two")]
    long = ["--trainer.max_steps=100000", "--trainer.val_check_interval=100000"]
    fits = [
        {"words": words("a red ball", seed, run, *long), "log": str(run / "log.txt")}
        for seed, run in enumerate(runs)
    ]
    Path("fits.json").write_text(json.dumps(fits))
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    command = [warm_python, "-m", "dreamfusion_pl", "together", "fits.json"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while not all((run / "run" / "status.json").exists() for run in runs) and time.time() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    output, _ = finish(process, timeout=60)
    assert process.returncode == 143 and json.loads(output.splitlines()[-1]) == [143, 143]
    for run in runs:
        assert json.loads((run / "run" / "status.json").read_text())["state"] == "interrupted"
        assert f"fit --resume {run / 'run'}" in (run / "log.txt").read_text()
        stored = torch.load(run / "run" / "checkpoints" / "last.ckpt", weights_only=True)
        assert stored["global_step"] > 0


def test_a_signal_while_fits_are_built_ends_those_too(folder, warm_python):
    long = ["--trainer.max_steps=100000", "--trainer.val_check_interval=100000"]
    early = ["--trainer.callbacks+=probe.Probe", f"--trainer.callbacks.folder={folder}"]
    early += ["--trainer.callbacks.victim=0", f"--trainer.callbacks.number={int(signal.SIGTERM)}"]
    fits = [
        {"words": words("a red ball", 0, folder / "one", *long, *early), "log": str(folder / "one.txt")},
        {"words": words("a red ball", 1, folder / "two", *long), "log": str(folder / "two.txt")},
    ]
    Path("fits.json").write_text(json.dumps(fits))
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    command = [warm_python, "-m", "dreamfusion_pl", "together", "fits.json"]
    output, _ = finish(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True), 240)
    assert json.loads(output.splitlines()[-1]) == [143, 143]
    assert not list((folder / "two").glob("run/checkpoints/*.ckpt"))  # it never began


def test_a_signal_while_a_fit_enters_reaches_it(monkeypatch, tmp_path):
    class Entering:
        """A trainer; while the second fit's is asked for its listeners, the signal comes."""

        progress_bar_callback = None

        def __init__(self, is_second):
            self.is_second = is_second

        @property
        def callbacks(self):
            if self.is_second:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1.0)
            return [Signals()]

    def run(words, join):
        join(small_model(), Entering(bool(words)))

    monkeypatch.setattr(together, "fit_in_memory", run)
    fits = [Fit(words, str(tmp_path / f"{number}.txt")) for number, words in enumerate(([], ["second"]))]
    assert fit_together(fits) == [0, 143]


def test_bad_words(capsys):
    assert main(["together", "nowhere.json"]) == 2
    assert "needs a file" in capsys.readouterr().err
