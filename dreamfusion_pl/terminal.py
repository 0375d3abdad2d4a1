"""Manners of the command line: errors in one message, no noise, all cores."""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from pickle import UnpicklingError

import torch
from jsonargparse import ArgumentError
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from dreamfusion_pl.callbacks.safety import DivergedError

ERROR = "dreamfusion_pl: error: "  # begins every message of what went wrong
FAILED = 1  # exit status of what may work another time
WRONG_USAGE = 2  # exit status of what cannot work however often it is repeated
GPU_SHARE = "DREAMFUSION_PL_GPU_SHARE"  # environment: the part of a GPU that is this process's, in (0, 1)
HOPELESS = 3  # of a fit of which nothing can come; with another seed it may
_BOOKKEEPING = re.compile(
    r"Does not validate against|Subtypes: |Errors:|Expected a <class 'NoneType'>|"
    r"Problem with given class_path|Given value|Parser key"
)
_USELESS_ADVICE = (  # about the insides of Lightning and jsonargparse, or about what is meant to be so
    r"(?s).*isinstance.treespec, LeafSpec.* is deprecated",
    r"\s*By default only one JsonargparseDeprecationWarning",
    r"(?s).* was deprecated in v4\..* and will be removed in v5",
    r".*does not have many workers",
)


def guarded(action: Callable[[], object], command: str) -> int:
    """Run ``action``; turn what the user can put right into one message with its cause and cure.

    Args:
        action: what the command does.
        command: its name.

    Returns:
        Exit status: 0 done, 1 failed, 2 wrong usage, 3 nothing can come of this run.

    Raises:
        KeyboardInterrupt: after Ctrl-C, also where Lightning makes another exception of it.
    """
    quieten()
    use_all_cores()
    keep_to_share()
    try:
        action()
    except SystemExit as end:  # --help and --print_config end so
        if isinstance(end.__context__, KeyboardInterrupt):
            raise end.__context__ from None
        return int(end.code or 0)
    except (
        ArgumentError,
        MisconfigurationException,
        ValueError,
        UnpicklingError,
        OSError,
        RuntimeError,
    ) as error:
        explained = _explain(error, command)
        if explained is None:
            raise
        return complain(*explained)
    finally:
        leave_group()
    return 0


def leave_group() -> None:
    """Close what connects this process with the others of its run.

    Left open, gloo's threads may outlive the interpreter and abort the process at its very end; Lightning
    then kills rank 0 as well. Lightning itself closes NCCL's alone.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()  # the trainer is part of cycles that hold on to the group


def _explain(error: Exception, command: str) -> tuple[str, int] | None:
    """Cause, cure and exit status of an error; None for one that only a programmer can put right."""
    if isinstance(error, ArgumentError):
        options = f"Options: python -m dreamfusion_pl {command} --help all, or --print_config"
        return f"{plain(error)}\n{options}", WRONG_USAGE
    if isinstance(error, MisconfigurationException):
        cure = "Is that device in this machine? --trainer.accelerator auto takes what is there"
        return f"{error}\n{cure}", WRONG_USAGE
    if isinstance(error, DivergedError):
        return str(error), HOPELESS
    if isinstance(error, ValueError):
        return plain(error), WRONG_USAGE
    if isinstance(error, UnpicklingError):
        return f"the checkpoint holds more than numbers, and is not opened: {error}", WRONG_USAGE
    if isinstance(error, OSError):
        return f"{error}\nIs there space left, and may this folder be written?", FAILED
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
        cure = "Take fewer views or samples: --data.views_per_step, --model.renderer.num_samples"
        return f"{error}\n{cure}", FAILED
    if "loading state_dict" in str(error):
        return f"the checkpoint is of another configuration: {error}", WRONG_USAGE
    if isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error):
        reason = str(error).splitlines()[0]
        cure = "See above why it ended; fit --resume RUN goes on, with the same --trainer.devices"
        return f"another process of this run is gone ({reason})\n{cure}", FAILED
    return None


def complain(message: str, status: int) -> int:
    """Print an error message; return ``status``."""
    print(f"{ERROR}{message}", file=sys.stderr)
    return status


def plain(error: Exception) -> str:
    """Say what the parser says without its bookkeeping, as in ``model.scene.resolution: Expected a int``."""
    lines = [line.strip().removeprefix("- ") for line in str(error).splitlines()]
    keys = [line.split('"')[1] for line in lines if line.startswith('Parser key "')]
    rest = [line for line in lines if line and not _BOOKKEEPING.match(line)]
    given = [line.removeprefix("Given value: ") for line in lines if line.startswith("Given value: ")]
    if keys and given and rest and "Got value" not in rest[-1] and "{" not in given[0]:
        rest.append(f"Got value: {given[0]}")
    message = re.sub(r"<class '([\w.]+)'>", r"\1", ". ".join(rest) if keys else "\n".join(rest))
    return f"{'.'.join(keys)}: {message}" if keys else message


def use_all_cores() -> None:
    """Compute on the cores that this process may use, unless OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        torch.set_num_threads(allowed or 1)


def keep_to_share() -> None:
    """Take no more of a GPU's memory than this process's share, where several share one (batch --gpus 0.25).

    A tenth of the share is left for what CUDA itself needs in every process.
    """
    if GPU_SHARE in os.environ and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(0.9 * float(os.environ[GPU_SHARE]))


def quieten() -> None:
    """Keep advice that is of no use to the user off the terminal."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _USELESS_ADVICE:
        warnings.filterwarnings("ignore", message=message)
