"""What works where Python lacks modules that only POSIX systems have, and what says that it cannot."""

import json
import os
import subprocess
import sys
from pathlib import Path

from fakes import SMALL_RUN

ROOT = Path(__file__).parents[2]

LINES = """
import json, sys, psutil  # psutil takes other ways on other systems
for name in ("fcntl", "resource"):
    sys.modules[name] = None
from dreamfusion_pl.cli import main
print(json.dumps([main(words) for words in json.loads(sys.argv[1])]), file=sys.stderr)
"""


def test_windows_has_all_but_batches_and_the_peak_of_memory(tmp_path):
    (tmp_path / "prompts.txt").write_text("a red ball\n")
    commands = [
        ["fit", *SMALL_RUN, "--prompt", "a red ball"],
        ["doctor", *SMALL_RUN, "--json", "--trial", "3"],
        ["batch", *SMALL_RUN, "--prompts", "prompts.txt", "--out", "out"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", LINES, json.dumps(commands)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.stderr.splitlines()[-1:] == ["[0, 0, 2]"], done.stderr
    assert (tmp_path / "lightning_logs" / "version_0" / "object.glb").is_file()
    trial = json.loads(done.stdout[done.stdout.index("{\n") :])["trial"]
    assert trial["peak_memory_gb"] is None and trial["seconds_per_step"] > 0.0
    assert "needs file locks (Python's module fcntl)" in done.stderr and "WSL" in done.stderr
    assert not (tmp_path / "out").exists()
