"""Files of a finished object in every format, made by ``export`` when they are asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import zipfile
from pathlib import Path

from dreamfusion_pl.app.look import tail
from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.batch.worker import LOGGED, PROGRAM
from dreamfusion_pl.export.files.meshes import FORMATS
from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.terminal import ERROR

PLACE = ".downloads"  # in the page's folder
SUFFIXES = {suffix[1:]: ".zip" if suffix == ".obj" else suffix for suffix in FORMATS}  # format: file's suffix
MOST_SECONDS = 900.0  # that an export may take
_ONE_AT_A_TIME = threading.Lock()  # an export takes as much memory as a fit


def file_of(out: Path, key: str, form: str) -> Path:
    """Return where the file of a run in a format is, or will be. ``object.glb`` is the run's own.

    Raises:
        KeyError: there is no such format.
    """
    if form == "glb" and (out / key / layout.OBJECT).is_file():
        return out / key / layout.OBJECT
    return out / PLACE / key / f"object{SUFFIXES[form]}"


def name_of(key: str, form: str) -> str:
    """Return the name under which a file is saved, such as ``a-red-chair-seed_0.glb``."""
    slug, _, seed = key.partition("/")
    return f"{slug.rpartition('-')[0] or 'object'}-{seed}{SUFFIXES[form]}"


def make(out: Path, key: str, form: str, words: tuple[str, ...] = ()) -> Path:
    """Make the file of a run in a format, unless it is there; return it.

    Args:
        out: the page's folder.
        key: the run.
        form: a key of ``SUFFIXES``.
        words: further options of ``export``.

    Raises:
        ValueError: ``export`` failed; the message is what it said.
    """
    run, target = out / key, file_of(out, key, form)
    with _ONE_AT_A_TIME:
        if target.is_file() and target.stat().st_mtime >= _made(run):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as place:
            _export(run, form, Path(place), words)
            made = [file for file in sorted(Path(place).glob("object.*")) if ".report." not in file.name]
            with replacing(target) as temporary:
                if form == "obj":
                    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                        for file in made:
                            archive.write(file, file.name)
                else:
                    shutil.copyfile(Path(place) / f"object.{form}", temporary)
    return target


def _export(run: Path, form: str, place: Path, words: tuple[str, ...]) -> None:
    log = place / "export.log"
    command = [*PROGRAM, "export", str(run), "--formats", form, "--out", str(place), *words]
    with log.open("wb") as file:
        try:
            status = subprocess.run(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=MOST_SECONDS,
                env=os.environ | LOGGED,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise ValueError(f"export took more than {MOST_SECONDS / 60:.0f} minutes and was ended") from None
    if status != 0:
        lines = tail(log).splitlines() or [f"export ended with status {status}"]
        said = [line for line in lines if line.startswith(ERROR)] or lines[-1:]
        raise ValueError(said[-1].removeprefix(ERROR))


def _made(run: Path) -> float:
    """When the run's object was made."""
    try:
        return (run / layout.OBJECT).stat().st_mtime
    except OSError:
        return 0.0
