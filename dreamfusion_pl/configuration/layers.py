"""The configuration files of a command, and their order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dreamfusion_pl.configuration import classes, dialect, migration, words
from dreamfusion_pl.configuration.loss_unit import Below, below
from dreamfusion_pl.run_folder.checkpoint_io import has_weights_only, is_whole

_PACKAGE = Path(__file__).parent.parent
_IN_WHEEL = _PACKAGE / "configs"
PACKAGED = _IN_WHEEL if _IN_WHEEL.is_dir() else _PACKAGE.parent / "configs"  # the second in a checkout
RUNS = Path("lightning_logs")
ONE_COMMAND_ONLY = ("ckpt_path", "weights_only", "verbose", "return_predictions")


def flaw(checkpoint: Path) -> str:
    """Return what is wrong with a checkpoint; "" if it can be evaluated."""
    return "" if is_whole(checkpoint) else "is damaged, or another kind of file"


def flaw_for_fit(checkpoint: Path) -> str:
    """Return what is wrong with a checkpoint; "" if a fit can resume from it."""
    if is_whole(checkpoint) and has_weights_only(checkpoint):
        return (
            "has the weights only (save_weights_only: true), and no fit can go on without the optimizer's "
            "state; it can be validated, tested and exported"
        )
    return flaw(checkpoint)


class Config(NamedTuple):
    """One layer of configuration."""

    name: str  # its name in messages
    text: str  # YAML, or the path of a YAML file; given to the parser
    tree: dict[str, Any]


class Arguments(NamedTuple):
    """Arguments of a command, sorted by kind."""

    layers: list[Config]  # from general to specific
    checkpoint: Path | None
    rest: list[str]  # all other arguments, as written; they override the layers

    def flat(self) -> list[str]:
        """Return the arguments as one list."""
        flags = [word for layer in self.layers for word in ("--config", layer.text)]
        checkpoint = [] if self.checkpoint is None else ["--ckpt_path", str(self.checkpoint)]
        return [*flags, *self.rest, *checkpoint]


def arrange(args: list[str], flaw: Callable[[Path], str] = flaw, is_fit: bool = True) -> Arguments:
    """Collect the configuration of a fit, validate, test or predict command.

    The lowest layer is the configuration of the checkpoint's run, or without a checkpoint the packaged
    ``default.yaml``. There is none if the arguments or files name a model class.

    Args:
        args: the words after the command's name.
        flaw: returns why the command cannot use a checkpoint, or "".
        is_fit: whether the command continues the checkpoint's run. Other commands get a new folder, even if
            the run's configuration names one.

    Raises:
        ValueError: a file is missing or not a YAML mapping, or there is no usable checkpoint.
    """
    names, rest = _take(words.with_prompt(args), "--config", "-c")
    checkpoints, rest = _take(rest, "--ckpt_path", "--resume")
    given = [load(name) for name in names]
    in_files = [str(layer.tree["ckpt_path"]) for layer in given if layer.tree.get("ckpt_path")]
    checkpoints = [*in_files, *checkpoints]
    checkpoint = find_checkpoint(checkpoints[-1], flaw) if checkpoints else None
    if any(word.split("=")[0] in ("--model", "--model.class_path") for word in rest) or any(
        map(_model, given)
    ):
        lowest = []
    elif checkpoint:
        lowest = _layers_of_run(checkpoint, keeps_folder=is_fit)
    else:
        lowest = [load("default.yaml")]
    classes.introduce(words.class_names(rest, [layer.tree for layer in given]))
    return _updated([*lowest, *given], checkpoint, rest)


def _updated(configs: list[Config], checkpoint: Path | None, rest: list[str]) -> Arguments:
    """Bring layers and words up to date, from the lowest up, with a warning about old names."""
    updated, known = [], Below()
    for config in configs:
        tree, used = migration.update_tree(config.tree, known)
        if used:
            _warn(migration.warning(config.name, used))
            config = config._replace(text=dialect.dump(tree), tree=tree)
        known = below(tree, known)
        updated.append(config)
    rest, used = migration.update_words(rest, known)
    if used:
        _warn(migration.warning("the command line", used))
    return Arguments(updated, checkpoint, rest)


def _model(layer: Config) -> str | None:
    model = layer.tree.get("model")
    return model.get("class_path") if isinstance(model, dict) else None


def _take(args: list[str], *flags: str) -> tuple[list[str], list[str]]:
    """Split ``args`` into the values of the flags and everything else."""
    values, rest = [], []
    words = iter(args)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag not in flags:
            rest.append(word)
        elif equals:
            values.append(value)
        else:
            values.append(next(words, ""))
    return values, rest


def find(name: str) -> Path:
    """Return the file ``name`` in the working folder, or else the packaged file of that name.

    Raises:
        ValueError: neither exists.
    """
    for path in (Path(name), PACKAGED / Path(name).name):
        if name and path.is_file():
            return path
    packaged = ", ".join(sorted(path.name for path in PACKAGED.glob("*.yaml")))
    raise ValueError(f"no configuration file {name!r} here; the packaged ones are: {packaged}")


def load(name: str) -> Config:
    """Read a configuration file.

    Raises:
        ValueError: it is missing, or not a YAML mapping.
    """
    path = find(name)
    try:
        tree = dialect.load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no valid YAML: {error}") from error
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ValueError(f"{path} must be a YAML mapping such as 'trainer: {{max_steps: 400}}', got {tree!r}")
    if not tree:
        return Config(str(path), "{}", {})
    return Config(str(path), str(path), tree)


def _warn(message: str) -> None:
    print(f"dreamfusion_pl: warning: {message}", file=sys.stderr)


def find_checkpoint(name: str, flaw: Callable[[Path], str] = flaw) -> Path:
    """Return the newest usable checkpoint for ``name``.

    Args:
        name: a checkpoint file, a run folder, or ``last`` for the newest run in ``lightning_logs``.
        flaw: returns why a checkpoint cannot be used, or "".

    Raises:
        ValueError: there is no checkpoint, or none that can be used.
    """
    path = Path(name)
    if path.is_file():
        if reason := flaw(path):
            raise ValueError(
                f"the checkpoint {path} {reason}; pass its run folder to take the newest one that can be used"
            )
        return path
    if name == "last":
        found = list(RUNS.glob("version_*/checkpoints/*.ckpt"))
    else:
        found = [*path.glob("checkpoints/*.ckpt"), *path.glob("*.ckpt")]
    if not found:
        raise ValueError(
            f"no checkpoint at {name!r}: pass a .ckpt file, a run folder such as {RUNS / 'version_0'}, "
            f"or 'last' for the newest run in {RUNS}"
        )
    found.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    for checkpoint in found:
        reason = flaw(checkpoint)
        if not reason:
            return checkpoint
        _warn(f"{checkpoint} {reason}; looking for an older one")
    raise ValueError(
        f"every checkpoint at {name!r} is damaged or cannot be gone on from: start again without --resume"
    )


def _layers_of_run(checkpoint: Path, keeps_folder: bool) -> list[Config]:
    """Return the configuration of a checkpoint's run: its config.yaml, or else what the checkpoint holds."""
    saved = checkpoint.parent.parent / "config.yaml"
    if saved.is_file():
        tree = {key: value for key, value in load(str(saved)).tree.items() if key not in ONE_COMMAND_ONLY}
        logger = (tree.get("trainer") or {}).get("logger")
        if not keeps_folder and isinstance(logger, dict):
            logger.get("init_args", {}).pop("version", None)
        return [Config(str(saved), dialect.dump(tree), tree)]
    import torch

    stored = torch.load(checkpoint, map_location="cpu", weights_only=True).get("hyper_parameters", {})
    if "_class_path" not in stored:
        raise ValueError(
            f"{checkpoint} holds no configuration and there is no {saved}: "
            "pass the --config that the run was made with"
        )
    init = {key: value for key, value in stored.items() if not key.startswith("_") and key not in _LINKED}
    tree = {"model": {"class_path": stored["_class_path"], "init_args": init}}
    tree |= {_LINKED[key]: stored[key] for key in _LINKED if key in stored}
    layer = Config(str(checkpoint), dialect.dump(tree), tree)
    return [layer] if "prompt" not in stored else [load("default.yaml"), layer]


_LINKED = {"prompt": "prompt", "seed": "seed_everything"}  # model arguments linked to command arguments


def empty_leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of keys with an empty value; the parser accepts them silently even if unknown."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if value is None or value == {}:
                yield (*path, str(key))
            else:
                yield from empty_leaves(value, (*path, str(key)))
