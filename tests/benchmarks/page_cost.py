"""What the open page costs: a timed walk from the empty page to a downloaded GLB, beside a fit without it.

    python tests/benchmarks/page_cost.py --out DIR [--repeat 3] [any option of fit]

The page is opened in a headless browser, and stays open during the fit, with its previews and its turning
object. Fits with and without it are made in turns, and their own seconds are compared. The CPU time that
server and browser take during the fit's steps, as a share of one core, says the same with less noise. Needs
the extra ``[app]``, playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import psutil

PROMPT = "a red chair"
MOST_SECONDS = 900.0
PROGRAM = [sys.executable, "-m", "dreamfusion_pl"]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def status_of(run: Path) -> dict[str, Any]:
    """What a run says of itself."""
    return json.loads((run / "status.json").read_text(encoding="utf-8"))


def alone(out: Path, seed: int, more: list[str]) -> float:
    """Seconds of a fit without a page."""
    where = [f"--trainer.logger.init_args.{name}" for name in ("save_dir", "name", "version")]
    place = [f"{where[0]}={out}", f"{where[1]}=", f"{where[2]}=alone_{seed}"]
    words = [*PROGRAM, "fit", "--prompt", PROMPT, f"--seed_everything={seed}", *place, *more]
    subprocess.run(words, check=True, capture_output=True)
    return float(status_of(out / f"alone_{seed}")["seconds"])


def cpu_seconds(server: subprocess.Popen[str]) -> float:
    """CPU time so far of the server, without its fits, and of the browser that this process has opened."""
    browser = [one for one in psutil.Process().children(recursive=True) if "chrom" in one.name()]
    times = [one.cpu_times() for one in (psutil.Process(server.pid), *browser)]
    return sum(one.user + one.system for one in times)


def with_page(out: Path, seed: int, more: list[str]) -> dict[str, float]:
    """Walk from the empty page to the file; seconds of the page, of the fit, and of all."""
    from playwright.sync_api import expect, sync_playwright

    server = subprocess.Popen(
        [*PROGRAM, "app", "--out", str(out / f"page_{seed}"), *more], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1200, "height": 900}, accept_downloads=True)
            begin = time.perf_counter()
            page.goto(address)
            page.wait_for_selector("#df-make")
            opened = time.perf_counter()
            page.fill("#df-seed input", str(seed))
            page.fill("#df-prompt textarea", PROMPT)
            page.wait_for_timeout(500.0)
            page.click("#df-make")
            before, clicked = cpu_seconds(server), time.perf_counter()
            expect(page.locator("#df-status")).to_contain_text("writing", timeout=1000.0 * MOST_SECONDS)
            share = (cpu_seconds(server) - before) / (time.perf_counter() - clicked)
            expect(page.locator("#df-status")).to_contain_text("finished", timeout=1000.0 * MOST_SECONDS)
            with page.expect_download() as got:
                page.click("button[data-form=glb]")
            assert got.value.path().read_bytes()[:4] == b"glTF"
            end = time.perf_counter()
            browser.close()
        run = next((out / f"page_{seed}").glob("*/seed_*/status.json")).parent
        fit = float(status_of(run)["seconds"])
        return {"open": opened - begin, "fit": fit, "walk": end - begin, "share of a core": share}
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60.0)


def main() -> None:
    """Both in turns, and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=3)
    options, more = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    rows = [(alone(options.out, n, more), with_page(options.out, n, more)) for n in range(options.repeat)]
    without, beside = mean(one for one, _ in rows), mean(one["fit"] for _, one in rows)
    for fit, walk in rows:
        print(f"alone {fit:.1f} s; " + ", ".join(f"{name} {value:.3g}" for name, value in walk.items()))
    more_time = 100.0 * (beside / without - 1.0)
    print(f"a fit alone {without:.1f} s, with the page open {beside:.1f} s: {more_time:+.1f} %")


if __name__ == "__main__":
    main()
