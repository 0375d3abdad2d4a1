"""The guide: its commands are accepted, its pages are in its index, and its pictures are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

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


def test_our_options_beside_those_of_other_code_are_ours(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = (DOCS / "coming_from.md").read_text("utf-8").split("## Settings")[1].split("\n## ")[0]
    ours = [line.split(" | ")[-1] for line in table.splitlines() if line.startswith("| `")]
    words = [shlex.split(code) for cell in ours for code in re.findall(r"`(--[^`]+)`", cell)]
    with_values = [word for option in words if len(option) > 1 for word in option]
    main(
        [
            "fit",
            "--config",
            "stable_diffusion.yaml",
            "--prompt",
            "a red chair",
            *with_values,
            "--print_config",
        ]
    )
    printed = capsys.readouterr()
    assert not printed.err and len(with_values) > 12
    config = yaml.safe_load(printed.out)
    for name in (option[0] for option in words):  # those that are named only are keys of the configuration
        node = config
        for key in name.removeprefix("--").split("."):
            node = node["init_args"] if isinstance(node, dict) and "init_args" in node else node
            assert key in node, name
            node = node[key]


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text("utf-8")
    assert [page.stem for page in PAGES if page.stem != "index" and f"\n{page.stem}\n" not in index] == []


def test_links_and_pictures_are_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert target.startswith("http") or (DOCS / target).exists(), f"{page.name}: {target}"
