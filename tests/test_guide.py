"""The guide: its commands are accepted, its pages are in its index, and its pictures are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dreamfusion_pl.cli import main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
BASH = re.compile(r"```bash\n(.*?)```", re.DOTALL)
FIT = "python -m dreamfusion_pl fit "


def commands() -> list[str]:
    """Commands of fit in all pages, without those that name something of the reader's, in capitals."""
    found = [
        line
        for page in PAGES
        for block in BASH.findall(page.read_text("utf-8"))
        for line in block.replace("\\\n", " ").splitlines()
    ]
    rows = re.findall(r"^\| \d+ \| `(--[^`]+)`", (DOCS / "better.md").read_text("utf-8"), re.MULTILINE)
    found += [f'{FIT}--prompt "a red chair" {row}' for row in rows]
    own = re.compile(r"\b[A-Z]{3,}\b|--resume|--from|my_|=auto")
    return sorted({line for line in found if line.startswith(FIT) and not own.search(line)})


@pytest.mark.parametrize("command", commands())
def test_a_command_is_accepted(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command, comments=True)[3:]
    if "--prompt" not in words and "playground.yaml" not in words:
        words += ["--prompt", "a red chair"]
    assert main([*words, "--print_config"]) == 0, capsys.readouterr().err


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text("utf-8")
    assert [page.stem for page in PAGES if page.stem != "index" and f"\n{page.stem}\n" not in index] == []


def test_links_and_pictures_are_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert target.startswith("http") or (DOCS / target).exists(), f"{page.name}: {target}"
