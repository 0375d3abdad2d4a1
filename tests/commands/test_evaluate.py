"""``evaluate`` on small finished runs."""

import csv
import shutil
from pathlib import Path

import pytest
from fakes import SMALL_RUN
from tiny_clip import save_tiny_clip

from dreamfusion_pl.cli import main
from dreamfusion_pl.commands.evaluate import notes, write
from dreamfusion_pl.data.world.colors import COLORS
from dreamfusion_pl.data.world.objects.catalog import OBJECT_NAMES
from dreamfusion_pl.evaluation.caption_retrieval import choices, distinct, own
from dreamfusion_pl.evaluation.ground_truth import NOTHING, Judgement
from dreamfusion_pl.metrics.retrieval import WorldJudge

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
        measures = {name: float(row[name]) for name in Judgement._fields}
        assert measures["iou"] <= measures["iou_free"] and -180.0 <= measures["yaw_deg"] < 180.0
        assert -1.0 <= measures["worst_lead"] < 0.5  # four steps make nothing that has a name
        for name in ("f_score", "normal_consistency", "backwards", "named"):
            assert 0.0 <= measures[name] <= 1.0
    markdown = Path("tables/evaluation.md").read_text()
    assert markdown.count("\n|") == 4 and "| mean |" in markdown
    assert "colour): chosen from 2 captions" in markdown and "fewer than the paper's 153" in markdown
    backwards = sum(float(row["backwards"]) for row in rows)
    assert f"facing backwards: {backwards:.0f} of 2" in markdown
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


def test_captions_from_a_file_are_distractors(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    few = [f"a {color} chair" for color in COLORS]
    many = [f"a {color} {name}" for color in list(COLORS)[:3] for name in OBJECT_NAMES]
    for captions, says_few in ((few, True), (many, False)):
        file = tmp_path / "captions.txt"
        lines = ["  A red   BALL ", "", *captions, "a unicorn on the moon", captions[0]]
        file.write_text("\n".join(lines), encoding="utf-8")
        assert evaluate("lightning_logs/version_0", "--captions", str(file), "--out", "with") == 0
        markdown = Path("with/evaluation.md").read_text()
        known = {*captions, "a red ball"}  # what is no object of the world is not for its classifier
        assert f"(world classifier, colour): chosen from {len(known)} captions" in markdown
        assert ("fewer than the paper's 153" in markdown) is says_few


def test_captions_are_told_apart_by_their_meaning():
    captions = distinct(["a red chair", "A red  chair", "a striped red chair", "a red mug", "a blue mug"])
    assert captions == ["a red chair", "a striped red chair", "a red mug", "a blue mug"]
    assert own(["a blue mug", "A red  chair"], "a red chair") == "A red  chair"
    for use_color, count in ((True, 3), (False, 2)):
        candidates = choices(WorldJudge(use_color), captions, "a striped red chair")
        assert len(candidates) == count and own(candidates, "a striped red chair")


def test_the_table_says_what_it_leaves_out(tmp_path, capsys):
    fine = NOTHING._replace(iou=0.5, yaw_deg=170.0, backwards=True, chamfer=0.02, f_score=0.4)
    rows = [
        {"run": name, "prompt": prompt, **{key: float(value) for key, value in one._asdict().items()}}
        for name, prompt, one in (("a", "a red chair", fine), ("b", "a blue mug", NOTHING))
    ]
    write(rows, notes(rows, {}), tmp_path)
    markdown = (tmp_path / "evaluation.md").read_text()
    assert "Objects facing backwards: 1 of 2 (a red chair)." in markdown
    assert "Objects without a surface: 1 of 2 (a blue mug)." in markdown
    header, mean = ([cell.strip() for cell in markdown.splitlines()[line].split("|")] for line in (0, 4))
    means = dict(zip(header, mean, strict=True))
    assert means["iou"] == "0.250" and means["f_score"] == "0.200" and means["backwards"] == "0.500"
    assert means["chamfer"] == "0.020" and means["yaw_deg"] == ""
    assert "R-Precision" not in markdown and markdown in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        (["nowhere"], "no finished run at nowhere"),
        (["lightning_logs", "--clip", "missing"], "no CLIP model 'missing'"),
        (["lightning_logs", "--azimuths", "0"], "--azimuths"),
        (["lightning_logs", "--elevation", "nan"], "--elevation"),
        (["lightning_logs", "--captions", "missing.txt"], "--captions missing.txt cannot be read"),
        (["lightning_logs", "--captions", "lightning_logs"], "--captions lightning_logs cannot be read"),
        (["lightning_logs", "--captions", "/dev/null"], "holds no caption"),
        (["lightning_logs", "--captions", "lightning_logs/version_0/checkpoints/last.ckpt"], "no UTF-8 text"),
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
