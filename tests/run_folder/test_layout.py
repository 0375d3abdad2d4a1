"""The run folder is a contract: its tree, its status, and prompts that would like to break it."""

import json
import re
from pathlib import Path

import pytest
from fakes import SMALL_RUN

from dreamfusion_pl.cli import main
from dreamfusion_pl.run_folder import layout

RUN = Path("lightning_logs/version_0")
DOCUMENT = (Path(__file__).parents[2] / "docs" / "run_folder.md").read_text(encoding="utf-8")
TREE = [
    "checkpoints/last.ckpt",
    "config.yaml",
    "events.out.tfevents",
    "hparams.yaml",
    "object.glb",
    "object.report.json",
    "prompt.txt",
    "renders/step_000002.png",
    "status.json",
    "turntable.gif",
    "turntable.mp4",
    "viewer.html",
]
STATUS = {
    "format": int,
    "state": str,
    "prompt": str,
    "seed": int,
    "step": int,
    "max_steps": int,
    "started": str,
    "updated": str,
    "seconds": float,
    "device": str,
    "versions": dict,
    "metrics": dict,
    "skipped_steps": int,
    "notes": list,
    "files": dict,
}
PROMPTS = [
    "a red chair",
    '<script>alert("x")</script></title>',
    "../../etc/passwd\\..\\a:b*c?",
    "a chair \U0001fa91 \u202e椅子",
    ("chair " * 2000).strip(),
]


def fit(prompt: str) -> int:
    return main(["fit", *SMALL_RUN, "--prompt", prompt, "--trainer.max_steps", "2"])


@pytest.mark.parametrize("prompt", PROMPTS, ids=["plain", "html", "slashes", "letters", "long"])
def test_the_tree_and_the_status_of_a_finished_run(tmp_path, monkeypatch, prompt):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert fit(prompt) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["lightning_logs"]
    files = sorted(path.relative_to(RUN).as_posix() for path in RUN.rglob("*") if path.is_file())
    assert [re.sub(r"(tfevents)\..*", r"\1", name) for name in files] == TREE
    status = json.loads((RUN / "status.json").read_text(encoding="utf-8"))
    assert {name: type(value) for name, value in status.items()} == STATUS
    assert status["prompt"] == prompt and status["state"] == "finished"
    assert (RUN / "prompt.txt").read_text(encoding="utf-8") == f"{prompt}\n"
    assert set(status["files"]) == set(TREE) - {"events.out.tfevents", "hparams.yaml", "status.json"}
    page = (RUN / "viewer.html").read_text(encoding="utf-8")
    assert page.count("<h1>") == 1 and "<script>alert" not in page


def test_the_page_about_it_names_every_file_and_field():
    names = [text for name, text in vars(layout).items() if name.isupper() and isinstance(text, str)]
    for name in [*TREE, *STATUS, *names, "renders/azimuth_NNN.png", "samples/step_NNNNNN.png"]:
        assert re.sub(r"\d{6}", "NNNNNN", Path(name).name) in DOCUMENT, name


def test_a_prompt_in_another_encoding_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert fit("a chair \udce9") == 2
    assert "is not UTF-8" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
