"""The commands fit, validate, test and predict, built on LightningCLI."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, final

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.configuration import classes, dialect, layers, parsing, resuming, trust
from dreamfusion_pl.configuration.checkpoints import flaw, flaw_for_fit
from dreamfusion_pl.configuration.old_names import migration
from dreamfusion_pl.configuration.preflight import (
    check_optimizer,
    check_place,
    check_precision,
    check_writable,
    explained,
    remove_unused,
    warn_of_unknown_words,
)
from dreamfusion_pl.configuration.prompt_words import check_object, is_embedded
from dreamfusion_pl.diffusion.text.prompt_check import check_prompt
from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.run_folder.checkpoint_io import WholeCheckpoints
from dreamfusion_pl.run_folder.saved_config import SavedConfiguration
from dreamfusion_pl.terminal import guarded


def _do_nothing(model: LightningModule, trainer: Trainer) -> None:
    pass


def fit(args: list[str]) -> int:
    """Run ``fit``; return the exit status."""
    return guarded(lambda: fit_in_memory(args), "fit")


def fit_in_memory(
    args: list[str], before_fit: Callable[[LightningModule, Trainer], None] = _do_nothing
) -> None:
    """Run a fit; if GPU memory runs out, try once more, rendering one view at a time.

    The second try resumes from the run's last checkpoint, or starts again if there is none.

    Args:
        args: the words after ``fit``.
        before_fit: called with model and trainer before a fit starts, and before the second try.
    """
    run_folders: list[Path] = []

    def notice(model: LightningModule, trainer: Trainer) -> None:
        if isinstance(model, DreamFusion) and trainer.world_size == 1 and not model.renderer.views_at_once:
            run_folders.append(layout.run_folder(trainer))
        before_fit(model, trainer)

    try:
        RunCommand("fit", args, notice)
        return
    except torch.OutOfMemoryError as error:
        if not run_folders:
            raise
        print(f"dreamfusion_pl: warning: {error}; going on with one view at a time", file=sys.stderr)
    # Outside of the except block: its traceback would keep the memory in use. Trainer and model form a cycle.
    gc.collect()
    torch.cuda.empty_cache()
    (run,) = run_folders
    here = f"--trainer.logger.init_args.version={run.name}"
    start = [f"--resume={run}"] if any(run.glob("checkpoints/*.ckpt")) else [*args, here]
    RunCommand("fit", [*start, "--model.renderer.views_at_once=1"], before_fit)


def validate(args: list[str]) -> int:
    """Run ``validate``; return the exit status."""
    return guarded(lambda: RunCommand("validate", args), "validate")


def test(args: list[str]) -> int:
    """Run ``test``; return the exit status."""
    return guarded(lambda: RunCommand("test", args), "test")


def predict(args: list[str]) -> int:
    """Run ``predict``; return the exit status."""
    return guarded(lambda: RunCommand("predict", args), "predict")


PARSING = {"exit_on_error": False, "allow_abbrev": False}


@final
class RunCommand(LightningCLI):
    """Builds model, data and trainer from configuration files and arguments, and runs a command.

    Args:
        command: "fit", "validate", "test" or "predict".
        args: the words after it.
        before_fit: called with model and trainer before a fit starts.

    Raises:
        ValueError: an argument or a file is wrong.
    """

    def __init__(
        self,
        command: str,
        args: list[str],
        before_fit: Callable[[LightningModule, Trainer], None] = _do_nothing,
    ) -> None:
        self._command = command
        self._before_fit = before_fit
        is_fit = command == "fit"
        self._arguments = parsing.seeded(
            layers.arrange(args, flaw_for_fit if is_fit else flaw, is_fit), is_said=True
        )
        if command != "fit" and self._arguments.checkpoint is None and not set(args) & {"--help", "-h"}:
            raise ValueError(
                f"{command} needs the object to look at: --resume lightning_logs/version_0 (or: last)"
            )
        self._answer_help(args)
        self._made: list[Path] = []  # folders that this command has made
        looks_at = self._arguments.looks_at
        try:
            with trust.own_classes_only(looks_at) if looks_at else nullcontext():
                self._run()
        except Exception:
            if self._made and self.trainer.global_step == 0:
                remove_unused(self._made)
            raise

    def _run(self) -> None:
        super().__init__(
            LightningModule,
            LightningDataModule,
            save_config_callback=SavedConfiguration,
            save_config_kwargs={"save_to_log_dir": False},  # SavedConfiguration does
            seed_everything_default=0,
            trainer_defaults={"inference_mode": False},
            parser_kwargs=PARSING | {self._command: PARSING},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            args=[self._command, *self._arguments.flat()],
        )

    def _answer_help(self, args: list[str]) -> None:
        """Explain a class if that is asked for, and end; let ``--help`` list all classes."""
        if set(args) & {"--help", "-h"}:
            classes.introduce_all()
        text = parsing.help_for(self._arguments)
        if text is not None:
            print(text)
            raise SystemExit(0)

    def subcommands(self) -> dict[str, set[str]]:
        """Return only the command that runs: to build the parsers of all four costs every start time."""
        return {self._command: LightningCLI.subcommands()[self._command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the prompt, and link one seed to model and data."""
        parsing.add_own_arguments(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, with checks of names and numbers."""
        self.config = parsing.parse(parser, self._arguments, self._command)

    def _dump_config(self) -> None:
        """Set ``config_dump``, as Lightning's own method does, without validating the configuration again."""
        if not hasattr(self, "config_dump"):
            options = {"skip_validation": True, "skip_link_targets": False, "skip_none": False}
            text = self.parser.dump(self.config, **options)
            self.config_dump = dialect.load(text)[self._command]

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, with verified checkpoints and without Lightning's SLURM requeueing.

        Lightning's requeueing saves into the working folder, which all runs share. Here the callback
        ``Signals`` saves into the run folder, and the job script requeues (docs/batch.md).
        """
        self.config = self._saved_config  # the callback that saves it is made now
        if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
            kwargs["plugins"] = SLURMEnvironment(auto_requeue=False)
        trainer = super().instantiate_trainer(**kwargs)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # no other one was requested
            trainer.strategy.checkpoint_io = WholeCheckpoints(self._update_checkpoint)
        return trainer

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; what other packages refuse becomes one message.

        A run that goes on in place does so where it lies now.
        """
        self._saved_config = self.config
        self.config = self.config.clone()
        self.config[self._command] = resuming.in_place(self.config[self._command], self._arguments.place)
        with explained():
            super().instantiate_classes()

    def _update_checkpoint(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Return a checkpoint in today's names; a look has no parts of the distillation."""
        updated = migration.update_checkpoint(checkpoint)
        is_stand_in = bool(self._arguments.looks_at) and isinstance(self.model, DreamFusion)
        if not is_stand_in or self.model.distillation.state_dict():
            return updated
        return trust.without_distillation(updated)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: ``layers.arrange`` has made the checkpoint's configuration the lowest layer.

        Lightning's own method would let the checkpoint override the command line.
        """

    def before_instantiate_classes(self) -> None:
        """Check the prompt, and what changes in a run that goes on, before anything heavy is loaded."""
        config = self.config[self.config.subcommand]
        if self._command == "fit" and config.trainer.max_steps == 0:
            raise ValueError("--trainer.max_steps 0 makes nothing: give the number of steps, such as 400")
        model = config.model.get("init_args") or {}
        if self._command == "fit" and self._arguments.checkpoint is not None:
            resuming.check(self._arguments.checkpoint, config)
        if "prompt" in model:
            if model["prompt"] is None:
                raise ValueError('there is no prompt: say what to make, for example --prompt "a red chair"')
            check_prompt(model["prompt"])
            if self._command == "fit" and self._arguments.checkpoint is None and is_embedded(model):
                check_object(model["prompt"])

    def before_fit(self) -> None:
        """Called by Lightning when everything is built and checked."""
        self._before_fit(self.model, self.trainer)

    def after_instantiate_classes(self) -> None:
        """Make checkpoints self-contained, and run the checks that need the built objects."""
        self._dump_config()
        model = self.config_dump["model"]
        self.model.save_hyperparameters(
            {
                "_class_path": model["class_path"],
                **model.get("init_args", {}),
                "_instantiator": "pytorch_lightning.cli.instantiate_module",
            }
        )
        check_optimizer(self.model)
        if self._command == "fit" and self._arguments.checkpoint is not None:
            resuming.check_parts(self._arguments.checkpoint, self.model)
        if self._arguments.source is not None:
            resuming.begin_with(self.model, self._arguments.source, model["init_args"])
        self._made = check_writable(self.trainer)
        if isinstance(self.model, DreamFusion):
            check_precision(self.trainer)
            if self.subcommand == "fit" and self._arguments.checkpoint is None:
                check_place(self.trainer, self.model)
            warn_of_unknown_words(self.model)
