"""``python -m dreamfusion_pl gallery RUN...``: a page with many runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from dreamfusion_pl.evaluation.finished_runs import find_runs, run_named
from dreamfusion_pl.evaluation.gallery_cards import card_of
from dreamfusion_pl.export.pages.gallery import write_gallery
from dreamfusion_pl.run_folder.layout import read_status
from dreamfusion_pl.terminal import guarded


def main(args: list[str]) -> int:
    """Run ``gallery``; return the exit status."""
    return guarded(lambda: gallery(_parser().parse_args(args)), "gallery")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dreamfusion_pl gallery",
        description="Write a page of runs with their turntables, metrics and links to their own pages; it "
        "filters by prompt. The runs stay where they are: the page links to them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "runs", type=run_named, nargs="+", metavar="RUN", help="run folder, a folder of them, or last"
    )
    parser.add_argument("--out", type=Path, default=Path("gallery.html"), help="the page")
    return parser


def gallery(options: argparse.Namespace) -> None:
    """Write the page.

    Raises:
        ValueError: there is no run at a path, or the page's name is invalid.
        OSError: the page cannot be written.
    """
    if options.out.suffix not in (".html", ".htm") or options.out.is_dir():
        raise ValueError(f"--out is a page's name, such as gallery.html; got {str(options.out)!r}")
    runs = find_runs(options.runs)
    cards = [card_of(run, options.out.parent, read_status(run)) for run in runs]
    write_gallery(f"{len(cards)} object{'s' if len(cards) != 1 else ''}", cards, options.out)
    print(f"gallery of {len(cards)}: {options.out}")
