"""Exported objects judged: a table of runs with the Khronos validator, geometry, texture, time and memory.

    python tests/benchmarks/assets.py RUN... --out assets [--resolution 128 --faces 20000 --texture 1024]

Every run is exported in a process of its own, on one thread. The distance is that of points on the exported
surface from the field's isosurface at the same threshold, not smoothed. The validator is
asked where node is there and GLTF_VALIDATOR names the folder of `npm install gltf-validator`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import time
from pathlib import Path

import torch
from scipy.spatial import cKDTree

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.evaluation.finished_runs import find_runs, load
from dreamfusion_pl.export.asset import Asset, Settings, make_asset
from dreamfusion_pl.export.files.meshes import write_asset
from dreamfusion_pl.export.quality import compare
from dreamfusion_pl.export.report import examine
from dreamfusion_pl.export.surface.mesh import extract, surface_threshold
from dreamfusion_pl.metrics.geometry import surface_points

VALIDATE = """
const validator = require(process.argv[1] + "/node_modules/gltf-validator");
const bytes = new Uint8Array(require("fs").readFileSync(process.argv[2]));
validator.validateBytes(bytes).then((report) => console.log(JSON.stringify(report.issues)));
"""
COLUMNS = (
    "prompt",
    "errors",
    "warnings",
    "watertight",
    "components",
    "distance, voxels",
    "outline IoU",
    "solid, dB",
    "outline, dB",
    "picture, dB",
    "seconds",
    "CPU seconds",
    "peak, MB",
)


def judge(run: Path, settings: Settings, out: Path) -> dict[str, str | float]:
    """Export one run and measure the result; seconds and memory are those of loading, making and writing."""
    torch.set_num_threads(1)
    begin, cpu_begin = time.monotonic(), time.process_time()
    model = load(run)
    asset = make_asset(model.scene, settings, model.progress)
    path = write_asset(asset, out / f"{run.name}.glb")
    seconds, cpu_seconds = time.monotonic() - begin, time.process_time() - cpu_begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    quality = compare(model.scene, model.renderer, asset, model.progress)
    report, issues = examine(asset.mesh), validated(path)
    values = (
        model.prompt,
        issues.get("numErrors", "-"),
        issues.get("numWarnings", "-"),
        float(report.watertight),
        report.components,
        distance(model, asset, settings.resolution),
        quality.outline_iou,
        quality.solid_db,
        quality.outline_db,
        quality.picture_db,
        seconds,
        cpu_seconds,
        peak,
    )
    return dict(zip(COLUMNS, values, strict=True))


def distance(model: DreamFusion, asset: Asset, resolution: int) -> float:
    """Mean distance of the surface from the field's isosurface, in cells of the grid that it was made on."""
    threshold = surface_threshold(model.scene, model.progress)
    field = extract(model.scene, resolution, threshold, model.progress, smoothing=0.0)
    reference = surface_points(field.vertices, field.faces, count=400_000)
    points = surface_points(asset.mesh.vertices / asset.scale, asset.mesh.faces)
    sides = field.vertices.amax(0) - field.vertices.amin(0)
    nearest, _ = cKDTree(reference.numpy()).query(points.numpy())
    return float(nearest.mean()) / (float(sides.max()) / (resolution - 1))


def validated(path: Path) -> dict[str, int]:
    """What the Khronos validator counts; nothing where it is not there."""
    place = os.environ.get("GLTF_VALIDATOR", "")
    if not place or shutil.which("node") is None:
        return {}
    done = subprocess.run(
        ["node", "-e", VALIDATE, place, str(path)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def table(rows: list[dict[str, str | float]]) -> str:
    """Markdown, with the mean of every column of numbers."""

    def cell(value: str | float) -> str:
        return value if isinstance(value, str) else f"{value:.4g}"

    means = {
        name: sum(float(row[name]) for row in rows) / len(rows)
        if isinstance(rows[0][name], float | int)
        else "mean"
        for name in COLUMNS
    }
    lines = [list(COLUMNS), ["---"] * len(COLUMNS)]
    lines += [[cell(row[name]) for name in COLUMNS] for row in [*rows, means]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    """Judge every run, print the table and write it with the objects."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--faces", type=int, default=20_000)
    parser.add_argument("--texture", type=int, default=1024)
    options = parser.parse_args()
    settings = Settings(options.resolution, None, options.faces, options.texture)
    rows: list[dict[str, str | float]] = []
    for run in find_runs(options.runs):
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # a fresh process: its memory is the run's
            rows.append(pool.apply(judge, (run, settings, options.out)))
        print(rows[-1], flush=True)
    text = table(rows)
    (options.out / "assets.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
