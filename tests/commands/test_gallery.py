"""The ``gallery`` command on folders that look like runs: finished, broken off, damaged and far away."""

import json
import os
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from dreamfusion_pl.cli import main
from dreamfusion_pl.evaluation.gallery_cards import card_of

FINISHED = {
    "state": "finished",
    "prompt": "a red chair",
    "seed": 3,
    "seconds": 61.7,
    "metrics": {"score": 0.01234, "loss": 126.1, "opacity": 0.66, "learning_rate": 0.01},
}
BROKEN_OFF = {"state": "running", "prompt": "a <b>", "seed": 0, "step": 100, "max_steps": 2000, "metrics": {}}


def make_run(place: Path, status: str, *files: str) -> Path:
    for name in ("checkpoints/last.ckpt", *files):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"")
    (place / "status.json").write_text(status)
    return place


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    """Two runs in one folder, and one that lies elsewhere."""
    damaged = make_run(tmp_path / "far away" / "run #3", '{"state": "fini', "log.txt")
    (damaged / "prompt.txt").write_text("a blue mug\n")
    make_run(tmp_path / "logs" / "one", json.dumps(FINISHED), "viewer.html", "turntable.gif")
    make_run(tmp_path / "logs" / "two", json.dumps(BROKEN_OFF))
    return [tmp_path / "logs", damaged]


def test_the_page_shows_runs_wherever_they_lie(runs, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    out = Path("pages") / "mine.html"
    assert main(["gallery", *map(str, runs), "--out", str(out)]) == 0
    assert "gallery of 3: pages/mine.html" in capsys.readouterr().out
    page = out.read_text(encoding="utf-8")
    assert page.count('class="card"') == 3 and "3 objects" in page and 'id="filter"' in page
    places = [unquote(place) for place in re.findall(r'(?:src|href)="([^"]+)"', page)]
    expected = ["logs/one/turntable.gif", "logs/one/viewer.html", "logs/two", "far away/run #3/log.txt"]
    assert places == [f"../../{place}" for place in expected]
    assert all((out.parent / place).exists() for place in places)
    assert "seed 3, finished, 62 s, score 0.0123, loss 126, opacity 0.66" in page
    assert "a &lt;b&gt;" in page and "seed 0, running, step 100 of 2000" in page
    assert "a blue mug" in page and "no status.json that can be read" in page


@pytest.mark.parametrize(
    "status",
    [
        "",
        "[]",
        "\udcff",
        '{"metrics": [1], "seconds": "long", "step": null}',
        '{"metrics": {"score": null}}',
        '{"metrics": null}',
        f'{{"seconds": {"9" * 401}}}',
        f'{{"metrics": {{"score": {"9" * 401}, "loss": 1e999}}}}',
        "[" * 100_000,
        f'{{"metrics": {"[" * 100_000}',
        '{"prompt": "' + 11_000_000 * "x",
    ],
    ids=lambda text: text[:20].encode("ascii", "replace").decode() + str(len(text)),
)
def test_a_status_of_something_else_is_no_error(tmp_path, monkeypatch, status):
    run = make_run(tmp_path / "a mug", "", "turntable.gif")
    (run / "status.json").write_bytes(status.encode("utf-8", "surrogateescape"))
    monkeypatch.chdir(run)
    assert main(["gallery", ".", "--out", "gallery.html"]) == 0
    page = Path("gallery.html").read_text(encoding="utf-8")
    assert ">a mug</a>" in page and 'src="turntable.gif"' in page


def test_the_error_of_a_failed_run_is_shown_with_a_remark(tmp_path):
    known = {"state": "failed", "error": "OSError: full\nmore", "step": 7}
    card = card_of(tmp_path / "run", tmp_path, known, "the best")
    assert card.note == "failed, step 7 of unknown, OSError: full, the best"
    assert (card.link, card.picture) == (Path("run"), None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "no finished run at nowhere"),
        (["logs", "--out", "logs"], "--out is a page's name"),
        (["logs", "--out", "logs.txt"], "--out is a page's name"),
    ],
)
def test_bad_arguments(runs, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["gallery", *words]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.glob("*.html"))


def test_pipes_in_the_place_of_files_are_not_waited_for(tmp_path, monkeypatch):
    run = make_run(tmp_path / "a mug", "{}")
    (run / "status.json").unlink()
    for name in ("status.json", "prompt.txt", "checkpoints/other.ckpt"):
        os.mkfifo(run / name)
    monkeypatch.chdir(tmp_path)
    assert main(["gallery", "a mug", "--out", "gallery.html"]) == 0
    assert "no status.json that can be read" in Path("gallery.html").read_text(encoding="utf-8")
