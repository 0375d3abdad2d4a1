"""What scheduling costs: the same fits by ``batch`` and by a loop of ``fit``, one at a time, wall clock.

python tests/benchmarks/batch_overhead.py --prompts 12 --out overhead [options of fit]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from fits import Fit, run_fits

PROMPT = "a red ball, number {}"


def main() -> None:
    """Print both times and the overhead in percent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=12, help="how many")
    parser.add_argument("--out", type=Path, default=Path("overhead"), help="new folder of the runs")
    options, words = parser.parse_known_args()
    options.out.mkdir(parents=True)
    cores = str(os.cpu_count() or 1)
    prompts = [PROMPT.format(number) for number in range(options.prompts)]
    start = time.monotonic()
    run_fits([Fit(prompt, 0, options.out / f"loop_{i}", tuple(words)) for i, prompt in enumerate(prompts)])
    loop = time.monotonic() - start
    file = options.out / "prompts.txt"
    file.write_text("\n".join(prompts) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "dreamfusion_pl", "batch", "--prompts", str(file), "--cpus", cores]
    start = time.monotonic()
    subprocess.run([*command, "--out", str(options.out / "batch"), *words], check=True)
    batch = time.monotonic() - start
    print(
        f"{options.prompts} fits: loop {loop:.1f} s, batch {batch:.1f} s, {100 * (batch / loop - 1):+.1f} %"
    )


if __name__ == "__main__":
    main()
