"""``python -m dreamfusion_pl export RUN``: exports a finished object to mesh files."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from dreamfusion_pl.evaluation.finished_runs import TRUST_HELP, load, run_named
from dreamfusion_pl.export.asset import Settings, check, make_asset
from dreamfusion_pl.export.files.meshes import check_formats, write_asset
from dreamfusion_pl.export.quality import compare
from dreamfusion_pl.export.report import examine, sentence, write_report
from dreamfusion_pl.terminal import guarded

DEFAULTS = Settings(resolution=128, max_faces=20_000, texture_size=1024)


def main(args: list[str]) -> int:
    """Run ``export``; return the exit status."""
    return guarded(lambda: export(_parser().parse_args(args)), "export")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dreamfusion_pl export",
        description="Write a finished object as files that other programs open: glb, obj and usdz are "
        "textured, y up, front +z; ply (vertex colours) and stl (for printing) are z up, front +x.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("run", type=run_named, metavar="RUN", help="run folder, checkpoint, or last")
    parser.add_argument("--formats", default="glb", help="some of glb,obj,ply,stl,usdz")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the files")
    parser.add_argument("--name", default="object", help="their name without suffix")
    parser.add_argument(
        "--resolution", type=int, default=DEFAULTS.resolution, help="grid points along the longest side"
    )
    parser.add_argument("--threshold", type=float, help="density of the surface; found by default")
    parser.add_argument("--faces", type=int, default=DEFAULTS.max_faces, help="triangles at most")
    parser.add_argument(
        "--texture", type=int, default=DEFAULTS.texture_size, help="texture's height and width in pixels"
    )
    parser.add_argument("--size", type=float, help="longest side in metres; a world unit is 1 m by default")
    parser.add_argument(
        "--normal_map", action="store_true", help="put the field's normals into the glb, as a picture"
    )
    parser.add_argument(
        "--smallest_part",
        type=float,
        default=DEFAULTS.smallest_part,
        metavar="SHARE",
        help="parts with less than this share of the largest one's area are dropped as floaters; 0 keeps all",
    )
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    return parser


def export(options: argparse.Namespace) -> None:
    """Make the asset, write all formats and the report, and print a summary.

    Raises:
        ValueError: an option or the run is invalid, or the object has no surface.
        OSError: a file cannot be written.
    """
    suffixes = check_formats(options.formats)
    if not re.fullmatch(r"[\w().-][\w ().-]{0,99}", options.name) or options.name in (".", ".."):
        raise ValueError(
            "--name is a file's name without folder and suffix: up to 100 letters, digits, spaces and any of "
            f"_ . - ( ); got {options.name[:120]!r}"
        )
    settings = Settings(
        options.resolution,
        options.threshold,
        options.faces,
        options.texture,
        options.size,
        options.normal_map,
        options.smallest_part,
    )
    check(settings)
    model = load(options.run, options.trust)
    options.out.mkdir(parents=True, exist_ok=True)
    asset = make_asset(model.scene, settings, model.progress)
    for suffix in suffixes:
        print(f"{suffix[1:] + ':':8}{write_asset(asset, options.out / f'{options.name}{suffix}')}")
    report = examine(asset.mesh)
    quality = compare(model.scene, model.renderer, asset, model.progress)
    place = write_report(report, options.out / f"{options.name}.report.json", quality._asdict())
    print(f"report: {place}")
    print(sentence(report))
    print(
        f"beside the field's renders: outlines {quality.outline_iou:.3f} IoU, "
        f"colours {_decibels(quality.solid_db)} where the field is opaque, "
        f"{_decibels(quality.outline_db)} inside the outline, "
        f"{_decibels(quality.picture_db)} over whole pictures"
    )


def _decibels(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} dB"
