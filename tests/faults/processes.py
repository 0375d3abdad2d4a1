"""Small fits in processes of their own, for tests that kill or confine them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import torch
import yaml

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from fakes import finish  # noqa: E402

from dreamfusion_pl.configuration import layers  # noqa: E402
from dreamfusion_pl.run_folder.checkpoint_io import is_whole  # noqa: E402

SMALL = ["--config", str(TESTS / "small.yaml"), "--prompt=a red ball", "--trainer.val_check_interval=1000000"]
DEFAULT = yaml.safe_load((layers.PACKAGED / "default.yaml").read_text(encoding="utf-8"))
CALLBACKS = [
    {**one, "init_args": {"every": 2}} if one["class_path"].endswith("LastCheckpoints") else one
    for one in DEFAULT["trainer"]["callbacks"]
]


class Tally(NamedTuple):
    """What came of one kind of fault."""

    tried: int
    survived: int
    note: str = ""


def start(
    folder: Path, words: list[str], limit: int | None = None, **variables: str
) -> subprocess.Popen[str]:
    """Start the program in a folder; it may write no file larger than ``limit`` bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths} | variables

    def confine() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "dreamfusion_pl", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True, preexec_fn=confine
    )


def ends(folder: Path, words: list[str], status: int, said: str, **more: object) -> bool:
    """Whether the program ends with a status and one message that holds a text."""
    process = start(folder, words, **more)  # type: ignore[arg-type]
    _, errors = finish(process, timeout=600)
    good = process.returncode == status and said in errors and "Traceback" not in errors
    if not good:
        print(f"{words}: {process.returncode}\n{errors[-1500:]}", file=sys.stderr)
    return good


def run_of(folder: Path) -> Path:
    """Where a fit that was started in a folder leaves its results."""
    return folder / "runs" / "one"


def fit(folder: Path, *words: str) -> list[str]:
    """The words of a small fit with frequent checkpoints."""
    logger = "--trainer.logger.init_args"
    where = [f"{logger}.save_dir={folder / 'runs'}", f"{logger}.name=", f"{logger}.version=one"]
    return ["fit", *SMALL, f"--trainer.callbacks={json.dumps(CALLBACKS)}", *where, *words]


def state(run: Path) -> dict[str, torch.Tensor]:
    """Weights in the newest whole checkpoint of a run."""
    return torch.load(layers.find_checkpoint(str(run)), weights_only=True)["state_dict"]


def step_of(run: Path) -> int:
    """Step of the newest whole checkpoint; 0 before there is one."""
    if not any(run.glob("checkpoints/*.ckpt")):
        return 0
    return int(torch.load(layers.find_checkpoint(str(run)), weights_only=True)["global_step"])


def half_files(run: Path) -> list[Path]:
    """Checkpoints under a final name that are not whole."""
    return [path for path in run.glob("checkpoints/*.ckpt") if not is_whole(path)]


def finished_run(folder: Path) -> Path:
    """A run of six steps with two checkpoints."""
    assert ends(folder, fit(folder, "--trainer.max_steps=6"), 0, "")
    return run_of(folder)
