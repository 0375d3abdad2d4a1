"""Looking at a run is safe: what a command that only looks takes from the run's files.

A run's files may come from a stranger. They name classes, which configuration imports, and places to write.
A look takes classes of this package only, imports nothing else, and writes where the command says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jsonargparse
from jsonargparse import ArgumentError
from jsonargparse import _common as jsonargparse_settings

Tree = dict[str, Any]
PACKAGE = "dreamfusion_pl"
DREAMFUSION = f"{PACKAGE}.algorithm.DreamFusion"
PLACEHOLDER_PRIOR = f"{PACKAGE}.diffusion.placeholder.PlaceholderPrior"
_FITS = (None, DREAMFUSION)
STAND_INS = {  # without weights, for what a finished object does not need
    "prior": {"class_path": PLACEHOLDER_PRIOR},
    "distillation": {
        "class_path": f"{PACKAGE}.distillation.sds.ScoreDistillation",
        "init_args": {
            "guidance_scale": 0.0,
            "weighting": {"class_path": f"{PACKAGE}.diffusion.noise.Uniform"},
        },
    },
}
IMPORTABLE = [PACKAGE, "pytorch_lightning", "torch.optim"]  # Lightning's, for words of the command line
LOGGER: Tree = {
    "class_path": "pytorch_lightning.loggers.TensorBoardLogger",
    "init_args": {"save_dir": ".", "name": "lightning_logs", "default_hp_metric": False},
}
_PLACES = ("save_dir", "name", "version")  # arguments of a logger
_TEXTS = ("precision", "accelerator")  # a trainer's settings with names as values that a look keeps
_MACHINES = ("devices", "num_nodes")
_MOST_SETTINGS = 100_000


class ForeignClassError(ValueError):
    """A run names a class that is not of this package, and it was not said to be trusted."""


def object_arguments(arguments: Tree) -> Tree:
    """Return the arguments of DreamFusion that an object needs, with stand-ins for prior and distillation."""
    return {name: value for name, value in arguments.items() if name != "optimizer"} | STAND_INS


def without_distillation(checkpoint: Tree) -> Tree:
    """Return a checkpoint without the weights that its distillation owns, for which there is a stand-in."""
    weights = checkpoint["state_dict"].items()
    kept = {name: value for name, value in weights if not name.startswith("distillation.")}
    return {**checkpoint, "state_dict": kept}


def for_looking(tree: Tree, where: str, keeps_prior: bool) -> tuple[Tree, list[str]]:
    """Return what a look takes of a run's configuration, and the callbacks that it leaves out.

    Args:
        tree: the run's configuration.
        where: its file, for messages.
        keeps_prior: whether the prior and the distillation are needed.

    Raises:
        ValueError: the model or the data names a class that is not of this package.
    """
    model, trainer = tree.get("model"), tree.get("trainer")
    arguments = model.get("init_args") if isinstance(model, dict) else None
    if isinstance(model, dict) and isinstance(arguments, dict) and model.get("class_path") in _FITS:
        kept = {name: arguments[name] for name in STAND_INS if keeps_prior and name in arguments}
        model = {**model, "init_args": object_arguments(arguments) | kept}
    looked = {name: value for name, value in tree.items() if name in ("prompt", "seed_everything", "data")}
    looked |= {} if model is None else {"model": model}
    data = tree.get("data")
    if isinstance(data, dict) and isinstance(arguments := data.get("init_args"), dict):
        kept = {name: value for name, value in arguments.items() if name != "cache_dir"}
        looked["data"] = {**data, "init_args": kept}
    check_classes(looked, where)
    looked["trainer"], left_out = _trainer(trainer if isinstance(trainer, dict) else {})
    return looked, left_out


def _trainer(trainer: Tree) -> tuple[Tree, list[str]]:
    """Return the trainer's plain settings and the callbacks of this package, and the other callbacks."""
    plain = {
        name: value
        for name, value in trainer.items()
        if name not in _MACHINES and isinstance(value, str if name in _TEXTS else bool | int | float | None)
    }
    own, left_out = [], []
    callbacks = trainer.get("callbacks")
    for callback in callbacks if isinstance(callbacks, list) else []:
        name = str(callback.get("class_path")) if isinstance(callback, dict) else str(callback)
        if isinstance(callback, dict) and next(foreign_classes(callback), None) is None:
            own.append(callback)
        else:
            left_out.append(name)
    return {**plain, "logger": LOGGER, "callbacks": own}, left_out


def check_classes(tree: Any, where: str) -> None:
    """Check that a configuration names classes of this package and optimizers of torch only.

    Raises:
        ForeignClassError: it names another class.
        ValueError: it is too large for a configuration.
    """
    if (name := next(foreign_classes(tree), None)) is not None:
        raise ForeignClassError(_refusal(where, name))


def foreign_classes(tree: Any) -> Iterator[str]:
    """Yield the classes in a configuration that are neither of this package nor optimizers of torch.

    Raises:
        ValueError: it has more settings than any configuration.
    """
    rest, count = [tree], 0
    while rest:
        count += 1
        if count > _MOST_SETTINGS:
            raise ValueError(f"the run's configuration has more than {_MOST_SETTINGS} settings: it is none")
        part = rest.pop()
        if isinstance(part, dict):
            if "class_path" in part and not _is_own(part["class_path"]):
                yield str(part["class_path"])[:100]
            rest += part.values()
        elif isinstance(part, list | tuple):
            rest += part


def _is_own(name: Any) -> bool:
    is_known = isinstance(name, str) and name.startswith((f"{PACKAGE}.", "torch.optim."))
    return is_known or isinstance(name, str) and "." not in name  # a short name of a class that is imported


def with_own_place(tree: Tree) -> Tree:
    """Return a configuration whose logger writes to lightning_logs of the working folder."""
    trainer = tree.get("trainer")
    logger = trainer.get("logger") if isinstance(trainer, dict) else None
    if not isinstance(trainer, dict) or not isinstance(logger, dict):
        return tree
    given = logger.get("init_args") or {}
    kept = {name: value for name, value in given.items() if name not in _PLACES}
    arguments = {name: value for name, value in LOGGER["init_args"].items() if name in _PLACES} | kept
    return {**tree, "trainer": {**trainer, "logger": {**logger, "init_args": arguments}}}


@contextmanager
def own_classes_only(where: str) -> Iterator[None]:
    """Let configuration import classes of this package, Lightning and torch's optimizers only.

    This holds in every thread while the block runs. jsonargparse can be told so, but not that it is over: its
    settings are put back by hand.

    Raises:
        ForeignClassError: another class was named.
    """
    settings = jsonargparse_settings.parsing_settings
    before = dict(settings)
    jsonargparse.set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=IMPORTABLE)
    try:
        yield
    except (ArgumentError, ValueError) as error:
        denied = re.search(r"Importing '(.*?)' is not allowed, denied by", str(error))
        if denied is None:
            raise
        raise ForeignClassError(_refusal(where, denied[1])) from error
    finally:
        settings.update(before)


def _refusal(where: str, name: str) -> str:
    return (
        f"{where} names the class {name}, which is not of this package, and a look at a run imports no "
        "other. If you trust whoever made it as much as a program of theirs, add --trust"
    )
