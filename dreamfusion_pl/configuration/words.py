"""What the words of a command line mean before they are parsed: a prompt without its option, a drawn seed."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from typing import Any

from dreamfusion_pl.configuration import dialect

_ALONE = re.compile(r"-h|--help|--trust|--print_config(=.*)?|--[\w.]+\.help(=.*)?|--[^=]*=.*", re.DOTALL)
_CLASS_NAME = re.compile(r"[A-Z]\w*")
_CLASS = re.compile(r"(?!(True|False|None)$)([A-Za-z_]\w*\.)*[A-Z]\w*")  # with or without its module
SEED = "--seed_everything"
PROMPT = "--prompt"


def options(words: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the options of a command line with their values; "" is the option of a word that has none.

    The value of an option without one is None.
    """
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            yield "", word
        elif word.startswith("--") and "=" in word:
            name, _, value = word.partition("=")
            yield name, value
        elif _ALONE.fullmatch(word):
            yield word, None
        else:
            yield word, next(rest, None)


def classes_first(words: list[str]) -> list[str]:
    """Return the words with every option that names a class before the options of that class.

    The parser drops options that come before their class.
    """
    found = list[tuple[str, list[str]]]()
    for option, value, written in _split(words):
        name = option.replace(".init_args", "")
        if name.endswith(".class_path") or _CLASS.fullmatch(value or ""):
            name = name.removesuffix(".class_path")
            index = [before.startswith(f"{name}.") for before, _ in found]
            found.insert(index.index(True) if True in index else len(found), (name, written))
        else:
            found.append((name, written))
    return [word for _, written in found for word in written]


def _split(words: list[str]) -> Iterator[tuple[str, str | None, list[str]]]:
    """Yield options and values, as ``options`` does, each with the words that it is written in."""
    rest = list(words)
    for name, value in options(words):
        count = 2 if name and value is not None and "=" not in rest[0] else 1
        yield name, value, rest[:count]
        del rest[:count]


def with_prompt(words: list[str]) -> list[str]:
    """Return the words with ``--prompt`` before a text that stands alone, as in ``fit "a red chair"``.

    Raises:
        ValueError: there are several such texts, or one beside a ``--prompt``.
    """
    if any(word.endswith(".help") for word in words):  # its class may stand alone
        return words
    alone = [value for name, value in options(words) if name == "" and value is not None]
    if not alone:
        return words
    given = [value for name, value in options(words) if name == PROMPT]
    if len(alone) > 1 or given:
        texts = " ".join([*(value or "" for value in given), *alone])
        raise ValueError(
            f"{' and '.join(map(repr, alone))} belong to no option: put a prompt of several words in quotes, "
            f'as in --prompt "{texts}"'
        )
    return [
        word
        for name, value, written in _split(words)
        for word in (written if name else [f"{PROMPT}={value}"])
    ]


def text(value: object) -> str | None:
    """Return a text as it is; for jsonargparse, whose own ``str | None`` takes the text "null" for None.

    Raises:
        ValueError: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise ValueError(f"Expected a str. Got value: {value}; write it in quotes")
    return value


def class_names(words: list[str], trees: list[Any]) -> set[str]:
    """Return what looks like the name of a class without its module, on a command line or in files.

    Args:
        words: the command line.
        trees: contents of the files.
    """
    found = {value for name, value in options(words) if value and name not in ("", PROMPT)}
    for tree in trees:
        found |= set(_texts(tree))
    return {value for value in found if _CLASS_NAME.fullmatch(value)}


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _texts(value)


def drawn_seed(words: list[str], trees: list[Any]) -> int | None:
    """Return a new seed if the configuration asks for one, with true or false; None if it has a number.

    Args:
        words: the command line.
        trees: contents of the configuration files, from general to specific.

    Raises:
        ValueError: several processes, started from outside, would each draw their own.
    """
    given = [tree["seed_everything"] for tree in trees if "seed_everything" in tree]
    given += [dialect.load(value or "null") for name, value in options(words) if name == SEED]
    if not given or not isinstance(given[-1], bool):
        return None
    if "LOCAL_RANK" in os.environ and "PL_GLOBAL_SEED" in os.environ:  # started by Lightning's first process
        return int(os.environ["PL_GLOBAL_SEED"])
    if max(int(os.environ.get(name) or 1) for name in ("WORLD_SIZE", "SLURM_NTASKS")) > 1:
        raise ValueError(
            f"{SEED} true draws a seed in every process, and these must have the same: give a number"
        )
    return secrets.randbelow(2**32)
