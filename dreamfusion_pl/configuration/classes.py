"""The classes that a configuration can name: where they are, and how their arguments are explained."""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from pathlib import Path
from typing import Any

_PACKAGE = "dreamfusion_pl"
_ROOMS = (
    "algorithm",
    "playground",
    "schedule",
    "optimizers",
    "scene",
    "rendering",
    "diffusion",
    "distillation",
    "data",
    "callbacks",
)  # those whose classes can be configured
_CLASS = re.compile(r"^class ([A-Z]\w*)", re.MULTILINE)


@cache
def modules() -> dict[str, tuple[str, ...]]:
    """Return the name of every public class of this package with its modules, without importing them."""
    found: dict[str, tuple[str, ...]] = {}
    root = Path(__file__).parent.parent
    for room in _ROOMS:
        for path in sorted((root / room).rglob("*.py")) or [root / f"{room}.py"]:
            module = ".".join([_PACKAGE, *path.relative_to(root).with_suffix("").parts])
            for name in _CLASS.findall(path.read_text(encoding="utf-8")):
                found[name] = (*found.get(name, ()), module)
    return found


def introduce(names: set[str]) -> None:
    """Import the modules of classes that are named without one, so that jsonargparse finds them by name."""
    for name in names & modules().keys():
        for module in modules()[name]:
            importlib.import_module(module)


def introduce_all() -> None:
    """Import every module with classes that can be configured, so that help lists all of them."""
    introduce(set(modules()))


def role(name: str) -> type | None:
    """Return the class of this package that a class with this dotted name stands in for, its first base here.

    None if there is no such class, or if it has no base in this package.
    """
    kind = locate(name)
    bases = [base for base in kind.__mro__[1:] if base.__module__.startswith(_PACKAGE)] if kind else []
    return bases[-1] if bases else None


def locate(name: str) -> type | None:
    """Return the class with a dotted name, or the class of this package with a plain one; None if absent."""
    if "." not in name:
        places = modules().get(name, ())
        if len(places) != 1:
            return None
        name = f"{places[0]}.{name}"
    try:
        kind = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError):
        return None
    return kind if isinstance(kind, type) else None


def finals(kind: type) -> list[str]:
    """Return the names of a role's imported classes that have no subclasses themselves."""
    below: list[type] = kind.__subclasses__()
    return sorted({name for sub in below for name in finals(sub)} if below else {kind.__name__})


def explain(kind: type, option: str) -> str:
    """Return what a class does and the options that its arguments are, as ``--help`` shows them.

    Args:
        kind: the class.
        option: the option that takes it, such as ``model.scene``.
    """
    from jsonargparse import ArgumentParser

    introduce_all()
    arguments: dict[str, Any] = {"fail_untyped": False, "sub_configs": False, "instantiate": False}
    parser = ArgumentParser(prog="", add_help=False, usage="")
    parser.add_class_arguments(kind, option, **arguments)
    name = f"{kind.__module__}.{kind.__name__}"
    return f"--{option} {name}\n\n{parser.format_help().partition(chr(10))[2].strip()}\n"
