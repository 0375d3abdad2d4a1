"""Everything that has to be measured on a GPU, by one command, in the order of its value.

    python tests/benchmarks/gpu.py --out gpu [--minutes 8] [--tiny] [--only together denoiser]

Runs from a source tree, with the package's requirements on the Python path. Every stage is a process of its
own with a time limit, so that a crash, a hang or a lack of memory costs that stage only. Its rows are written
while it runs (``rows.jsonl``), and after each stage ``gpu.json`` and ``gpu.md`` have all rows so far.
``--tiny`` runs all stages on a CPU with tiny models, in one process, to see that they work.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from tables import table

HERE = Path(__file__).resolve().parent
SHARES = {  # of the time that is left, relative to those of the stages that follow
    "default_fit": 0.2,
    "stable_diffusion": 0.34,
    "together": 0.1,
    "denoiser": 0.18,
    "regime": 0.18,
}
FILES = ("rows.jsonl", "log.txt", "gpu.json", "gpu.md", "default_fit.png", "regime.png")
FILES += ("denoiser.safetensors", "denoiser.json")
GRACE = 5.0  # seconds between asking a stage to end and ending it


def main() -> None:
    """Run the stages and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all stages together")
    parser.add_argument("--tiny", action="store_true", help="tiny models and a few steps, for a CPU")
    parser.add_argument("--only", nargs="+", choices=SHARES, default=list(SHARES), help="these stages only")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    with new_results(options.out) as scratch:
        names = [name for name in SHARES if name in options.only]
        campaign(names, options.out, scratch, 60.0 * options.minutes, options.tiny)
    print((options.out / "gpu.md").read_text(encoding="utf-8"))


def campaign(names: list[str], out: Path, scratch: Path, seconds: float, tiny: bool) -> None:
    """Run stages one after the other within ``seconds``; time that one leaves goes to those that follow."""
    end, facts = time.monotonic() + seconds, machine()
    write_tables(out, facts)
    groups = [names] if tiny else [[name] for name in names]
    for i, group in enumerate(groups):
        left = end - time.monotonic()
        following = sum(SHARES.get(name, 0.1) for names in groups[i:] for name in names)
        limit = left * sum(SHARES.get(name, 0.1) for name in group) / following
        try:
            problem = run_stage(group, out, scratch, limit, tiny) if limit > 1.0 else "no time left"
            if problem is not None:
                note(out, {"stage": " ".join(group), "what": "the stage", "result": problem})
        finally:  # also when the campaign itself is ended
            write_tables(out, facts)


def run_stage(names: list[str], out: Path, scratch: Path, limit: float, tiny: bool) -> str | None:
    """Run stages in one process; return what went wrong, None if nothing did."""
    words = [*names, "--out", str(out), "--scratch", str(scratch), "--seconds", str(limit)]
    command = [sys.executable, "-m", "gpu_stages", *words, *(["--tiny"] if tiny else [])]
    with (out / "log.txt").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, env=environment(scratch), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(limit + GRACE)
        except subprocess.TimeoutExpired:
            return f"ended after {limit:.0f} s"
        finally:
            _kill(process)
    return None if code == 0 else f"exit status {code}, see log.txt"


def environment(scratch: Path) -> dict[str, str]:
    """Environment of a stage: the source tree on Python's path, and caches in the scratch folder."""
    places = [HERE, HERE.parent, HERE.parent.parent]
    path = os.pathsep.join([*map(str, places), *filter(None, [os.environ.get("PYTHONPATH")])])
    caches = {"XDG_CACHE_HOME": str(scratch), "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor")}
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **caches}


@contextmanager
def new_results(out: Path) -> Iterator[Path]:
    """Make the folder of the results, without those of an earlier campaign; yield a scratch folder."""
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (out / name).unlink(missing_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="gpu_campaign_"))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def machine() -> dict[str, Any]:
    """Card, versions, date and command."""
    import torch

    card = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: a CPU"
    return {
        "card": card,
        "torch": str(torch.__version__),
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python tests/benchmarks/gpu.py {' '.join(sys.argv[1:])}",
    }


def note(out: Path, row: dict[str, Any]) -> None:
    """Append a row, after one that a stage may have left unfinished."""
    with (out / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(row) + "\n")


def rows_of(out: Path) -> list[dict[str, Any]]:
    """All rows so far; a line that was cut off is left out."""
    found = []
    with suppress(FileNotFoundError):
        for line in (out / "rows.jsonl").read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
    return found


def write_tables(out: Path, facts: dict[str, Any]) -> None:
    """Write all rows as JSON and, a table for each stage, as Markdown."""
    rows = rows_of(out)
    (out / "gpu.json").write_text(json.dumps({**facts, "rows": rows}, indent=1), encoding="utf-8")
    lines = [f"{facts['card']}, torch {facts['torch']}, {facts['date']}: `{facts['command']}`"]
    for stage in dict.fromkeys(row["stage"] for row in rows):
        mine = [{key: row[key] for key in row if key != "stage"} for row in rows if row["stage"] == stage]
        header = list(dict.fromkeys(key for row in mine for key in row))
        cells = [[str(row.get(name, "")).replace("|", "/") for name in header] for row in mine]
        lines += [f"## {stage}", table(header, cells)]
    (out / "gpu.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a stage's process with all that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
