"""Checks that a command makes before any long work starts."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

from pytorch_lightning import Trainer

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.configuration.prompt_words import words_warning
from dreamfusion_pl.diffusion.text.prompt_check import no_token_warning
from dreamfusion_pl.run_folder import layout


def check_writable(trainer: Trainer) -> None:
    """Raise ValueError if the run folder is not writable; OSError if the disk is full, which may change."""
    place = trainer.log_dir
    if place is None or not trainer.is_global_zero:
        return
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


def warn_of_unknown_words(model: DreamFusion) -> None:
    """Warn about words of the prompt that the prior does not know."""
    from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior

    if not isinstance(model.prior, PretrainedPrior):
        return
    if model.prior.is_builtin:
        message = words_warning(
            model.prompt, [*model.prompts.texts, model.prompts.settings.negative_prompt]
        )
    else:
        unknown = model.prior.unknown_words(" ".join([model.prompt, *model.prompts.texts]))
        message = no_token_warning(unknown) if unknown else None
    if message is not None:
        print(f"dreamfusion_pl: warning: {message}", file=sys.stderr)
