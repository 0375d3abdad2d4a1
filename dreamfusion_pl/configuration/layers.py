"""The configuration files of a command, and their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dreamfusion_pl.configuration import classes, dialect, trust, words
from dreamfusion_pl.configuration.checkpoints import find_checkpoint, flaw, place_of, warn
from dreamfusion_pl.configuration.old_names import migration
from dreamfusion_pl.configuration.old_names.loss_unit import Below, below

_PACKAGE = Path(__file__).parent.parent
_IN_WHEEL = _PACKAGE / "configs"
PACKAGED = _IN_WHEEL if _IN_WHEEL.is_dir() else _PACKAGE.parent / "configs"  # the second in a checkout
ONE_COMMAND_ONLY = ("ckpt_path", "weights_only", "verbose", "return_predictions")


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
    source: Path | None = None  # checkpoint of the run whose object a new fit begins with
    place: Path | None = None  # folder of the run that a fit goes on with, if it goes on in place
    looks_at: str = ""  # where a run that is looked at, and not trusted, has its configuration; "" otherwise

    def flat(self) -> list[str]:
        """Return the arguments as one list."""
        flags = [word for layer in self.layers for word in ("--config", layer.text)]
        checkpoint = [] if self.checkpoint is None else ["--ckpt_path", str(self.checkpoint)]
        source = [] if self.source is None else [f"--from={self.source}"]
        return [*flags, *self.rest, *checkpoint, *source]


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
    names, rest = _take(words.classes_first(words.with_prompt(args)), "--config", "-c")
    checkpoints, rest = _take(rest, "--ckpt_path", "--resume")
    sources, rest = _take(rest, "--from") if is_fit else ([], rest)
    given = [load(name) for name in names]
    checkpoints = [*_named(given, "ckpt_path"), *checkpoints]
    if checkpoints and sources:
        raise ValueError("--resume goes on with a run, and --from begins a new one: take one of the two")
    sources = [] if checkpoints else [*_named(given, "from"), *sources]
    checkpoint = find_checkpoint(checkpoints[-1], flaw) if checkpoints else None
    source = find_checkpoint(sources[-1]) if sources else None
    arguments = Arguments(given, checkpoint, rest, source)
    if any(word.split("=")[0] in ("--model", "--model.class_path") for word in rest) or any(
        map(_model, given)
    ):
        lowest = list[Config]()
    elif checkpoint and not is_fit:
        lowest, arguments = _layers_of_look(checkpoint, arguments)
    elif checkpoint:
        is_placed = _is_placed(rest, given)
        place = None if is_placed else place_of(checkpoint, checkpoints[-1])
        lowest = [layer if place or is_placed else _elsewhere(layer) for layer in layers_of_run(checkpoint)]
        arguments = arguments._replace(place=place)
    elif source:
        lowest = [_elsewhere(layer, is_new=True) for layer in layers_of_run(source)]
    else:
        lowest = [load("default.yaml")]
    classes.introduce(words.class_names(rest, [layer.tree for layer in given]))
    layers, rest = _updated([*lowest, *given], arguments.rest)
    return arguments._replace(layers=layers, rest=rest)


def _layers_of_look(checkpoint: Path, arguments: Arguments) -> tuple[list[Config], Arguments]:
    """Return the configuration of a run that is looked at, and the arguments without ``--trust``."""
    layers, said = layers_of_run(checkpoint), arguments.rest
    if "--trust" in said:
        rest = [word for word in said if word != "--trust"]
        return [_elsewhere(layer) for layer in layers], arguments._replace(rest=rest)
    needs_prior = any(word.startswith(("--model.prior", "--model.distillation")) for word in said)
    needs_prior |= any(_part(layer.tree, *path) for layer in arguments.layers for path in _PRIOR)
    looked_at = [_looked_at(layer, needs_prior) for layer in layers]
    return looked_at, arguments._replace(looks_at=layers[-1].name)


_PRIOR = [("model", "init_args", name) for name in trust.STAND_INS]


def _named(layers: list[Config], key: str) -> list[str]:
    return [str(layer.tree[key]) for layer in layers if layer.tree.get(key)]


def _part(tree: Any, *path: str) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def _is_placed(rest: list[str], given: list[Config]) -> bool:
    """Return whether the command line or a file says in which folder a run is to be."""
    logger = "--trainer.logger"
    places = [f".{name}" for name in ("save_dir", "name", "version")]
    said = (word.split("=")[0] for word in rest if word.startswith(logger))
    return any(word == logger or word.endswith(tuple(places)) for word in said) or any(
        _part(layer.tree, "trainer", "logger", "init_args", "version") for layer in given
    )


def _looked_at(layer: Config, needs_prior: bool) -> Config:
    """Return a run's configuration as far as a look takes it."""
    latents = _part(layer.tree, "model", "init_args", "latent_until") not in (None, 0, 0.0)
    tree, left_out = trust.for_looking(layer.tree, layer.name, needs_prior or latents)
    if left_out:
        names = ", ".join(left_out)
        warn(f"left out of this look, as they are not of this package: {names} (--trust takes them)")
    return Config(layer.name, _text(tree), tree)


def _elsewhere(layer: Config, is_new: bool = False) -> Config:
    """Return a run's configuration for another folder, which is not its own to choose.

    Args:
        layer: the configuration.
        is_new: whether it is for a new run, with fresh schedules.
    """
    tree = trust.with_own_place(layer.tree)
    if is_new:
        tree = {name: value for name, value in tree.items() if name not in ("from", "schedule_steps")}
    return Config(layer.name, _text(tree), tree)


def _updated(configs: list[Config], rest: list[str]) -> tuple[list[Config], list[str]]:
    """Bring layers and words up to date, from the lowest up, with a warning about old names."""
    updated, known = [], Below()
    for config in configs:
        tree, used = migration.update_tree(config.tree, known)
        if used:
            warn(migration.warning(config.name, used))
            config = config._replace(text=_text(tree), tree=tree)
        known = below(tree, known)
        updated.append(config)
    rest, used = migration.update_words(rest, known)
    if used:
        warn(migration.warning("the command line", used))
    return updated, rest


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
        text = path.read_text(encoding="utf-8")
        tree = dialect.load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no valid YAML: {error}") from error
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ValueError(f"{path} must be a YAML mapping such as 'trainer: {{max_steps: 400}}', got {tree!r}")
    if not tree:
        return Config(str(path), "{}", {})
    # jsonargparse would read the file in the locale's encoding, which on Windows is not UTF-8.
    return Config(str(path), str(path) if text.isascii() else _text(tree), tree)


def _text(tree: dict[str, Any]) -> str:
    """Return a configuration as text for the parser, which asks the file system whether it is a path."""
    return dialect.dump(tree, only_ascii=True)


def layers_of_run(checkpoint: Path) -> list[Config]:
    """Return the configuration of a checkpoint's run: its config.yaml, or else what the checkpoint holds."""
    saved = checkpoint.parent.parent / "config.yaml"
    if saved.is_file():
        tree = {key: value for key, value in load(str(saved)).tree.items() if key not in ONE_COMMAND_ONLY}
        return [Config(str(saved), _text(tree), tree)]
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
    layer = Config(str(checkpoint), _text(tree), tree)
    return [layer] if "prompt" not in stored else [load("default.yaml"), layer]


_LINKED = {"prompt": "prompt", "seed": "seed_everything"}  # model arguments linked to command arguments
