"""The whole batch on Ray, with runs that take seconds."""

import csv
import json
import os
import re
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import windows
from fakes import SMALL_RUN

from dreamfusion_pl.batch import driver, worker
from dreamfusion_pl.batch.driver import groups, run_all
from dreamfusion_pl.batch.jobs import Request, jobs_of
from dreamfusion_pl.batch.machines import Resources
from dreamfusion_pl.batch.worker import Outcome, UnsuitableMachineError
from dreamfusion_pl.cli import main
from dreamfusion_pl.commands import batch
from dreamfusion_pl.commands.batch import write_summary
from dreamfusion_pl.export.pages.gallery import Card, write_gallery

pytest.importorskip("ray")
TESTS = Path(__file__).parent.parent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    return tmp_path


def test_a_batch_makes_each_once_and_reports_what_failed(folder, capsys):
    Path("prompts.jsonl").write_text(
        '{"prompt": "a red ball"}\n{"prompt": "a blue mug", "trainer.max_steps": 2}\n'
        '{"prompt": "a cup", "no_such_option": 1}\n'
    )
    words = ["batch", "--prompts", "prompts.jsonl", "--out", "out", *SMALL_RUN, "--trainer.max_steps", "3"]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert "2 of 3 finished" in captured.out and "1 jobs failed" in captured.err
    with Path("out/summary.csv").open() as file:
        rows = {row["prompt"]: row for row in csv.DictReader(file)}
    assert {prompt: row["state"] for prompt, row in rows.items()} == {
        "a red ball": "finished",
        "a blue mug": "finished",
        "a cup": "failed",
    }
    assert "no_such_option" in rows["a cup"]["reason"]
    made = {name: Path("out", rows[name]["folder"], "object.glb") for name in ("a red ball", "a blue mug")}
    before = {name: path.stat().st_mtime_ns for name, path in made.items()}
    page = Path("out/gallery.html").read_text()
    assert page.count('class="card"') == 3 and "viewer.html" in page
    assert main(words) == 1  # tries the failed one again, and nothing else
    assert {name: path.stat().st_mtime_ns for name, path in made.items()} == before


def test_what_is_done_needs_no_ray(tmp_path):
    jobs = jobs_of([Request("a red ball")], 2, tmp_path)
    for job in jobs:
        job.folder.mkdir(parents=True)
        (job.folder / "status.json").write_text('{"state": "finished"}')
    outcomes = run_all(jobs, (), Resources(), 0, "ray://nowhere:1", lambda *_: None)
    assert [outcome.state for outcome in outcomes.values()] == ["finished", "finished"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--prompts", "none.txt", "--out", "o"], "cannot be read"),
        (["--prompts", "world", "--out", "o", "--seeds", "0"], "--seeds"),
        (["--prompts", "world", "--out", "o", "--gpus", "-1"], "--gpus"),
        (["--prompts", "world", "--out", "o", "--gpus", "1.5"], "--gpus is a share"),
        (["--prompts", "world", "--out", "o", "--memory", "-1"], "--memory"),
        (["--prompts", "world", "--out", "o", "--adress", "auto"], "--adress"),
        (["--prompts", "world", "--out", "o", "stray"], "stray"),
        (["--prompts", "world", "--out", "o", "--prompt", "a mug"], "--prompts FILE"),
        (["--prompts", "world", "--out", "o", "--seed_everything=3"], "--seeds K"),
    ],
)
def test_bad_input(folder, capsys, words, message):
    assert main(["batch", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_wrong_options_in_every_line_start_nothing(folder, capsys):
    Path("prompts.csv").write_text("prompt,trainer.steps\na mug,3\na cup,4\n")
    assert main(["batch", "--prompts", "prompts.csv", "--out", "out", *SMALL_RUN]) == 2
    assert "trainer.steps" in capsys.readouterr().err and not Path("out").exists()


@pytest.fixture
def nothing_runs(monkeypatch):
    """A batch that does not run a fit: all jobs come out finished."""

    def run_all(jobs, *_):
        return {job: Outcome("finished") for job in jobs}

    monkeypatch.setattr(batch, "run_all", run_all)


def test_a_folder_holds_one_batch(folder, capsys, nothing_runs):
    words = ["batch", "--prompts", "world", "--out", "out", *SMALL_RUN]
    assert main([*words, "--trainer.max_steps", "3"]) == 0
    assert main([*words, "--trainer.max_steps", "3", "--seeds", "2", "--retries", "5"]) == 0
    capsys.readouterr()
    assert main([*words, "--trainer.max_steps", "4"]) == 2
    error = capsys.readouterr().err
    assert "--trainer.max_steps 3" in error and "another --out" in error


def test_what_is_in_the_configuration_files_belongs_to_a_batch(folder, capsys, nothing_runs):
    words = ["batch", "--prompts", "world", "--out", "out", *SMALL_RUN, "--config", "mine.yaml"]
    Path("mine.yaml").write_text("trainer: {max_steps: 3}")
    assert main(words) == 0
    Path("mine.yaml").write_text("# the same\ntrainer:\n  max_steps: 3\n")
    assert main([*words, "--seeds", "2"]) == 0
    Path("mine.yaml").write_text("trainer: {max_steps: 4}")
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "other contents of mine.yaml" in error and "Traceback" not in error
    noted = json.loads(Path("out/options.json").read_text())
    assert noted["configs"]["mine.yaml"] == {"trainer": {"max_steps": 3}}
    Path("out/options.json").write_text(json.dumps(noted["options"]))  # as an earlier version wrote it
    assert main(words) == 0


@pytest.mark.parametrize(
    "stop, status, said",
    [
        (KeyboardInterrupt(), 130, "go on with: python -m dreamfusion_pl batch --prompts prompts.txt"),
        (SystemExit(15), 143, "stopped by SIGTERM; the same command goes on"),  # as Ray has it
    ],
)
def test_who_stops_a_batch_gets_a_summary(folder, capsys, monkeypatch, stop, status, said):
    def run_all(jobs, options, resources, retries, address, report, watch):
        report(jobs[0], Outcome("failed", 1, "why"), 1, 3)
        jobs[1].folder.mkdir(parents=True)
        (jobs[1].folder / "status.json").write_text('{"state": "finished"}')
        raise stop

    monkeypatch.setattr(batch, "run_all", run_all)
    Path("prompts.txt").write_text("a mug\na cup\na ball\n")
    assert main(["batch", "--prompts", "prompts.txt", "--out", "out", *SMALL_RUN]) == status
    with Path("out/summary.csv").open() as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["failed", "finished", "unfinished"]
    assert said in capsys.readouterr().err


def pretended_ray(monkeypatch, wait, get, machine):
    """A Ray of one machine, in whose place tests answer; returns what tasks and calls were given."""
    given = {}

    def remote(**asked):
        def call(group, options, retries, settings):
            given.update(asked=asked, settings=settings)
            return group[0].folder.parent.name

        return lambda run: SimpleNamespace(remote=call)

    ray = SimpleNamespace(
        nodes=lambda: [{"Alive": True, "Resources": machine}, {"Alive": False, "Resources": {"CPU": 9.0}}],
        remote=remote,
        wait=wait,
        get=get,
        shutdown=lambda: None,
        exceptions=SimpleNamespace(RayError=OSError),
    )
    monkeypatch.setattr(driver, "connect", lambda *_: ray)
    return given


def test_progress_is_told_while_jobs_run(tmp_path, monkeypatch, capsys):
    """A pretended Ray, with room for one job at once: the first takes two looks, the second one."""
    looks = [False, False, True, False, True]

    def wait(references, num_returns, timeout):
        return (references[:1] if looks.pop(0) else []), references

    pretended_ray(monkeypatch, wait, lambda _: [Outcome("failed", 1, "why")], {"CPU": 1.0})
    monkeypatch.setattr(batch, "LINE_SECONDS", 0.0)
    jobs = jobs_of([Request("a mug"), Request("a cup")], 1, tmp_path)
    progress = batch._Progress(tmp_path, 2)
    run_all(jobs, (), Resources(), 0, None, progress.report, progress.watch)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0 of 2 done, 1 running, 0 failed, time left unknown"
    assert lines[4] == "0 of 2 done, 1 running, 1 failed, 0 min left" and len(lines) == 7


@pytest.mark.parametrize(
    "asked, machine, num_gpus, memory",
    [
        (Resources(), {"CPU": 4.0}, 0.0, None),
        (Resources(), {"CPU": 4.0, "GPU": 2.0}, 1.0, None),
        (Resources(gpus=0.0), {"CPU": 4.0, "GPU": 2.0}, 0.0, None),
        (Resources(gpus=0.5, memory=2.0), {"CPU": 4.0, "GPU": 2.0, "memory": 9e9}, 0.5, 2 * 10**9),
    ],
)
def test_what_a_process_gets(tmp_path, monkeypatch, asked, machine, num_gpus, memory):
    finished = [Outcome("finished", 1)]
    given = pretended_ray(monkeypatch, lambda running, **_: (running[:1], []), lambda _: finished, machine)
    run_all(jobs_of([Request("a mug")], 1, tmp_path), (), asked, 0, None, lambda *_: None)
    assert (given["asked"]["num_gpus"], given["asked"]["memory"]) == (num_gpus, memory)
    assert given["settings"].gpus == num_gpus and given["settings"].folder == os.getcwd()
    assert Path(given["settings"].marker).parent == tmp_path and not list(tmp_path.iterdir())


class TaskError(OSError):
    """As Ray's, with what the task raised."""

    def __init__(self, cause):
        super().__init__(f"in a task: {cause}")
        self.cause = cause


@pytest.mark.parametrize(
    "cause, message",
    [
        (UnsuitableMachineError("not the driver's folder"), "^not the driver's folder"),
        (RuntimeError("No module named 'dreamfusion_pl.batch'"), "a machine of the cluster has no dreamf"),
    ],
)
def test_a_machine_that_cannot_make_fits_ends_the_batch(tmp_path, monkeypatch, cause, message):
    def get(reference):
        raise TaskError(cause)

    pretended_ray(monkeypatch, lambda running, **_: (running[:1], []), get, {"CPU": 1.0})
    with pytest.raises(ValueError, match=message):
        run_all(jobs_of([Request("a mug")], 3, tmp_path), (), Resources(), 0, None, lambda *_: None)


def test_no_machine_has_room(tmp_path, monkeypatch):
    pretended_ray(monkeypatch, None, None, {"CPU": 2.0, "GPU": 1.0, "memory": 4e9})
    jobs = jobs_of([Request("a mug")], 1, tmp_path)
    with pytest.raises(ValueError, match=r"1 cores, 1 GPUs and 8 GB of memory"):
        run_all(jobs, (), Resources(memory=8.0), 0, None, lambda *_: None)


def test_the_gallery_escapes_prompts(tmp_path):
    card = Card('<script>"x"', Path("a b/seed_0/viewer.html"), None, "<b>")
    page = write_gallery("1 object", [card], tmp_path / "gallery.html").read_text()
    assert "&lt;script&gt;&quot;x&quot;" in page and 'href="a%20b/seed_0/viewer.html"' in page
    assert "<b>" not in page


def test_several_fits_share_a_process(folder):
    Path("prompts.jsonl").write_text(
        '{"prompt": "a red ball"}\n{"prompt": "a mug"}\n{"prompt": "?!"}\n'
        '{"prompt": "a cup", "model.learning_rate": 0.1}\n'
    )
    words = ["batch", "--prompts", "prompts.jsonl", "--out", "out", "--together", "3", *SMALL_RUN]
    assert main([*words, "--trainer.max_steps", "3"]) == 1
    with Path("out/summary.csv").open() as file:
        rows = {row["prompt"]: row for row in csv.DictReader(file)}
    assert {prompt: row["state"] for prompt, row in rows.items()} == {
        "a red ball": "finished",
        "a mug": "finished",
        "?!": "failed",
        "a cup": "finished",
    }
    assert "no word" in rows["?!"]["reason"]


def test_a_logger_that_cannot_be_put_into_the_batch_is_refused_before_anything_starts(folder, capsys):
    (folder / "prompts.txt").write_text("a red ball\n")
    words = ["--prompts", "prompts.txt", "--out", "out", "--trainer.logger", "false"]
    assert main(["batch", *words]) == 2
    assert "trainer.logger" in capsys.readouterr().err
    assert not list(folder.glob("out/a-red-ball*"))


def test_groups_have_the_same_options():
    requests = [Request("a"), Request("b", ("--x", "1")), Request("c"), Request("d")]
    jobs = jobs_of(requests, 1, Path("out"))
    names = [[job.request.prompt for job in group] for group in groups(jobs, 2)]
    assert names == [["a", "c"], ["d"], ["b"]]


def test_the_best_of_the_seeds_is_picked(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_text", windows.write_text)  # it must not double the ends of CSV's lines
    jobs = jobs_of([Request("a ball"), Request("a mug"), Request("a cup")], 3, tmp_path)
    scores = {("a ball", 0): 0.1, ("a ball", 1): 0.3, ("a ball", 2): 0.2, ("a mug", 1): 0.5}
    outcomes = {}
    for job in jobs:
        score = scores.get((job.request.prompt, job.seed))
        job.folder.mkdir(parents=True)
        known = {"state": "finished", "seed": job.seed, "metrics": {"score": score}}
        (job.folder / "status.json").write_text(json.dumps(known))
        outcomes[job] = Outcome("finished")
    failed = next(job for job in jobs if (job.request.prompt, job.seed) == ("a mug", 2))
    outcomes[failed] = Outcome("failed", 1, "why")
    write_summary(outcomes, tmp_path)
    assert b"\r\r" not in (tmp_path / "summary.csv").read_bytes()
    with (tmp_path / "summary.csv").open() as file:
        best = [
            (row["prompt"], row["seed"], row["score"]) for row in csv.DictReader(file) if row["best"] == "1"
        ]
    assert best == [("a ball", "1", "0.3")]
    with (tmp_path / "summary.csv").open() as file:
        assert all(row["shape_difference"] == row["picture_difference"] == "" for row in csv.DictReader(file))
    page = (tmp_path / "gallery.html").read_text()
    assert page.count("the best of its seeds") == 1 and "seed 1, finished, score 0.3000" in page


def test_a_batch_says_how_much_its_seeds_differ(finished_run, folder, capsys):
    Path("prompts.txt").write_text("a red ball\n")
    for job in jobs_of([Request("a red ball")], 2, folder / "out"):
        shutil.copytree(finished_run, job.folder)  # done, so that nothing is run
    assert main(["batch", "--prompts", "prompts.txt", "--seeds", "2", "--out", "out", *SMALL_RUN]) == 0
    assert "seeds of a prompt differ by 0.00 in shape (1 - IoU) and 0.000 in" in capsys.readouterr().out
    with Path("out/summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["shape_difference"], row["picture_difference"]) for row in rows] == [("0.0", "0.0")] * 2


ODD = [
    '{"metrics": null}',
    '{"seed": "x", "metrics": {"score": "high"}}',
    "[" * 100_000,
    f'{{"seconds": {"9" * 401}}}',
]


@pytest.mark.parametrize("status", ODD, ids=["null", "texts", "brackets", "digits"])
def test_odd_status_files_do_not_end_a_batch(tmp_path, status):
    jobs = jobs_of([Request("a ball")], 2, tmp_path)
    for job in jobs:
        job.folder.mkdir(parents=True)
        (job.folder / "status.json").write_text(status)
        assert worker._next_seed(job) == job.seed
    write_summary({job: Outcome("finished") for job in jobs}, tmp_path)
    with (tmp_path / "summary.csv").open() as file:
        assert [row["best"] for row in csv.DictReader(file)] == ["0", "0"]
    assert (tmp_path / "gallery.html").read_text().count('class="card"') == 2


def test_a_job_of_ray_uploads_the_package_and_neither_history_nor_runs(tmp_path):
    """The excludes that the page about batches gives, as Ray applies them; a .gitignore is not needed."""
    from ray._private.runtime_env import packaging

    document = (TESTS.parent / "docs" / "batch.md").read_text(encoding="utf-8")
    excludes = json.loads(re.search(r"--runtime-env-json '(.*)'", document)[1])["excludes"]
    needed = ["dreamfusion_pl/batch/driver.py", "configs/default.yaml", "prompts.txt"]
    useless = [".git/objects/pack/a.pack", "lightning_logs/version_0/object.glb", "batch/a/seed_0/log.txt"]
    useless += [".venv/lib/torch.so", "runs/old/checkpoints/last.ckpt"]
    for name in needed + useless:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = []
    rules = [packaging._get_excludes(tmp_path, excludes)]
    packaging._dir_travel(tmp_path, rules, found.append, include_gitignore=False)
    files = [path.relative_to(tmp_path).as_posix() for path in found if path.is_file()]
    assert sorted(files) == sorted(needed)


def test_sigterm_ends_the_fits_and_then_the_batch(tmp_path, monkeypatch):
    """Of a pretended Ray, the handler would abort. Here the marker goes, and the fits are waited for."""
    waits = []

    def wait(references, num_returns, timeout):
        waits.append((num_returns, [path.name for path in tmp_path.glob(".driver-*")]))
        os.kill(os.getpid(), signal.SIGTERM)
        return [], references

    pretended_ray(monkeypatch, wait, None, {"CPU": 1.0})
    monkeypatch.setattr(
        driver, "connect", lambda *_, ray=driver.connect: (signal.signal(15, abort), ray())[1]
    )
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        run_all(jobs_of([Request("a mug")], 1, tmp_path), (), Resources(), 0, None, lambda *_: None)
    assert stop.value.code == signal.SIGTERM
    assert len(waits) == 2 and waits[0][1] and not waits[1][1]  # at the second one its marker is gone
    assert signal.getsignal(signal.SIGTERM) == before


def abort(*_):
    os.abort()
