"""Jobs of a batch: a prompt, a seed and a run folder, which records whether the job is finished."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from dreamfusion_pl.data.world.captions import pair_held_out, plain_caption
from dreamfusion_pl.data.world.colors import COLORS
from dreamfusion_pl.data.world.objects.catalog import OBJECT_NAMES
from dreamfusion_pl.data.world.scenes import Item, WorldScene
from dreamfusion_pl.run_folder import layout

SEED = "seed_everything"  # option that the batch sets for every job


class Request(NamedTuple):
    """One line of a prompt file."""

    prompt: str
    options: tuple[str, ...] = ()  # command-line arguments of its fit


class Job(NamedTuple):
    """One object to generate."""

    request: Request
    seed: int
    folder: Path  # its run folder


def jobs_of(requests: list[Request], seeds: int, out: Path) -> list[Job]:
    """Return one job per request and seed; all jobs with the first seed come first.

    Args:
        requests: prompts with options; duplicates are dropped.
        seeds: number of seeds per request, 0 to ``seeds`` - 1.
        out: the batch's folder.
    """
    distinct = list(dict.fromkeys(requests))
    return [Job(one, seed, out / slug(one) / f"seed_{seed}") for seed in range(seeds) for one in distinct]


def slug(request: Request) -> str:
    """Folder name of a request: readable, unique, and valid whatever the prompt contains."""
    readable = re.sub(r"[^a-z0-9]+", "-", request.prompt.lower()).strip("-")[:40].strip("-")
    key = json.dumps([request.prompt, list(request.options)])
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{readable}-{digest}" if readable else digest


def is_done(job: Job) -> bool:
    """Return whether the job's run has finished.

    Raises:
        ValueError: the folder holds the run of another prompt.
    """
    known = layout.read_status(job.folder)
    prompt = str(known.get("prompt", job.request.prompt))
    if prompt.split() != job.request.prompt.split():  # YAML may change whitespace
        raise ValueError(f"{job.folder} has the run of another prompt, {prompt!r}: move it away")
    return known.get("state") == "finished"


def read_requests(source: str) -> list[Request]:
    """Read prompts from a file, or return the built-in list ``world``: one prompt per object of the world.

    ``.txt``: one prompt per line; empty lines and lines that start with # are skipped. ``.csv``: a column
    ``prompt``; other columns are options of ``fit``, such as ``trainer.max_steps``; empty cells are skipped.
    ``.jsonl``: one JSON object per line with the same names.

    Raises:
        ValueError: the file is missing, has another format or an invalid line, or has no prompt.
    """
    if source == "world":
        return [Request(plain_caption(scene)) for scene in _one_of_each_object()]
    path = Path(source)
    readers = {".txt": _from_txt, ".csv": _from_csv, ".jsonl": _from_jsonl}
    if path.suffix.lower() not in readers:
        raise ValueError(f"prompts come from a .txt, .csv or .jsonl file or the list 'world'; got {source!r}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the prompt file {source} cannot be read: {error}") from error
    requests = readers[path.suffix.lower()](text, source)
    if not requests:
        raise ValueError(f"the prompt file {source} holds no prompt")
    return requests


def _one_of_each_object() -> list[WorldScene]:
    colors = tuple(COLORS)
    scenes = []
    for index, name in enumerate(OBJECT_NAMES):
        turned = colors[index % len(colors) :] + colors[: index % len(colors)]
        color = next(color for color in turned if not pair_held_out(name, color))
        scenes.append(WorldScene((Item(name, color),)))
    return scenes


def _from_txt(text: str, source: str) -> list[Request]:
    lines = enumerate(text.split("\n"), 1)  # splitlines() also splits within prompts, at U+2028 and others
    return [
        _request({"prompt": line}, f"{source}, line {number}")
        for number, line in lines
        if line.strip() and not line.strip().startswith("#")
    ]


def _from_csv(text: str, source: str) -> list[Request]:
    rows = csv.DictReader(io.StringIO(text))
    try:
        columns = list(rows.fieldnames or ())
        if "prompt" not in columns:
            raise ValueError(f"{source} needs a column named prompt, it has {rows.fieldnames}")
        for name in columns:
            if columns.count(name) > 1:
                raise ValueError(f"{source} has {columns.count(name)} columns named {name!r}: keep one")
        return [_request(row, f"{source}, line {rows.line_num}") for row in rows]
    except csv.Error as error:
        raise ValueError(
            f"{source}, line {rows.line_num}: no CSV: {error}; is a quote not closed?"
        ) from error


def _from_jsonl(text: str, source: str) -> list[Request]:
    requests = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_distinct)
        except ValueError as error:
            raise ValueError(f"{source}, line {number}: no JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f'{source}, line {number}: needs an object such as {{"prompt": "a red chair"}}')
        requests.append(_request(row, f"{source}, line {number}"))
    return requests


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, which may not have a key twice: Python would keep the last one in silence."""
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ValueError(f"the key {twice!r} is there twice: keep one")
    return dict(pairs)


def _request(row: dict[Any, Any], where: str) -> Request:
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip() or None in row:
        raise ValueError(f"{where}: needs a prompt that is not empty, and a column name for every cell")
    options = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in row.items()
        if name != "prompt" and value not in (None, "")
    }
    if "\0" in "".join([prompt, *options, *options.values()]):
        raise ValueError(f"{where}: the null character is not allowed")
    if SEED in options:
        raise ValueError(f"{where}: {SEED} cannot be set for a single prompt: use --seeds K")
    return Request(prompt.strip(), tuple(f"--{name}={value}" for name, value in options.items()))
