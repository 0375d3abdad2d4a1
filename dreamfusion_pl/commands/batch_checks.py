"""Checks of a batch's options and prompts before its first fit; the options are kept in its folder."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import ArgumentError

from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.batch.jobs import SEED, Job, is_done
from dreamfusion_pl.batch.worker import Outcome, run_folder_options
from dreamfusion_pl.callbacks.report import Report
from dreamfusion_pl.configuration import words
from dreamfusion_pl.configuration.layers import PACKAGED, arrange, load
from dreamfusion_pl.configuration.parsing import read_configuration
from dreamfusion_pl.configuration.prompt_words import check_object, is_embedded, words_warning
from dreamfusion_pl.terminal import plain

OPTIONS = "options.json"  # in the batch's folder: options of all its fits


def check_options(jobs: list[Job], fit_options: list[str]) -> dict[Job, Outcome]:
    """Return the jobs that cannot run, because their line in the prompt file has an invalid option.

    Raises:
        ArgumentError: an option for all fits is invalid.
        ValueError: the same, or every line has an invalid option.
    """
    for name, value in words.options(fit_options):
        if name in ("", "--prompt", f"--{SEED}"):
            raise ValueError(
                f"{name or repr(value)} is no option of a batch: it has --prompts FILE and --seeds K"
            )
    if arrange(fit_options).checkpoint is not None:
        raise ValueError("a batch resumes its own runs: leave --resume, and ckpt_path in a --config, out")
    _read_options(fit_options, jobs[0])
    reasons: dict[tuple[str, ...], str] = {(): ""}
    for job in jobs:
        own = job.request.options
        if own not in reasons and not is_done(job):
            try:
                _read_options([*fit_options, *own], job)
                reasons[own] = ""
            except (ArgumentError, ValueError) as error:
                reasons[own] = " ".join(plain(error).splitlines())
    wrong = {job: reasons.get(job.request.options, "") for job in jobs}
    if all(wrong.values()):
        raise ValueError(f"every line of the prompt file has a wrong option: {wrong[jobs[0]]}")
    return {job: Outcome("failed", 0, reason) for job, reason in wrong.items() if reason}


def _read_options(options: list[str], job: Job) -> None:
    """Check the options of a job's fit.

    Raises:
        ArgumentError: an option is invalid, or the logger cannot write to the job's folder.
        ValueError: the same, or the fit would not record that it has ended.
    """
    trainer = read_configuration([*options, *run_folder_options(job)])["trainer"]
    kinds = [one["class_path"].rpartition(".")[2] for one in trainer["callbacks"] or []]
    if Report.__name__ not in kinds:
        raise ValueError(
            "trainer.callbacks has no Report, and a batch learns from its status.json that a fit has ended: "
            "add dreamfusion_pl.callbacks.report.Report, or leave the callbacks as they are"
        )


def keep_options(fit_options: list[str], out: Path) -> None:
    """Save the options and configuration files of a batch; one folder holds one batch.

    Raises:
        ValueError: the folder belongs to a batch with other options.
    """
    place = out / OPTIONS
    layers = arrange(fit_options).layers
    names = [layer.name for layer in layers if not Path(layer.name).is_relative_to(PACKAGED)]
    own = {name: load(name).tree for name in names}  # as they are written: also by version 0.1
    text = json.dumps({"options": fit_options, "configs": own}, default=str)
    if not place.exists():
        with replacing(place) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    before, now = json.loads(place.read_text(encoding="utf-8")), json.loads(text)
    if isinstance(before, list):  # written by an earlier version
        before = {"options": before, "configs": now["configs"]}
    if before["options"] != fit_options:
        raise ValueError(
            f"{out} was made with the options {shlex.join(before['options']) or '(none)'}, "
            f"not with {shlex.join(fit_options) or '(none)'}: repeat those, or take another --out"
        )
    noted, given = before["configs"], now["configs"]
    changed = [name for name in noted | given if noted.get(name) != given.get(name)]
    if changed:
        raise ValueError(
            f"{out} was made with other contents of {', '.join(changed)}; they are noted in {place}: "
            "bring those back, or take another --out"
        )


def check_prompts(jobs: Sequence[Job], fit_options: list[str]) -> dict[Job, Outcome]:
    """Warn of words that the embedded prior does not know, and return the jobs whose prompt names no object.

    Args:
        jobs: the jobs, whose options are right.
        fit_options: options of all fits.

    Raises:
        ValueError: no prompt names an object.
    """
    is_drawn_here = _with_embedded_prior(fit_options)
    reasons: dict[str, str] = {}  # by prompt; "" if it can be drawn
    for job in jobs:
        prompt = job.request.prompt
        if prompt in reasons or is_done(job) or not is_drawn_here(job):
            continue
        try:
            check_object(prompt)
            reasons[prompt] = ""
        except ValueError as error:
            reasons[prompt] = str(error).splitlines()[0]
            continue
        if warning := words_warning(prompt):
            print(
                f"dreamfusion_pl: warning: {prompt!r}: {warning.splitlines()[0]}", file=sys.stderr, flush=True
            )
    wrong = {job: reasons[job.request.prompt] for job in jobs if reasons.get(job.request.prompt)}
    if wrong and len(wrong) == len(jobs):
        check_object(jobs[0].request.prompt)  # raises, with what it knows
    return {job: Outcome("failed", 0, reason) for job, reason in wrong.items()}


def _with_embedded_prior(fit_options: list[str]) -> Callable[[Job], bool]:
    """Return a function that tells whether a job's prior is the embedded one.

    A configuration is read once for all jobs whose own options do not touch the prior.
    """
    known: dict[tuple[str, ...], bool] = {}

    def tells(job: Job) -> bool:
        own = job.request.options
        key = own if any("config" in word or "prior" in word for word in own) else ()
        if key not in known:
            model = read_configuration([*fit_options, *key])["model"]
            known[key] = is_embedded(model.get("init_args") or {})
        return known[key]

    return tells
