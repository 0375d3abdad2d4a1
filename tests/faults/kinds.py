"""Kinds of faults: each says how many were tried and survived. Every process that dies was started here."""

from __future__ import annotations

import pickle
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from processes import TESTS, Tally, ends, finish, finished_run, fit, half_files, run_of, start, state, step_of

from dreamfusion_pl.run_folder.checkpoint_io import is_whole

ENDLESS = 1_000_000


def kills(folder: Path, count: int, while_saving: bool, seed: int = 0) -> Tally:
    """Kill one fit again and again, going on each time, and compare its end with an unbroken fit.

    Every third kill comes at any moment from the start on, the others after a checkpoint of the fit's own.
    """
    draw, run, survived = random.Random(seed), run_of(folder), 0
    length = f"--trainer.max_steps={ENDLESS}"
    for number in range(count):
        before, anywhere = step_of(run), not while_saving and number % 3 == 1
        process = start(folder, ["fit", "--resume", str(run)] if before else fit(folder, length))
        deadline = time.monotonic() + (0 if anywhere else 300)
        while process.poll() is None and time.monotonic() < deadline and not _is_newer(run, before):
            time.sleep(0.05)
        time.sleep(draw.uniform(0.0, 10.0 if anywhere else 2.0))
        while while_saving and not _saves(run) and process.poll() is None and time.monotonic() < deadline:
            pass  # no pause: the file is there for a moment only
        was_running = process.poll() is None
        process.kill()
        process.communicate()
        survived += was_running and not half_files(run) and step_of(run) >= before + (not anywhere)
    end = step_of(run) + 3
    last = [f"--trainer.limit_train_batches={end}", "--trainer.max_epochs=1"]
    whole = folder / "whole"
    for place, words in ((folder, ["fit", "--resume", str(run), *last]), (whole, fit(whole, length, *last))):
        process = start(place, words)
        _, errors = finish(process, timeout=600)
        assert process.returncode == 0, errors
    ours, unbroken = state(run), state(run_of(whole))
    is_exact = all(torch.equal(value, ours[name]) for name, value in unbroken.items())
    return Tally(
        count, survived if is_exact else 0, f"{end} steps, {'bit for bit' if is_exact else 'NOT'} the same"
    )


def _saves(run: Path) -> bool:
    return any(run.glob("checkpoints/*draft.tmp*"))


def _is_newer(run: Path, step: int) -> bool:
    last = run / "checkpoints" / "last.ckpt"
    return last.exists() and is_whole(last) and step_of(run) > step


def damage(folder: Path) -> Tally:
    """Truncate or flip the newest checkpoint: the one before is taken, and the end is the same."""
    run = finished_run(folder / "whole")
    expected, survived = state(run), 0
    kinds: list[Callable[[bytes], bytes]] = [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    ]
    for number, spoil in enumerate(kinds):
        copy = folder / f"copy_{number}"
        shutil.copytree(run, copy)
        last = copy / "checkpoints" / "last.ckpt"
        last.write_bytes(spoil(last.read_bytes()))
        here = [
            f"--trainer.logger.init_args.save_dir={folder}",
            f"--trainer.logger.init_args.version={copy.name}",
        ]
        if ends(folder, ["fit", "--resume", str(copy), *here], 0, "is damaged"):
            ours = state(copy)
            survived += all(torch.equal(value, ours[name]) for name, value in expected.items())
    return Tally(len(kinds), survived)


def code_in_a_checkpoint(folder: Path) -> Tally:
    """A pickle that would run something: it is refused, and nothing runs."""
    run, mark = finished_run(folder), folder / "it_ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (mark,)

    last, survived = run / "checkpoints" / "last.ckpt", 0
    for write in (
        lambda: torch.save({"state_dict": Bomb()}, last),
        lambda: last.write_bytes(pickle.dumps(Bomb())),
    ):
        (run / "checkpoints" / "previous.ckpt").unlink(missing_ok=True)
        write()
        survived += ends(folder, ["fit", "--resume", str(run)], 2, "error") and not mark.exists()
    return Tally(2, survived)


def another_configuration(folder: Path) -> Tally:
    """A checkpoint of a scene of another size."""
    words = [
        "fit",
        "--resume",
        str(finished_run(folder)),
        "--model.scene.features.resolution=16",
        "--trainer.max_steps=9",
    ]
    return Tally(1, int(ends(folder, words, 2, "has another scene")))


def full_disk(folder: Path) -> Tally:
    """Files that may not grow beyond a limit below a checkpoint's size: one message, nothing half."""
    size = (finished_run(folder / "free") / "checkpoints" / "last.ckpt").stat().st_size
    place, survived = folder / "full", 0
    survived += ends(place, fit(place, "--trainer.max_steps=6"), 1, "space left", limit=size // 2)
    survived += not half_files(run_of(place))
    return Tally(2, survived)


def no_folder(folder: Path) -> Tally:
    """A file where the run folder should be, and no temporary folder."""
    folder.mkdir(parents=True)
    (folder / "runs").write_text("in the way")
    survived = int(ends(folder, fit(folder, "--trainer.max_steps=2"), 2, "cannot be written"))
    place = folder / "no_tmp"
    survived += ends(place, fit(place, "--trainer.max_steps=2"), 0, "", TMPDIR=str(folder / "nowhere"))
    return Tally(2, survived)


def odd_prompts(folder: Path, count: int, seed: int = 0) -> Tally:
    """Prompts that are paths, pages, other alphabets, long: an object or one message."""
    draw = random.Random(seed)
    pieces = [
        "../",
        "\\",
        "<b>",
        "${x}",
        "\u202e",
        "\U0001fa91",
        "%s",
        "{a: [",
        "--help",
        "\n",
        "'",
        '"',
        "\ud7ff",
    ]
    texts = [
        "../../etc/passwd",
        "<script>alert(1)</script>",
        "x" * 10_000,
        "-",
        "\U0001fa91",
        "--help",
        "a: [b",
    ]
    texts += ["".join(draw.choices([*pieces, "ball ", "a "], k=draw.randint(1, 30))) for _ in range(count)]
    survived = 0
    for number, text in enumerate(texts[: max(count, 1)]):
        place = folder / str(number)
        process = start(place, [*fit(place, "--trainer.max_steps=1"), f"--prompt={text}"])
        _, errors = finish(process, timeout=600)
        run = run_of(place)
        if process.returncode == 0:
            page = (run / "viewer.html").read_text(encoding="utf-8")
            survived += (run / "prompt.txt").exists() and "<script>alert(1)" not in page
        else:
            survived += process.returncode == 2 and "Traceback" not in errors and "error" in errors
    return Tally(max(count, 1), survived)


def odd_yaml(folder: Path, count: int, seed: int = 0) -> Tally:
    """Configurations with a random value somewhere: a run, or one message."""
    draw, survived = random.Random(seed), 0
    tree = yaml.safe_load((TESTS / "small.yaml").read_text())
    values = [
        None,
        -1,
        0,
        1e30,
        "",
        "text",
        [],
        {},
        [1, 2],
        {"a": 1},
        True,
        ".nan",
        "!!python/name:os.system",
    ]
    for number in range(count):
        changed = yaml.safe_load(yaml.safe_dump(tree))
        node = changed
        while True:
            key = draw.choice(sorted(node))
            if not isinstance(node[key], dict) or not node[key] or draw.random() < 0.15:
                break
            node = node[key]
        node[key] = draw.choice(values)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.yaml").write_text(yaml.safe_dump(changed))
        place = folder / str(number)
        words = fit(place, "--trainer.max_steps=1")
        words[words.index("--config") + 1] = str(folder / f"{number}.yaml")
        process = start(place, words)
        _, errors = finish(process, timeout=600)
        good = process.returncode in (0, 1, 2) and "Traceback" not in errors
        survived += good
        if not good:
            print(f"{changed}\n{errors[-1500:]}", file=sys.stderr)
    return Tally(count, survived)


def chaos(folder: Path, count: int) -> Tally:
    """A batch whose drivers, workers and fits are killed: every prompt is made, and made once."""
    if count == 0:
        return Tally(0, 0)
    sys.path.insert(0, str(TESTS / "batch"))
    from test_chaos import survive

    folder.mkdir(parents=True)
    survive(folder, count=count, kills=max(count // 4, 1), seed=0)
    return Tally(count, count)
