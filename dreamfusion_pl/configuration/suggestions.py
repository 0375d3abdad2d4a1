"""What was probably meant by a name that does not exist: an option, or a class."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from dreamfusion_pl.configuration import classes

MOST = 3  # suggestions in a message
_ALSO = {"lr": "learning_rate", "steps": "max_steps", "epochs": "max_epochs", "batch_size": "views_per_step"}
_LINKED = {"model.prompt", "model.seed", "data.seed"}  # follow --prompt and --seed_everything
_NOT_ACCEPTED = re.compile(
    r"^(?:(?P<group>[\w.]+): )?.*?Option '(?P<name>[\w.]+)' is not accepted", re.DOTALL
)
_UNRECOGNIZED = re.compile(r"unrecognized arguments: (?:.*? )?(?P<name>--?[\w.]+)")
_UNKNOWN_KEY = re.compile(r"unknown key '(?P<name>[\w.]+)'")
_NO_CLASS = re.compile(
    r"^(?P<group>[\w.]+): .*Expected a dot import path string: (?P<name>[\w.]*\w)", re.DOTALL
)
_NO_SUBCLASS = re.compile(
    r"^(?P<group>[\w.]+): .*?(?P<name>[\w.]+) is not a subclass of (?P<role>[\w.]+)", re.DOTALL
)


_NO_MODULE = re.compile(r"No module named '(?P<name>[\w.]+)'")


class Names(NamedTuple):
    """The names of a configuration."""

    options: set[str]  # dotted, without ``init_args``
    kinds: dict[str, str]  # of every group that is a class: its dotted name


def names_of(configuration: Mapping[str, Any]) -> Names:
    """Return the names of a full configuration."""
    options, kinds = set[str](), dict[str, str]()
    for path, value in _nodes(configuration):
        if path.endswith(".class_path"):
            kinds[path.removesuffix(".class_path")] = str(value)
        else:
            options.add(path)
    return Names(options - _LINKED, kinds)


def explain(message: str, names: Names, given: Mapping[str, str | None] | None = None) -> str:
    """Return an error message of the parser in plain words, with what was probably meant.

    Args:
        message: the message.
        names: names of the configuration without the words that are wrong; may be empty.
        given: options of the command line and their values.
    """
    if match := _NO_CLASS.match(message) or _NO_SUBCLASS.match(message):
        return _explain_class(match["group"], match["name"], names)
    if match := _NO_MODULE.search(message):
        cure = "If it is your own, add its folder to PYTHONPATH, or run from there; else install it"
        return f"{message}\n{cure}"
    for pattern in (_NOT_ACCEPTED, _UNRECOGNIZED, _UNKNOWN_KEY):
        if match := pattern.search(message):
            group = match.groupdict().get("group")
            name = match["name"].replace("init_args.", "").lstrip("-")
            wrong = f"{group}.{name}" if group else name
            found = [f"--{one}" for one in close_options(wrong, names.options) if one != wrong]
            cure = _did_you_mean(found) if found else _arguments(group, names, given or {})
            return f"{message}\n{cure}" if cure else message
    return message


def _arguments(group: str | None, names: Names, given: Mapping[str, str | None]) -> str:
    """Return a sentence with the arguments of the class of a group; "" if there is none."""
    name = given.get(f"--{group}") or given.get(f"--{group}.class_path") or names.kinds.get(group or "")
    kind = classes.locate(name) if name else None
    if kind is None:
        return ""
    return f"{kind.__name__} takes {', '.join(inspect.signature(kind).parameters) or 'no arguments'}"


def close_options(name: str, options: set[str]) -> list[str]:
    """Return the options that a wrong one resembles, the likeliest first.

    They have the same last part, or else the most similar one that there is.
    """
    leaves = {option.rpartition(".")[2] for option in options}
    leaf = name.rpartition(".")[2]
    leaf = _ALSO.get(leaf, leaf) if _ALSO.get(leaf) in leaves else leaf
    for one in [leaf] if leaf in leaves else get_close_matches(leaf, sorted(leaves), n=1, cutoff=0.75):
        same = sorted(option for option in options if option.rpartition(".")[2] == one)
        return get_close_matches(name, same, n=MOST, cutoff=0.0)
    return []


def unknown_class(words: Iterable[tuple[str, str | None]], names: Names) -> str | None:
    """Return the message for an option that names a class which cannot be found; None if there is none.

    Args:
        words: options of the command line and their values.
        names: names of the configuration without them.
    """
    for option, value in words:
        group = option.removeprefix("--").replace(".init_args", "").removesuffix(".class_path")
        is_class = group in {"model", "data", *names.kinds} and re.fullmatch(r"[A-Z]\w*", value or "")
        if is_class and value and value not in classes.modules():
            return _explain_class(group, value, names)
    return None


def _explain_class(group: str, name: str, names: Names) -> str:
    classes.introduce_all()
    role = classes.role(names.kinds.get(group, ""))
    known = [one for one in classes.finals(role) if one in classes.modules()] if role else []
    where = f"{group} must be a {role.__name__}" if role else f"{group} must be a class"
    found = get_close_matches(name.rpartition(".")[2], known or sorted(classes.modules()), n=1, cutoff=0.6)
    cure = _did_you_mean(found) if found else ""
    listed = f"Of this package: {', '.join(known)}. " if known else ""
    return (
        f"{where}, and {name} is none that can be imported. {cure}\n"
        f"{listed}Others by their dotted name, from a folder on PYTHONPATH"
    )


def _did_you_mean(found: list[str]) -> str:
    return f"Did you mean {' or '.join(found)}?"


def _nodes(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        inner = path if key in ("init_args", "dict_kwargs") else f"{path}.{key}".lstrip(".")
        if inner != path:
            yield inner, value
        yield from _nodes(value, inner)
