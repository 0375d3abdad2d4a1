"""The commands fit, validate, test and predict: Lightning's command line with this package's manners."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any, final

import torch
from jsonargparse import ArgumentError
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from dreamfusion_pl import configs
from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.callbacks.notes import RunNotes
from dreamfusion_pl.diffusion.prompts import check_prompt, unknown_words_warning



class UsageError(ValueError):
    """Something the user can put right; its message says how."""


def fit(args: list[str]) -> int:
    """Run ``fit``; return the exit status."""
    return _guarded("fit", args)


def validate(args: list[str]) -> int:
    """Run ``validate``; return the exit status."""
    return _guarded("validate", args)


def test(args: list[str]) -> int:
    """Run ``test``; return the exit status."""
    return _guarded("test", args)


def predict(args: list[str]) -> int:
    """Run ``predict``; return the exit status."""
    return _guarded("predict", args)


def _guarded(command: str, args: list[str]) -> int:
    """Run a command and turn what the user can put right into one message."""
    _quieten()
    _use_all_cores()
    try:
        RunCommand(command, args)
    except ArgumentError as error:
        return _complain(f"{_plain(str(error))}\nSee python -m dreamfusion_pl {command} --help", 2)
    except (ValueError, MisconfigurationException) as error:
        return _complain(str(error), 2)
    except OSError as error:
        return _complain(f"{error}. Is there space left, and may this folder be written?", 1)
    return 0


def _complain(message: str, status: int) -> int:
    print(f"dreamfusion_pl: error: {message}", file=sys.stderr)
    return status


_USELESS_ADVICE = (  # warnings about the insides of Lightning and jsonargparse, or about what is meant to be so
    r"(?s).*isinstance.treespec, LeafSpec.* is deprecated",
    r"(?s).*JsonargparseDeprecationWarning",
    r".*does not have many workers",
    r".*WeightAveraging callback, but loading a checkpoint outside",
)
_NOISE = re.compile(
    r"Does not validate against any of the Union|Subtypes: |Errors:|- Expected a <class 'NoneType'>|Given value"
)


def _plain(message: str) -> str:
    """Drop the parser's own bookkeeping from its message."""
    lines = [line.strip().removeprefix("- ") for line in message.splitlines() if not _NOISE.search(line)]
    return "\n  ".join(line for line in lines if line)


def _use_all_cores() -> None:
    """Compute on the cores that this process may use, unless the user said otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _quieten() -> None:
    """Keep advice that is of no use here off the terminal."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _USELESS_ADVICE:
        warnings.filterwarnings("ignore", message=message)


@final
class RunCommand(LightningCLI):
    """Builds model, views and trainer from configuration files and arguments, and runs a command.

    Args:
        command: "fit", "validate", "test" or "predict".
        args: the words after it.

    Raises:
        UsageError: an argument or a file is wrong.
    """

    def __init__(self, command: str, args: list[str]) -> None:
        self._arguments = configs.arrange(args)
        if command != "fit" and self._arguments.checkpoint is None and not set(args) & {"--help", "-h"}:
            raise UsageError(
                f"{command} needs the object to look at: --ckpt_path lightning_logs/version_0 or --ckpt_path last"
            )
        super().__init__(
            LightningModule,
            LightningDataModule,
            save_config_callback=RunNotes,
            seed_everything_default=0,
            trainer_defaults={"inference_mode": False},
            parser_kwargs={"exit_on_error": False} | {command: {"exit_on_error": False}},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            args=[command, *self._arguments.flat()],
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the prompt, and let one seed serve all."""
        parser.add_argument("--prompt", type=str | None, default=None, help='What to make, e.g. "a red chair".')
        parser.link_arguments("prompt", "model.init_args.prompt")
        parser.link_arguments("seed_everything", "model.init_args.seed")
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and refuse what the parser lets pass."""
        self.config = parser.parse_args(args)
        config = self.config[self.config.subcommand]
        for layer in self._arguments.layers:
            for path in configs.empty_leaves(layer.tree):
                if path[-1] not in ("init_args", "dict_kwargs") and ".".join(path) not in config:
                    raise UsageError(f"{layer.name}: unknown key {'.'.join(path)!r} (it is empty); remove or rename it")

    def _parse_ckpt_path(self) -> None:
        """Do nothing: ``configs.arrange`` has put the checkpoint's configuration below the command line already.

        Lightning's own way lets what the checkpoint holds win over the command line.
        """

    def before_instantiate_classes(self) -> None:
        """Check the prompt before anything heavy is loaded."""
        config = self.config[self.config.subcommand]
        model = config.model.get("init_args") or {}
        if "prompt" in model:
            if model["prompt"] is None:
                raise UsageError('there is no prompt: say what to make, for example --prompt "a red chair"')
            check_prompt(model["prompt"])

    def after_instantiate_classes(self) -> None:
        """Make checkpoints self-contained, and check what only now can be checked."""
        self._dump_config()
        model = self.config_dump["model"]
        self.model.save_hyperparameters(
            {
                "_class_path": model["class_path"],
                **model.get("init_args", {}),
                "_instantiator": "pytorch_lightning.cli.instantiate_module",
            }
        )
        _check_writable(self.trainer)
        if isinstance(self.model, DreamFusion):
            _warn_of_unknown_words(self.model)


def _check_writable(trainer: Trainer) -> None:
    """Raise UsageError where the run folder cannot be made."""
    folder = trainer.log_dir
    if folder is None or not trainer.is_global_zero:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        probe = Path(folder) / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"the run folder {folder} cannot be written ({error.strerror}): run from another folder, "
            "or pass --trainer.logger.init_args.save_dir FOLDER"
        ) from error


def _warn_of_unknown_words(model: DreamFusion) -> None:
    from dreamfusion_pl.diffusion.pixel import PixelPrior

    if not isinstance(model.prior, PixelPrior):
        return
    unknown = model.prior.unknown_words(model.prompt)
    if unknown:
        from dreamfusion_pl.data.world.colors import COLORS
        from dreamfusion_pl.data.world.objects import OBJECTS

        print(f"Warning: {unknown_words_warning(unknown, sorted(OBJECTS), sorted(COLORS))}")
