"""What a fit may change when it goes on with a run, and a new fit that begins with the object of one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jsonargparse import Namespace
from pytorch_lightning import LightningModule

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.configuration.checkpoints import warn
from dreamfusion_pl.configuration.layers import layers_of_run
from dreamfusion_pl.configuration.old_names import migration
from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.run_folder.checkpoint_io import check_is_of_a_run, read_mapped

PROGRAM = "python -m dreamfusion_pl"


class Plan(NamedTuple):
    """What a fit makes, and in how many steps; None where it is not known."""

    prompt: str | None
    seed: int | None
    max_steps: int | None
    schedule_steps: int | None  # over which the schedules run, if not over ``max_steps``

    @property
    def course(self) -> int | None:
        """The number of steps over which the schedules run."""
        return self.schedule_steps or self.max_steps


def plan_of(tree: dict[str, Any]) -> Plan:
    """Return the plan in a configuration."""
    trainer = tree.get("trainer")
    prompt = tree.get("prompt")
    return Plan(
        None if prompt is None else str(prompt),
        _count(tree.get("seed_everything")),
        _count(trainer.get("max_steps") if isinstance(trainer, dict) else None),
        _count(tree.get("schedule_steps")),
    )


def _count(value: Any) -> int | None:
    return value if type(value) is int else None


def read(checkpoint: Path) -> tuple[int, dict[str, Any]]:
    """Return the steps that a checkpoint of a fit holds, and the checkpoint.

    Raises:
        ValueError: it is not a checkpoint of a fit.
    """
    import dreamfusion_pl.optimizers  # noqa: F401 - lets torch read the state of Shampoo

    stored = read_mapped(checkpoint)
    check_is_of_a_run(stored, checkpoint)
    return int(stored.get("global_step", 0)), stored


def check(checkpoint: Path, config: Namespace) -> None:
    """Check what a command changes in the run that it goes on with.

    Args:
        checkpoint: from which it goes on.
        config: the command's configuration, in which its own options override those of the run.

    Raises:
        ValueError: it asks for another object, or for fewer steps than the run has taken.
        SystemExit: the run has finished; 0.
    """
    step, stored = read(checkpoint)
    is_known = (checkpoint.parent.parent / "config.yaml").is_file() or "hyper_parameters" in stored
    before = plan_of(layers_of_run(checkpoint)[-1].tree if is_known else {})
    now, run = plan_of(config.as_dict()), _folder(checkpoint)
    prompt = stored["prompt"] if isinstance(stored.get("prompt"), str) else before.prompt
    if prompt is not None and now.prompt is not None and prompt.split() != now.prompt.split():
        raise ValueError(_other_object(run, f"of {prompt!r}", f"--prompt={shlex.quote(now.prompt)}"))
    if before.seed is not None and now.seed is not None and before.seed != now.seed:
        raise ValueError(_other_object(run, f"with seed {before.seed}", f"--seed_everything={now.seed}"))
    if now.max_steps is None or now.max_steps < 1:
        return
    if step > now.max_steps:
        raise ValueError(
            f"{run} is at step {step} and cannot go back to --trainer.max_steps {now.max_steps}: go on with "
            f"more steps than it has, or begin a new run: {PROGRAM} fit --config {run / 'config.yaml'} "
            f"--trainer.max_steps {now.max_steps}"
        )
    if step == now.max_steps and layout.read_status(run).get("state") == "finished":
        print(
            f"{run} is already finished at {step} of {now.max_steps}. To go on, add --trainer.max_steps with "
            f"more steps, and --schedule_steps {before.course} to keep the final values of the schedules"
        )
        raise SystemExit(0)
    if "schedule_steps" in (config.model.get("init_args") or {}):
        _warn_of_a_jump(run, step, before.course, now)


def check_parts(checkpoint: Path, model: LightningModule) -> None:
    """Check that the tensors of a run are those of the model that goes on with it.

    Raises:
        ValueError: a part of the model is another one.
    """
    stored = migration.update_checkpoint(read(checkpoint)[1])["state_dict"]
    own = model.state_dict()
    tensors = {name for name, value in own.items() if isinstance(value, torch.Tensor)} & stored.keys()
    differ = set(stored.keys() ^ own.keys())
    differ |= {name for name in tensors if stored[name].shape != own[name].shape}
    if differ:
        parts, run = sorted({name.partition(".")[0] for name in differ}), _folder(checkpoint)
        begin = f", or begin a new run with its object: {PROGRAM} fit --from {shlex.quote(str(run))}"
        cure = begin if isinstance(model, DreamFusion) else ""
        raise ValueError(
            f"{run} has another {' and '.join(parts)} than this configuration, and cannot go on with it: "
            f"leave out what changes that{cure}"
        )


def _other_object(run: Path, what: str, change: str) -> str:
    place = shlex.quote(str(run))
    return (
        f"{run} is the run {what}, and {change} asks for another one. Go on with it:\n"
        f"  {PROGRAM} fit --resume {place}\n"
        f"or begin a new run with its object:\n"
        f"  {PROGRAM} fit --from {place} {change}"
    )


def _warn_of_a_jump(run: Path, step: int, course: int | None, now: Plan) -> None:
    if course is None or now.course is None or course == now.course:
        return
    ends, begins = min(step / course, 1.0), min(step / now.course, 1.0)
    if ends != begins:
        warn(
            f"the schedules of {run} ran over {course} steps and now run over {now.course}: at step {step} "
            f"they jump from {ends:.2f} to {begins:.2f} of their course. --schedule_steps {course} keeps it, "
            "and after it their final values"
        )


def in_place(config: Namespace, run: Path | None) -> Namespace:
    """Return a configuration whose logger writes into a run that goes on, wherever it lies now.

    Args:
        config: the configuration; unchanged, as it is saved in the run.
        run: the run's folder; None changes nothing.
    """
    placed = config.clone()
    logger = placed.trainer.get("logger")
    if run is not None and isinstance(logger, Namespace) and "init_args" in logger:
        logger.init_args.update(Namespace(save_dir=str(run.parent), name="", version=run.name))
    return placed


def begin_with(model: LightningModule, source: Path, settings: dict[str, Any]) -> None:
    """Give a new model the weights of a run's scene and background: averaged ones, if the run has them.

    Args:
        model: the model; optimizer, schedules and step are its own.
        source: a checkpoint of the run.
        settings: the model's arguments.

    Raises:
        ValueError: the run has no such scene or background, or the model has none.
    """
    if not isinstance(model, DreamFusion):
        raise ValueError("--from begins with the object of a run: only a fit of a prompt has one")
    stored = migration.update_checkpoint(read(source)[1])
    weights, run = stored.get("state_dict", {}), _folder(source)
    for name, part in (("scene", model.scene), ("background", model.background)):
        start = f"{name}."
        own = {key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}
        try:
            part.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(
                f"the {name} of {run} is another one than this configuration's, so no run can begin with it: "
                f"leave out what changes --model.{name} ({str(error).splitlines()[-1].strip()})"
            ) from error
        before = stored.get("hyper_parameters", {}).get(name)
        if before is not None and before != settings.get(name):
            warn(f"--model.{name} differs from that of {run}: the new run begins not quite as its object")


def _folder(checkpoint: Path) -> Path:
    """Return the run folder of a checkpoint, or the checkpoint if it is in none."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint
