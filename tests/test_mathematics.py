"""The map from the seed's equations to the code names only what exists."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "mathematics.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(dreamfusion_pl\.[\w.]+:[\w.]+)`", PAGE)))


def test_the_map_covers_the_seed():
    rows = re.findall(r"^\| ([^|]+) \|", PAGE, re.MULTILINE)
    for section in ("eq. 1", "eq. 2", "3.1", "3.2", "3.3", "4", "5a", "5b", "5c", "5g", "5, 6", "A.4"):
        assert any(section in row for row in rows), section
    assert len(NAMES) > 30


@pytest.mark.parametrize("name", NAMES)
def test_it_exists(name):
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    assert callable(found) and found.__doc__, f"{name} is there but says nothing about itself"
