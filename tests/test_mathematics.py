"""The map from the paper's equations to the code names only what exists."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "mathematics.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(dreamfusion_pl\.[\w.]+:[\w.]+)`", PAGE)))


def test_the_map_covers_the_paper():
    rows = re.findall(r"^\| ([^|]+) \|", PAGE, re.MULTILINE)
    for section in (
        "eq. 1",
        "eq. 3",
        "paper 2",
        "paper 2.1",
        "paper 3.1",
        "paper 3.2",
        "2a",
        "2b",
        "2c",
        "2g",
        "A.4",
    ):
        assert any(section in row for row in rows), section
    assert len(NAMES) > 30


@pytest.mark.parametrize("name", NAMES)
def test_it_exists(name):
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    assert callable(found) and found.__doc__, f"{name} is there but says nothing about itself"
