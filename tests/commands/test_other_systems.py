"""The commands on a simulated Windows, with an old console; what our own sources ask of other systems."""

import ast
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import SMALL_EXPORT, SMALL_RUN

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
PACKAGE = ROOT / "dreamfusion_pl"
PROMPT = 'a red ball: <"C:\\x|y?*"> \N{RIGHTWARDS ARROW} gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n'
RUN = "lightning_logs/version_0"
OLD_CONSOLE = {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)]),
    "PYTHONIOENCODING": "cp1252:strict",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "LC_ALL": "C",  # files that are opened without an encoding are ASCII
    "PYTHONWARNDEFAULTENCODING": "1",
    "OMP_NUM_THREADS": "1",
}
ALL = """
import json, sys
from pathlib import Path
import windows
windows.pretend(Path.cwd())
import warnings
warnings.filterwarnings("error", category=EncodingWarning, module=r"dreamfusion_pl\\b")
from dreamfusion_pl.cli import main
print(json.dumps([main(words) for words in json.loads(sys.argv[1])]), file=sys.stderr)
"""


def run(folder: Path, code: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env=os.environ | OLD_CONSOLE,
        capture_output=True,
        encoding="cp1252",
        timeout=300,
    )


def test_windows_has_the_commands_of_one_object(tmp_path):
    (tmp_path / "mine.yaml").write_text(f"prompt: {json.dumps(PROMPT, ensure_ascii=False)}\n", "utf-8")
    export = ["export", RUN, "--formats", "glb,obj,ply,stl,usdz", "--out", "exported", *SMALL_EXPORT]
    commands = [
        ["fit", *SMALL_RUN, "--config", "mine.yaml"],
        ["fit", "--resume", RUN, "--trainer.max_steps", "6"],
        export,
        export,  # over its own files
        ["test", "--resume", "last"],
        ["gallery", "lightning_logs", "--out", "gallery.html"],
        ["evaluate", RUN, "--out", "tables"],
        ["doctor", *SMALL_RUN, "--json", "--trial", "3"],
    ]
    done = run(tmp_path, ALL, json.dumps(commands))
    assert done.stderr.splitlines()[-1:] == [str([0] * len(commands))], done.stderr
    assert (tmp_path / RUN / "prompt.txt").read_text("utf-8") == f"{PROMPT}\n"
    assert PROMPT.replace("|", "\\|").replace("\N{RIGHTWARDS ARROW}", "\\u2192") in done.stdout  # the table
    trial = json.loads(done.stdout[done.stdout.index("{\n") :])["trial"]
    assert trial["peak_memory_gb"] is None and trial["seconds_per_step"] > 0.0
    with (tmp_path / "tables" / "evaluation.csv").open(newline="", encoding="utf-8") as table:
        assert [row[1] for row in csv.reader(table)][1] == PROMPT


STOPPED = """
import json, os, sys, threading, time
from pathlib import Path
import windows
windows.pretend(Path.cwd())
from dreamfusion_pl.batch import worker
from dreamfusion_pl.batch.jobs import Request, jobs_of
worker.PROGRAM = (sys.executable, windows.__file__, os.getcwd())
jobs = tuple(jobs_of([Request("a red ball")], 1, Path.cwd()))
marker, status = Path(".driver-here"), jobs[0].folder / "status.json"
marker.touch()
def stop():
    while not status.exists():
        time.sleep(0.05)
    marker.unlink()
threading.Thread(target=stop, daemon=True).start()
settings = worker.ProcessSettings(marker=str(marker.absolute()))
words = (*json.loads(sys.argv[1]), "--trainer.max_steps=100000")
print(worker.run(jobs, words, 0, settings)[0].reason)
"""


def test_a_fit_of_a_batch_on_windows_saves_when_it_is_stopped(tmp_path):
    done = run(tmp_path, STOPPED, json.dumps(SMALL_RUN))
    assert done.returncode == 0 and "stopped by a signal after step" in done.stdout, done.stdout + done.stderr
    (job,) = tmp_path.glob("*/seed_0")
    assert json.loads((job / "status.json").read_text("utf-8"))["state"] == "interrupted"
    assert (job / "checkpoints" / "last.ckpt").is_file()


REFUSED = {
    "open('a name?', 'w')": "no name that Windows can write",
    "os.mkdir('aux.d')": "no name that Windows can write",
    "a = open('a', 'w'); b = open('b', 'w'); b.close(); os.replace('b', 'a')": "uses the file",
    "open('c', 'wb').write(b'0'); c = mmap.mmap(os.open('c', os.O_RDWR), 1); os.remove('c')": "uses the file",
    "Path('here').symlink_to('there')": "a symbolic link",
    "import fcntl": "import of fcntl halted",
    "signal.SIGHUP": "no attribute 'SIGHUP'",
}
TRY = """
import json, mmap, os, signal, sys
from pathlib import Path
import windows
windows.pretend(Path.cwd())
said = []
for code in json.loads(sys.argv[1]):
    try:
        exec(code)
    except Exception as error:
        said.append(str(error))
Path("lines").write_text("one\\ntwo\\n")
print(json.dumps([*said, Path("lines").read_bytes().decode()]))
"""


def test_the_simulation_refuses_what_windows_refuses(tmp_path):
    done = run(tmp_path, TRY, json.dumps(list(REFUSED)))
    *said, lines = json.loads(done.stdout)
    assert lines == "one\r\ntwo\r\n"
    for expected, found in zip(REFUSED.values(), said, strict=True):
        assert expected in found


OF_POSIX = {
    "os": {
        "fork",
        "getuid",
        "getgid",
        "killpg",
        "sched_getaffinity",
        "setsid",
        "sysconf",
        "getloadavg",
        "mkfifo",
    },
    "signal": {
        "SIGUSR1",
        "SIGUSR2",
        "SIGHUP",
        "SIGKILL",
        "SIGALRM",
        "SIGPIPE",
        "SIGQUIT",
        "setitimer",
        "pause",
    },
}
GUARDED = {"sched_getaffinity": "hasattr(os", "sysconf": "except (AttributeError"}  # how our sources ask
MODULES_OF_POSIX = {"fcntl", "grp", "pwd", "pty", "resource", "syslog", "termios", "tty"}
MAY_IMPORT = {"commands/cost_estimate.py": "except ImportError"}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_our_sources_ask_before_they_use_what_windows_lacks(path):
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(PACKAGE).as_posix()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            lacking = node.attr in OF_POSIX.get(node.value.id, ())
            assert not lacking or GUARDED.get(node.attr, "\0") in text, f"{name}: {node.value.id}.{node.attr}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            lacking = set(names) & MODULES_OF_POSIX
            assert not lacking or MAY_IMPORT.get(name, "\0") in text, f"{name}: {lacking}"
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            places = {"read_text": 1, "write_text": 2, "open": 9}  # how many arguments name the encoding, too
            if called in ("read_text", "write_text") or isinstance(node.func, ast.Name) and called == "open":
                names_encoding = "encoding" in {keyword.arg for keyword in node.keywords}
                assert names_encoding or len(node.args) >= places[called], (
                    f"{name}: {called}, in what encoding?"
                )
            given = {keyword.arg for keyword in node.keywords}
            assert not given & {"pass_fds", "preexec_fn", "start_new_session"}, f"{name}: {given}"
