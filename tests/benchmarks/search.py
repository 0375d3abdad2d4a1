"""A small search over settings of a fit: the mean quality of every candidate over prompts and seeds.

    python tests/benchmarks/search.py --out search --candidates search.yaml [--jobs 2] [any option of fit]

A candidate is a line of the YAML: a name and the words that are added to the command. Prompts of the search
are chosen here and are not among those that a result should be reported on. Writes ``search.json``
and prints a table, best F-score first; finished fits are not repeated.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from fits import Fit, run_and_judge
from tables import table

PROMPTS = ("a red chair", "a red car", "a blue house", "a brown teddy bear", "a blue mug")
COLUMNS = ("iou", "f_score", "normal_consistency", "albedo_error", "named")


def summary(name: str, results: list[dict[str, Any]]) -> list[str]:
    """One row: means over prompts and seeds and the seconds of a fit."""
    means = [f"{mean(float(one[key]) for one in results):.3f}" for key in COLUMNS]
    return [name, str(len(results)), *means, f"{mean(one['seconds'] for one in results):.0f}"]


def main() -> None:
    """Run what is missing, judge, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--candidates", type=Path, required=True, help="YAML: a name and words of fit a line")
    parser.add_argument("--only", nargs="+", help="names of candidates")
    parser.add_argument("--prompts", nargs="+", default=list(PROMPTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    options, fit_options = parser.parse_known_args()
    candidates = yaml.safe_load(options.candidates.read_text(encoding="utf-8"))
    found: dict[str, list[dict[str, Any]]] = {}
    for name in options.only or candidates:
        fits = [
            Fit(prompt, seed, options.out / name / f"{prompt.replace(' ', '_')}_{seed}", words)
            for words in [(*fit_options, *shlex.split(candidates[name] or ""))]
            for seed in range(options.seeds)
            for prompt in options.prompts
        ]
        finished = [measures for _, measures in run_and_judge(fits, options.jobs)]
        if not finished:
            continue  # run_and_judge has said why
        found[name] = finished
        (options.out / "search.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        ranked = sorted(found.items(), key=lambda item: -mean(one["f_score"] for one in item[1]))
        print(
            table(["candidate", "results", *COLUMNS, "seconds"], [summary(*one) for one in ranked]),
            flush=True,
        )


if __name__ == "__main__":
    main()
