"""Every command of the README runs, the long ones cut short; the 30-step fit is the main job, end to end."""

import json
import re
import shlex
from pathlib import Path

import pytest
from fakes import SMALL_CALLBACKS, SMALL_EXPORT

import dreamfusion_pl
from dreamfusion_pl.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)
LINES = [
    line
    for kind, block in BLOCKS
    if kind == "bash"
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]
COMMANDS = [line for line in LINES if line.startswith("python -m dreamfusion_pl ")]
SNIPPETS = [block for kind, block in BLOCKS if kind == "python"]
RUN_ELSEWHERE = ("pip install ", "tensorboard ", "python tests/benchmarks/", "printf ")  # .ci/run, by hand
SMALL_MESH = ["--trainer.callbacks", json.dumps(SMALL_CALLBACKS)]
SHORT_FIT = ["--trainer.max_steps", "2", "--data.num_test_views", "4", "--data.look_resolution", "16"]
SHORT_FIT += SMALL_MESH
SHORT_TRAINING = ["--trainer.max_steps", "1", "--data.count", "64", "--data.batch_size", "4"]


SHORT_CONFIGS = {
    "autoencoder.yaml": [*SHORT_TRAINING, "--model.sample_every", "0"],
    "denoiser.yaml": [*SHORT_TRAINING, "--model.sample_every", "0"],
    "classifier.yaml": SHORT_TRAINING,
    "draft.yaml": SHORT_FIT,
    "playground.yaml": ["--trainer.max_steps", "2"],
    # The paper's network takes minutes with many samples and pixels.
    "paper.yaml": [
        *SHORT_FIT,
        *("--data.resolution", "8", "--data.turntable_resolution", "16", "--model.renderer.num_samples", "8"),
    ],
}


def cut_short(words: list[str]) -> list[str]:
    if words[0] == "batch":
        return [*words, "--seeds", "1", *SHORT_FIT]
    if words[0] == "export":
        return [*words, *SMALL_EXPORT]
    if words[0] == "world":
        return [*words, "--size", "16", "--views", "1"]
    if words[0] == "render":
        return [*words, "--frames", "2", "--size", "16"]
    if words[0] != "fit" or "--print_config" in words:
        return words
    if "--config" in words:
        return [*words, *SHORT_CONFIGS[words[words.index("--config") + 1]]]
    if "--seed_everything" in words:  # nothing is cut but the steps and the film
        return [*words, "--trainer.max_steps", "30", "--data.num_test_views", "4"]
    if "--resume" in words:  # one step more than the two of the first fit
        return [*words, *SHORT_FIT, "--trainer.max_steps", "3"]
    return [*words, *SHORT_FIT]


def test_no_command_is_forgotten():
    assert len(COMMANDS) > 5
    unknown = [line for line in LINES if line not in COMMANDS and not line.startswith(RUN_ELSEWHERE)]
    assert not unknown, "this test does not know how to run these"


def test_every_command_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first = re.search(r"&& (python -m dreamfusion_pl fit .*)", README)
    assert first, "the README's first command makes an object"
    Path("prompts.txt").write_text("a red mushroom\na blue donut\n", encoding="utf-8")  # printf's
    for command in [first.group(1), *COMMANDS]:
        words = cut_short(shlex.split(command)[3:])
        assert main(words) == 0, f"{words}: {capsys.readouterr().err}"
    runs = [run for run in (tmp_path / "lightning_logs").iterdir() if (run / "object.glb").exists()]
    assert len(runs) >= 2
    for run in runs:
        for name in ("config.yaml", "prompt.txt", "checkpoints/last.ckpt", "turntable.mp4", "turntable.gif"):
            assert (run / name).stat().st_size > 0
        assert list((run / "renders").glob("*.png"))


@pytest.mark.parametrize("code", SNIPPETS)
def test_every_snippet(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = dreamfusion_pl.generate
    monkeypatch.setattr(
        dreamfusion_pl, "generate", lambda prompt: whole(prompt, steps=2, options=SHORT_FIT[2:])
    )
    exec(code, {})
    assert list(tmp_path.glob("*.glb"))
