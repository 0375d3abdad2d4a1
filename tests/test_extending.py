"""The examples of docs/extending.md run as they stand, made small."""

import re
import shlex
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from fakes import SMALL_RUN
from gaussians import condition, gradient, pictures

from dreamfusion_pl.cli import main
from dreamfusion_pl.diffusion.noise import Uniform
from dreamfusion_pl.distillation.sds import ScoreDistillation

GUIDE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", GUIDE, re.DOTALL))
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as python -m does
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    imageio.imwrite(tmp_path / "picture.png", np.full((8, 8, 3), (200, 40, 40), dtype=np.uint8))
    return tmp_path


def test_there_is_a_command_for_every_example():
    modules = {Path(name).stem for name in FILES}
    assert len(modules) == 4
    assert {module for module in modules for line in COMMANDS if module in line} == modules


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command(command, folder, capsys):
    name, *words = shlex.split(command)[3:]
    # The small configuration comes first, so that the command's words count; the playground has its own.
    words = [*words, "--trainer.max_steps", "3"] if "playground.yaml" in words else [*SMALL_RUN, *words]
    assert main([name, *words]) == 0, capsys.readouterr().err
    run = folder / "lightning_logs" / "version_0"
    assert (run / "checkpoints" / "last.ckpt").exists()
    if "my_callback" in command:
        assert (run / "diary.txt").read_text(encoding="utf-8").count("opacity") == 4


def test_opposite_noise_has_the_same_mean_and_less_variance(folder):
    """On a Gaussian prior eps_hat - eps is linear in the noise, so that nothing of it is left."""
    from my_distillation import AntitheticDistillation

    z, here = pictures(1), {"guidance_scale": 2.0, "weighting": Uniform(), "t_min": 0.5, "t_max": 0.5 + 1e-9}
    pairs = [gradient(AntitheticDistillation(**here), z, condition(1), seed=seed) for seed in range(2)]
    torch.testing.assert_close(pairs[0], pairs[1])
    many = z.expand(4000, -1, -1, -1)
    mean = gradient(ScoreDistillation(**here), many, condition(4000)).mean(0, keepdim=True)
    torch.testing.assert_close(pairs[0], mean, rtol=0.0, atol=0.05)


def test_a_run_is_resumed_where_its_class_is_found(folder, tmp_path_factory, monkeypatch, capsys):
    own = ["--model.distillation", "my_distillation.AntitheticDistillation"]
    assert main(["fit", *SMALL_RUN, "--prompt", "a red ball", *own]) == 0
    resumed = ["fit", "--resume", str(folder / "lightning_logs" / "version_0"), "--trainer.max_steps", "5"]
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.delitem(sys.modules, "my_distillation")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(folder)])
    assert main(resumed) == 2
    assert "add its folder to PYTHONPATH" in capsys.readouterr().err
    monkeypatch.syspath_prepend(folder)
    assert main(resumed) == 0
