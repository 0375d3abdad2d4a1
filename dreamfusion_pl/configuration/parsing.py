"""Parses the arguments of a command, says what was probably meant, and checks the numbers."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Iterator
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser

from dreamfusion_pl.configuration import classes, dialect, layers, limits, suggestions, words
from dreamfusion_pl.terminal import plain


def parse(parser: ArgumentParser, arguments: layers.Arguments, command: str | None = None) -> Namespace:
    """Return the configuration of a command, before anything is built from it.

    Args:
        parser: takes the arguments after ``command``, or with it if there is one.
        arguments: the arguments.
        command: the subcommand of the parser.

    Raises:
        ArgumentError: an argument is wrong; the message says what was probably meant.
        ValueError: a number is out of range, or a file has an unknown key.
    """
    before = [] if command is None else [command]
    others = [word for word in arguments.rest if word.partition("=")[0] != "--print_config"]
    try:
        if others != arguments.rest:  # it prints and ends before unknown options are found
            parser.parse_args([*before, *arguments._replace(rest=others).flat()])
        whole = parser.parse_args([*before, *arguments.flat()])
    except ArgumentError as error:
        known = _names_without(parser, arguments, before)
        given = dict(words.options(arguments.rest))
        message = suggestions.unknown_class(given.items(), known)
        raise ArgumentError(None, message or suggestions.explain(plain(error), known, given)) from error
    configuration = whole if command is None else whole[command]
    _refuse_empty_keys(configuration, arguments)
    tree = configuration.as_dict()
    limits.check_numbers(tree)
    limits.check_trainer(tree["trainer"])
    return whole


def _names_without(
    parser: ArgumentParser, arguments: layers.Arguments, before: list[str]
) -> suggestions.Names:
    """Return the names of as many layers as can be parsed, without the words."""
    for count in range(len(arguments.layers), 0, -1):
        fewer = layers.Arguments(arguments.layers[:count], None, [])
        try:
            tree = parser.parse_args([*before, *fewer.flat()]).as_dict()
        except ArgumentError:
            continue
        return suggestions.names_of(tree[before[0]] if before else tree)
    return suggestions.Names(set(), {})


def _refuse_empty_keys(configuration: Namespace, arguments: layers.Arguments) -> None:
    """Refuse unknown keys that are empty, which the parser accepts."""
    for layer in arguments.layers:
        for path in empty_leaves(layer.tree):
            is_known = path[-1] in ("init_args", "dict_kwargs") or ".".join(path) in configuration
            if not is_known and not _is_of_another_class(path, layer.tree, configuration):
                raise ValueError(
                    f"{layer.name}: unknown key {'.'.join(path)!r} (it is empty); remove or rename it"
                )


def _is_of_another_class(path: tuple[str, ...], tree: dict[str, Any], configuration: Namespace) -> bool:
    """Whether a key belongs to a class in whose place something else has put another one."""
    node: Any = tree
    for depth, key in enumerate(path):
        if "class_path" in node:
            now = configuration.get(".".join([*path[:depth], "class_path"]))
            if str(now).rpartition(".")[2] != str(node["class_path"]).rpartition(".")[2]:
                return True
        node = node[key]
    return False


def empty_leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of keys with an empty value; the parser accepts them silently even if unknown."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if value is None or value == {}:
                yield (*path, str(key))
            else:
                yield from empty_leaves(value, (*path, str(key)))


def seeded(arguments: layers.Arguments, is_said: bool = False) -> layers.Arguments:
    """Draw a seed if the arguments ask for one instead of giving one, and say which."""
    seed = words.drawn_seed(arguments.rest, [layer.tree for layer in arguments.layers])
    if seed is None:
        return arguments
    if is_said:
        print(f"the seed of this run is {seed}", file=sys.stderr, flush=True)
    return arguments._replace(rest=[*arguments.rest, f"{words.SEED}={seed}"])


def help_for(arguments: layers.Arguments) -> str | None:
    """Return the explanation that ``--model.scene.help`` or ``--model.scene.help CLASS`` asks for.

    Without a class it is the one that the configuration has there. None if nothing of the kind is asked for.

    Raises:
        ValueError: there is no such class.
    """
    asked = [index for index, word in enumerate(arguments.rest) if word.partition("=")[0].endswith(".help")]
    if not asked:
        return None
    word, *rest = arguments.rest[asked[0] :]
    name, _, value = word.partition("=")
    option = name.removeprefix("--").removesuffix(".help").replace(".init_args", "")
    named = value or (rest[0] if rest and not rest[0].startswith("-") else "")
    kind = classes.locate(named) if named else _kind_at(option.split("."), arguments)
    if kind is None:
        message = f"{option}: Expected a dot import path string: {named or option}"
        raise ValueError(suggestions.explain(message, suggestions.Names(set(), {})))
    return classes.explain(kind, option)


def _kind_at(path: list[str], arguments: layers.Arguments) -> type | None:
    """Return the class at a place of the configuration: the one that a file names, or the argument's type."""
    for layer in reversed(arguments.layers):
        node: Any = layer.tree
        for key in path:
            node = node.get("init_args", node) if isinstance(node, dict) else None
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict) and "class_path" in node:
            return classes.locate(node["class_path"])
    parent = _kind_at(path[:-1], arguments) if len(path) > 1 else None
    if parent is None:
        return None
    hint = typing.get_type_hints(vars(parent)["__init__"]).get(path[-1])
    kinds = [one for one in (hint, *typing.get_args(hint)) if inspect.isclass(one)]
    return next((one for one in kinds if one.__module__.startswith("dreamfusion_pl")), None)


def read_configuration(args: list[str]) -> dict[str, Any]:
    """Return the full configuration of a fit with these arguments, without building or validating it.

    Raises:
        ArgumentError: an argument is wrong.
        ValueError: a file is wrong.
    """
    parser = LightningArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_argument("--seed_everything", type=bool | int, default=0)
    for name in layers.ONE_COMMAND_ONLY:  # in a config.yaml, and shown by --print_config
        parser.add_argument(f"--{name}", type=Any)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    add_own_arguments(parser)
    config = parse(parser, seeded(layers.arrange(args)))
    text = parser.dump(config, skip_validation=True, skip_link_targets=False, skip_none=False)
    return dialect.load(text)


def add_own_arguments(parser: LightningArgumentParser) -> None:
    """Add the arguments of a fit that are not those of a class, and link them to model and data."""
    parser.add_argument("--prompt", type=words.text, default=None, help='What to make, e.g. "a red chair".')
    parser.add_argument("--from", type=str | None, default=None, help="Run whose object a new run starts as.")
    steps = "Steps over which the schedules run; then they keep their final values. null: trainer.max_steps."
    parser.add_argument("--schedule_steps", type=int | None, default=None, help=steps)
    parser.link_arguments("prompt", "model.init_args.prompt")
    parser.link_arguments("schedule_steps", "model.init_args.schedule_steps")
    parser.link_arguments("schedule_steps", "data.init_args.schedule_steps")
    parser.link_arguments("seed_everything", "model.init_args.seed")
    parser.link_arguments("seed_everything", "data.init_args.seed")
