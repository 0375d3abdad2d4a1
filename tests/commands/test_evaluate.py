"""``evaluate`` on small finished runs."""

import csv
import shutil
from pathlib import Path

import pytest
from fakes import SMALL_RUN
from tiny_clip import save_tiny_clip

from dreamfusion_pl.cli import main

PROMPTS = ("a red ball", "a red chair")


@pytest.fixture(scope="module")
def folder(finished_run, tmp_path_factory):
    """A folder with one small run of each prompt, and a tiny CLIP."""
    folder = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(finished_run, folder / "lightning_logs/version_0")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", *SMALL_RUN, "--prompt", PROMPTS[1], "--trainer.max_steps", "3"]) == 0
    save_tiny_clip(folder / "tiny_clip")
    return folder


def evaluate(*words: str) -> int:
    return main(["evaluate", *words, "--size", "24", "--azimuths", "3"])


def test_a_batch_is_scored_and_tabulated(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert evaluate("lightning_logs", "--clip", "tiny_clip", "--out", "tables") == 0
    with Path("tables/evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["prompt"] for row in rows] == list(PROMPTS)
    for row in rows:
        for name in ("CLIP tiny_clip, colour", "CLIP tiny_clip, geometry", "world classifier, colour"):
            assert 0.0 <= float(row[name]) <= 1.0
            assert (3 * float(row[name])) == pytest.approx(round(3 * float(row[name])))  # thirds: 3 views
        assert 0.0 < float(row["iou"]) < 1.0
    markdown = Path("tables/evaluation.md").read_text()
    assert markdown.count("\n") == 5 and "| mean |" in markdown
    assert markdown in capsys.readouterr().out
    assert list(Path("tables").glob("events.out.tfevents.*"))


def test_one_prompt_has_no_distractors(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert evaluate("lightning_logs/version_0", "--out", "one") == 0
    assert "two or more different prompts" in capsys.readouterr().out
    assert "iou" in Path("one/evaluation.md").read_text()


def test_without_a_clip_it_says_what_to_fetch(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert evaluate("lightning_logs", "--out", "none") == 0
    out = capsys.readouterr().out
    assert "hf download openai/clip-vit-base-patch32" in out and "world classifier, geometry" in out


@pytest.mark.parametrize(
    "words, message",
    [
        (["nowhere"], "no finished run at nowhere"),
        (["lightning_logs", "--clip", "missing"], "no CLIP model 'missing'"),
        (["lightning_logs", "--azimuths", "0"], "--azimuths"),
    ],
)
def test_bad_input(folder, monkeypatch, capsys, words, message):
    monkeypatch.chdir(folder)
    assert main(["evaluate", *words, "--size", "24"]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_broken_checkpoint_is_one_message(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    broken = tmp_path / "run" / "checkpoints"
    broken.mkdir(parents=True)
    whole = (folder / "lightning_logs/version_0/checkpoints/last.ckpt").read_bytes()
    (broken / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    assert main(["evaluate", "run"]) == 2
    assert "cannot be read as a finished object" in capsys.readouterr().err
