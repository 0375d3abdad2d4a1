"""Checks that a command makes before any long work starts."""

from __future__ import annotations

import errno
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.configuration.prompt_words import words_warning
from dreamfusion_pl.diffusion.text.prompt_check import no_token_warning
from dreamfusion_pl.playground import Playground
from dreamfusion_pl.run_folder import layout


def check_writable(trainer: Trainer) -> list[Path]:
    """Make the run folder; return the folders that had to be made, the innermost first.

    Raises:
        ValueError: it is not writable.
        OSError: the disk is full, which may change.
    """
    place = trainer.log_dir
    if place is None or not trainer.is_global_zero:
        return []
    made = [folder for folder in (Path(place), *Path(place).parents) if not folder.exists()]
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        probe = Path(place) / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ValueError(
            f"the run folder {place} cannot be written ({error.strerror}): run from another folder, "
            "or pass --trainer.logger.init_args.save_dir FOLDER"
        ) from error
    return made


def remove_unused(made: list[Path]) -> None:
    """Remove the folder of a run that was refused before its first step, and the empty folders around it.

    Args:
        made: folders that this command made, the innermost first; nothing is removed if there are none.
    """
    if not made or (made[0] / layout.STATUS).exists() or any(made[0].glob("checkpoints/*.ckpt")):
        return
    shutil.rmtree(made[0], ignore_errors=True)
    for folder in made[1:]:
        if any(folder.iterdir()):
            return
        folder.rmdir()


def check_place(trainer: Trainer, model: DreamFusion) -> None:
    """Raise ValueError if a new fit would overwrite another run; delete older results of the same fit."""
    if trainer.is_global_zero:
        layout.make_room(Path(trainer.log_dir or trainer.default_root_dir), model.prompt, model.seed)


def check_precision(trainer: Trainer) -> None:
    """Raise ValueError if the scene's weights would not be float32."""
    if trainer.precision.endswith("-true") and trainer.precision != "32-true":
        raise ValueError(
            f"--trainer.precision {trainer.precision}: a scene's weights are float32, and so is what is "
            "rendered and exported of it; take 32-true, or bf16-mixed or 16-mixed on a GPU"
        )


def check_optimizer(model: LightningModule) -> None:
    """Raise ValueError if the optimizer cannot be built; Lightning builds it when the run has begun."""
    if isinstance(model, DreamFusion | Playground):
        with explained():
            model.make_optimizer([{"params": [torch.zeros(1, requires_grad=True)], "lr": 1e-3}])


def warn_of_unknown_words(model: DreamFusion) -> None:
    """Warn about words of the prompt that the prior does not know."""
    from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior

    if not isinstance(model.prior, PretrainedPrior):
        return
    source = (model.prompts.source_text or "").replace("{}", model.prompt)
    if model.prior.is_builtin:
        others = [*model.prompts.texts, model.prompts.settings.negative_prompt, source]
        message = words_warning(model.prompt, others)
    else:
        unknown = model.prior.unknown_words(" ".join([model.prompt, *model.prompts.texts, source]))
        message = no_token_warning(unknown) if unknown else None
    if message is not None:
        print(f"dreamfusion_pl: warning: {message}", file=sys.stderr)


@contextmanager
def explained() -> Iterator[None]:
    """Turn what classes of other packages raise for arguments that they cannot use into a ValueError.

    An error of any kind is one of the user's configuration if it comes from another package while objects are
    built; one that comes from this package is a bug, and stays what it is.

    Raises:
        ValueError: with the package and what it said.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        package = _origin(error)
        if package == __name__.partition(".")[0]:
            raise
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{package} cannot be built with these arguments: {said}") from error


def _origin(error: BaseException) -> str:
    """Return the package whose code raised an error, without the interpreter's own."""
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    packages = [name.partition(".")[0] for name in names]
    return [name for name in packages if name not in sys.stdlib_module_names and name != "jsonargparse"][-1]
