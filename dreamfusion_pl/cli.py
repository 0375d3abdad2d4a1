"""The command line: ``python -m dreamfusion_pl COMMAND ...``.

Heavy modules are imported only by the commands that need them, so that ``--help`` answers at once.
"""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NamedTuple

from dreamfusion_pl.batch.locks import HELD, told_locks
from dreamfusion_pl.commands.output import STATUS as READER_LEFT
from dreamfusion_pl.commands.output import ends_with_its_reader
from dreamfusion_pl.version import VERSION


class Command(NamedTuple):
    """A command and the function that runs it."""

    function: str  # "module:function"; takes the arguments after the command, returns an exit status
    help: str


COMMANDS = {
    "fit": Command(
        "dreamfusion_pl.runs:fit", "generate a 3D object from a prompt (or train a prior: denoiser.yaml)"
    ),
    "validate": Command("dreamfusion_pl.runs:validate", "render the preview sheet of a fit"),
    "test": Command("dreamfusion_pl.runs:test", "render the turntable video of a fit"),
    "predict": Command("dreamfusion_pl.runs:predict", "render the turntable's views as images"),
    "batch": Command("dreamfusion_pl.commands.batch:main", "many prompts on many cores, GPUs or machines"),
    "app": Command("dreamfusion_pl.app.command:main", "a local page to make objects in"),
    "export": Command(
        "dreamfusion_pl.commands.export:main", "write a finished object as glb, obj, ply, stl, usdz"
    ),
    "render": Command("dreamfusion_pl.commands.render:main", "render videos or stills of a finished object"),
    "gallery": Command("dreamfusion_pl.commands.gallery:main", "write a page of many runs"),
    "together": Command(
        "dreamfusion_pl.commands.together:main", "several fits in one process (batch --together)"
    ),
    "evaluate": Command("dreamfusion_pl.commands.evaluate:main", "score finished runs and write a table"),
    "embed": Command("dreamfusion_pl.commands.embed:main", "embed the texts of fits in advance"),
    "doctor": Command("dreamfusion_pl.commands.doctor:main", "check whether the prior can be loaded"),
    "world": Command(
        "dreamfusion_pl.data.world.sheet:main", "draw the objects that the embedded prior knows"
    ),
}

_USAGE = """\
usage: python -m dreamfusion_pl COMMAND [options]

Text to 3D by score distillation.

  python -m dreamfusion_pl fit --prompt "a red chair"
  python -m dreamfusion_pl test --resume lightning_logs/version_0

commands:
{commands}

  --help     this text
  --version  the version

Options of fit, validate, test and predict:
  --prompt TEXT         what to make
  --config FILE         YAML over the default configuration; may be repeated, later ones win
  --resume RUN          run folder, checkpoint, or "last", to continue or to look at (also --ckpt_path)
  --from RUN            run folder or checkpoint whose object a new fit begins with
  --trust               look at a run that names classes of other packages (of people you trust)
  --seed_everything N   random seed
  --print_config        show the whole configuration and stop
  --trainer.max_steps N, --model.learning_rate X, ...   any constructor argument
  --model.help, --data.help, --model.distillation.help [CLASS], ...
                        what the arguments of a class mean; without CLASS, of the one that is there
  --help all            options of the trainer, and all classes
"""


def usage() -> str:
    """Return the overview that ``--help`` shows."""
    return _USAGE.format(
        commands="\n".join(f"  {name:10} {command.help}" for name, command in COMMANDS.items())
    )


def main(args: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        args: command-line arguments without the program's name; None reads ``sys.argv``.

    Returns:
        Exit status: 0 success, 1 failure, 2 usage error, 4 if another process runs this fit of a batch, 130
        interrupted by Ctrl-C, 141 if whatever reads the output has ended.
    """
    words = list(sys.argv[1:] if args is None else args)
    with ends_with_its_reader() as told, told_locks() as is_free:
        status = _run(words) if is_free else _held()
    return READER_LEFT if told and status == 0 else status  # after its last step, a run does not stop for it


def _held() -> int:
    print("dreamfusion_pl: error: another process makes this object; it is left to that one", file=sys.stderr)
    return HELD


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    name, *rest = words
    if name == "--version":
        print(VERSION)
        return 0
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        print(f"dreamfusion_pl: error: no command {name!r}; the commands are: {known}", file=sys.stderr)
        return 2
    if COMMANDS[name].function.startswith("dreamfusion_pl.runs:"):
        if rest in (["--help"], ["-h"]):
            print(usage())
            return 0
        rest = ["--help"] if rest == ["--help", "all"] else rest
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # hides its advice; read at the first import
    # Threads that wait sleep, instead of spinning, which takes the core from the thread that they wait for if
    # another process is busy: steps took six times as long. OpenMP reads it when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    module, function = COMMANDS[name].function.split(":")
    try:
        return getattr(importlib.import_module(module), function)(rest)
    except KeyboardInterrupt as stop:  # a note holds the command to continue with, if it is not this one
        again = getattr(stop, "__notes__", [f"python -m dreamfusion_pl {shlex.join(words)}"])[0]
        print(f"stopped by Ctrl-C; go on with: {again}", file=sys.stderr)
        return 130
