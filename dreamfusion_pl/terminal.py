"""Terminal behaviour of all commands: one message per error, quiet libraries, all CPU cores."""

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

ERROR = "dreamfusion_pl: error: "  # prefix of every error message
FAILED = 1  # exit status: failed, a retry may succeed
WRONG_USAGE = 2  # exit status: usage error, a retry fails again
GPU_SHARE = "DREAMFUSION_PL_GPU_SHARE"  # environment variable: this process's share of a GPU, in (0, 1)
DIVERGED = 3  # exit status: training diverged; another seed may succeed
_BOOKKEEPING = re.compile(
    r"Does not validate against|Subtypes: |Errors:|Expected a <class 'NoneType'>|"
    r"Problem with given class_path|Given value|Parser key"
)
_USELESS_ADVICE = (  # on internals of Lightning and jsonargparse, or on intended behaviour
    r"(?s).*isinstance.treespec, LeafSpec.* is deprecated",
    r"\s*By default only one JsonargparseDeprecationWarning",
    r"(?s).* was deprecated in v4\..* and will be removed in v5",
    r".*does not have many workers",
    r"Checkpoint directory .* exists and is not empty",  # a run that goes on in place
)


def guarded(action: Callable[[], object], command: str) -> int:
    """Run a command; report errors that the user can fix in one message with cause and cure.

    Args:
        action: the body of the command.
        command: its name.

    Returns:
        Exit status: 0 success, 1 failure, 2 usage error, 3 training diverged.

    Raises:
        KeyboardInterrupt: after Ctrl-C, even if Lightning turned it into SystemExit.
    """
    quieten()
    use_all_cores()
    limit_gpu_memory()
    try:
        action()
    except SystemExit as end:  # of --help and --print_config, for example
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
        destroy_process_group()
    return 0


def destroy_process_group() -> None:
    """Destroy the process group of a distributed run.

    Otherwise gloo's threads may outlive the interpreter and abort the process at exit; Lightning then kills
    rank 0 as well. Lightning itself destroys the process group for NCCL only.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()  # reference cycles through the trainer keep the group alive


def _explain(error: Exception, command: str) -> tuple[str, int] | None:
    """Return message (cause and cure) and exit status of an error; None if it is a bug."""
    if "surrogates not allowed" in str(error):
        cure = "set PYTHONUTF8=1 and let the terminal be UTF-8, or take names of plain letters"
        return f"a path or a text on the command line is not UTF-8 in this locale: {cure}", WRONG_USAGE
    if isinstance(error, ArgumentError):
        program = f"python -m dreamfusion_pl {command}"
        options = f"Options: {program} --model.help, --data.help, or --print_config for all values"
        return f"{plain(error)}\n{options}", WRONG_USAGE
    if isinstance(error, MisconfigurationException):
        cure = "Is that device in this machine? --trainer.accelerator auto takes what is there"
        return f"{error}\n{cure}", WRONG_USAGE
    if isinstance(error, DivergedError):
        return str(error), DIVERGED
    if isinstance(error, ValueError):
        return plain(error), WRONG_USAGE
    if isinstance(error, UnpicklingError):
        return f"the checkpoint contains more than tensors and plain data: {error}", WRONG_USAGE
    if isinstance(error, OSError):
        return f"{error}\nIs there space left, and may this folder be written?", FAILED
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
        cure = "Take fewer views or samples: --data.views_per_step, --model.renderer.num_samples"
        return f"{error}\n{cure}", FAILED
    if "grid_sampler_2d_backward is not implemented" in str(error):
        cure = "take --model.renderer.normals surface or finite_difference"
        return (
            f"exact normals of planes need torch 2.13, and this is {torch.__version__}: {cure}",
            WRONG_USAGE,
        )
    if "loading state_dict" in str(error):
        return f"the checkpoint is of another configuration: {error}", WRONG_USAGE
    if isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error):
        reason = str(error).splitlines()[0]
        cure = "See above why it ended; fit --resume RUN goes on, with the same --trainer.devices"
        return f"another process of this run is gone ({reason})\n{cure}", FAILED
    return None


def complain(message: str, status: int) -> int:
    """Print an error message to stderr; return ``status``."""
    print(f"{ERROR}{message}", file=sys.stderr)
    return status


def plain(error: Exception) -> str:
    """Shorten an error of jsonargparse to key and cause, as in ``model.scene.resolution: Expected a int``."""
    text = re.sub(r"NestedArg\(key='[^']*', val=(.*?)\)(?=$|\n)", r"\1", str(error))  # a type of jsonargparse
    text = re.sub(r'(?m)^(\s*Parser key "[^"]+":) (?=\S)', r"\1\n", text)
    lines = [line.strip().removeprefix("- ") for line in text.splitlines()]
    keys = [line.split('"')[1] for line in lines if line.startswith('Parser key "')]
    rest = [line for line in lines if line and not _BOOKKEEPING.match(line)]
    given = [line.removeprefix("Given value: ") for line in lines if line.startswith("Given value: ")]
    is_short = bool(given) and "{" not in given[0] and "Namespace(" not in given[0]
    if keys and is_short and rest and "Got value" not in rest[-1]:
        rest.append(f"Got value: {given[0]}")
    message = re.sub(r"<class '([\w.]+)'>", r"\1", ". ".join(rest) if keys else "\n".join(rest))
    return f"{'.'.join(keys)}: {message}" if keys else message


def use_all_cores() -> None:
    """Use all cores that this process may run on, unless OMP_NUM_THREADS is set."""
    if "OMP_NUM_THREADS" not in os.environ:
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        torch.set_num_threads(allowed or 1)


def limit_gpu_memory() -> None:
    """Limit GPU memory to this process's share if several processes share a GPU (batch --gpus 0.25).

    A tenth of the share is left for the CUDA context, which every process has.
    """
    if GPU_SHARE in os.environ and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(0.9 * float(os.environ[GPU_SHARE]))


def quieten() -> None:
    """Hide log messages and warnings of libraries that do not help the user."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _USELESS_ADVICE:
        warnings.filterwarnings("ignore", message=message)
