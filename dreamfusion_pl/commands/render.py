"""``python -m dreamfusion_pl render RUN``: videos and still images of a finished object."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from dreamfusion_pl.data.orbit import GRAY, orbit, ring
from dreamfusion_pl.evaluation.film import LIGHTS, Film
from dreamfusion_pl.evaluation.finished_runs import TRUST_HELP, load, run_named
from dreamfusion_pl.export.files.films import write_film, write_stills
from dreamfusion_pl.terminal import guarded

TRANSPARENT = "transparent"


def main(args: list[str]) -> int:
    """Run ``render``; return the exit status."""
    return guarded(lambda: render(_parser().parse_args(args)), "render")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dreamfusion_pl render",
        description="Film a finished object from a ring around it, from the front counter-clockwise: "
        "CHANNEL.mp4 and CHANNEL.gif, or with --stills (and on a transparent background) CHANNEL_000.png "
        "and so on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("run", type=run_named, metavar="RUN", help="run folder, checkpoint, or last")
    parser.add_argument("--frames", type=int, default=60, help="views around the object")
    parser.add_argument("--channel", choices=list(LIGHTS), default="color", help="what is shown")
    parser.add_argument(
        "--background",
        help=f"a colour (name or #rrggbb), or {TRANSPARENT}: stills only; without it black for "
        "opacity, which is white, and gray (#b8b8b8) for the rest",
    )
    parser.add_argument("--stills", action="store_true", help="write every frame as a PNG, and no film")
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels, up to 1024 (4 GB)")
    parser.add_argument("--fps", type=int, default=20, help="frames per second of the film")
    parser.add_argument("--elevation", type=float, default=15.0, help="of the cameras, in degrees")
    parser.add_argument(
        "--distance",
        type=float,
        help="of the cameras, in world units; without it 2.5 radii of the scene, at least 1.5",
    )
    parser.add_argument("--focal", type=float, default=1.2, help="focal length in picture widths")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the files")
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    return parser


def render(options: argparse.Namespace) -> None:
    """Render the frames and write them.

    Raises:
        ValueError: an option or the run is invalid.
        OSError: a file cannot be written.
    """
    if options.frames < 1 or options.fps < 1 or not 1 <= options.size <= 1024:
        raise ValueError(
            "--frames and --fps must be 1 or more and --size 1 to 1024, "
            f"got {options.frames}, {options.fps} and {options.size}"
        )
    if not -90.0 <= options.elevation <= 90.0:
        raise ValueError(f"--elevation must be in [-90, 90], got {options.elevation}")
    for name, length in (("--distance", options.distance), ("--focal", options.focal)):
        if length is not None and not (math.isfinite(length) and length > 0.0):
            raise ValueError(f"{name} must be a finite number above 0, got {length}")
    color = _background(options.background, options.channel)
    model = load(options.run, options.trust)
    distance = options.distance or max(1.5, 2.5 * model.scene.radius)  # outside of the scene
    size, azimuths = options.size, ring(options.frames)
    views = orbit(azimuths, options.elevation, distance, options.focal, size, size)
    frames, place = Film(model, options.channel, views, color), options.out / options.channel
    if color is None or options.stills:
        stills = write_stills(frames, place)
        print(f"{len(stills)} stills, the last one: {stills[-1]}")
        return
    for path in write_film(frames, place, options.fps):
        print(f"{path.suffix[1:]}: {path}")


def _background(name: str | None, channel: str) -> tuple[float, float, float] | None:
    """Return the colour behind the object; None: nothing."""
    if name is None:
        return (0.0, 0.0, 0.0) if channel == "opacity" else GRAY
    return None if name == TRANSPARENT else _color(name)


def _color(name: str) -> tuple[float, float, float]:
    """Convert a colour's name or #rrggbb to red, green and blue in [0, 1]."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise ValueError(
            f"--background is a colour such as white or #20a0ff, or {TRANSPARENT}; got {name!r}"
        ) from error
    return red / 255.0, green / 255.0, blue / 255.0
