"""Any text survives being written and read, whichever of the readers of YAML reads it."""

import random

import yaml
from jsonargparse import get_loader

from dreamfusion_pl.configuration import dialect

TEXTS = ["1e5", "1.5e5", ".5e3", "-1E-5", "true", "null", "~", "No", "2026-11-28", "0x1f", "1_000", "1:30"]
TEXTS += [".nan", ".inf", "=", "<<", "a: b", "# x", "a # b", "'", '"', "- a", "[a", "{a: b}", " a ", "\tx"]
TEXTS += ["a\nb", "\n", "", "\u00e9 \u2603 \U0001fa91", "\x85x", "\u2028y", "\ufeffa", "%s", "@x", "`y`"]
TEXTS += [
    "!tag",
    "&a",
    "*a",
    "|",
    "> x",
    "? x",
    ", a",
    "012",
    "1.",
    "+1.e3",
    "---",
    "...",
    "nan",
    "._",
    "._1",
]
PIECES = [*"0123456789eE+-._:#'\"{}[]~!&*|>%@, \n\t", "true", "null", "\u2028", "\U0001fa91"]


def test_any_text_is_read_as_it_was_written():
    draw = random.Random(0)
    texts = [*TEXTS, *("".join(draw.choices(PIECES, k=draw.randint(1, 8))) for _ in range(400))]
    for text in texts:
        tree = {"prompt": text, "list": [text]}
        written = dialect.dump(tree)
        for load in (dialect.load, yaml.safe_load, get_loader("yaml")):
            assert load(written) == tree, (text, written)


def test_numbers_stay_numbers():
    tree = {"a": 1e-20, "b": 1e22, "c": -3, "d": 0.5, "e": [True, None, float("inf")]}
    assert dialect.load(dialect.dump(tree)) == tree
    assert dialect.load("{a: 1e5, b: 2.5e-3, c: 2026-11-28}") == {"a": 1e5, "b": 2.5e-3, "c": "2026-11-28"}
