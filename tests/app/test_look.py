"""What a run folder says, whoever wrote it."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from dreamfusion_pl.app import look, parts
from dreamfusion_pl.app.ledger import Entry

LOG = """\
step 12/120, 1:05 left, 2.1 steps/s, loss 0.1
step 24/120, 0:50 left, 2.1 steps/s, loss 0.1, preview renders/step_000024.png
"""


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "a-red-ball-0123456789abcdef" / "seed_0"
    (folder / "renders").mkdir(parents=True)
    (folder / "log.txt").write_text(LOG)
    status = {"state": "running", "prompt": "a red ball", "seed": 0, "step": 20, "max_steps": 120}
    (folder / "status.json").write_text(json.dumps(status))
    return folder


def sheet(folder, step, views=4, rows=4, side=8):
    picture = Image.new("RGB", (views * side, rows * side))
    for index in range(views):
        picture.paste((60 * index, 0, 0), (index * side, 0, (index + 1) * side, side))
    place = folder / "renders" / f"step_{step:06d}.png"
    picture.save(place)
    return place


def test_progress_is_that_of_the_last_line(run):
    seen = look.look_at(run)
    assert (seen.step, seen.max_steps, seen.left, seen.state) == (24, 120, "0:50", "running")
    assert seen.preview is None and seen.model is None and "loss 0.1" in seen.log


def test_the_newest_preview_turns(run):
    sheet(run, 60)
    newest = sheet(run, 120)
    assert look.look_at(run).preview == newest
    with Image.open(io.BytesIO(look.turning(newest, 1))) as film:
        assert film.n_frames == 4 and film.size == (8, 8) and film.info["duration"] == 600
        film.seek(2)
        assert abs(film.convert("RGB").getpixel((4, 4))[0] - 120) < 3
    with Image.open(io.BytesIO(look.still(newest, 1))) as front:
        assert front.size == (8, 8) and front.getpixel((4, 4)) == (0, 0, 0)


def test_the_number_of_views_is_that_of_the_configuration(run):
    place = sheet(run, 60, views=2, rows=4)
    (run / "config.yaml").write_text("data:\n  init_args:\n    num_val_views: 2\n")
    with Image.open(io.BytesIO(look.turning(place, 2))) as film:
        assert film.n_frames == 2


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"step": "x", "prompt": ["<b>"], "notes": 3, "seconds": "long"}']
)
def test_a_status_that_means_nothing(run, text):
    (run / "status.json").write_text(text)
    seen = look.look_at(run)
    assert seen.step == 24 and seen.notes == () and seen.seconds is None


def test_a_log_of_terminal_codes_and_of_many_lines(run):
    (run / "log.txt").write_bytes(b"\x1b[31mred\x00\xff\n" * 5000)
    assert "\x1b" not in look.look_at(run).log and "\0" not in look.look_at(run).log
    assert len(look.look_at(run).log.splitlines()) <= look.TAIL_LINES


def test_an_error_of_the_log_is_shown(run):
    (run / "status.json").unlink()
    (run / "log.txt").write_text("line\ndreamfusion_pl: error: no <prior> here\n")
    seen = look.look_at(run)
    shown = parts.status(Entry("a", (), 0, "failed"), seen, 0)
    assert seen.error == "no <prior> here" and "no &lt;prior&gt; here" in shown and 'role="alert"' in shown


def test_runs_are_found_by_their_status(run, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "Strange Name" / "seed_0").mkdir(parents=True)
    (tmp_path / "Strange Name" / "seed_0" / "status.json").touch()
    assert look.runs_in(tmp_path) == ["a-red-ball-0123456789abcdef/seed_0"]


def test_texts_are_escaped_everywhere():
    evil = '<img src=x onerror="alert(1)">'
    entry = Entry(evil, (), 0, "failed", evil)
    seen = look.look_at(Path("nowhere"))._replace(error=evil, notes=(evil,), log=evil)
    pages = [
        parts.status(entry, seen, 0),
        parts.gallery([("a-0/seed_0", entry, 5, evil)], ""),
        parts.hint(evil, evil, [evil]),
        parts.message(evil),
    ]
    for page in pages:
        assert "<img src=x" not in page and "&lt;img" in page
