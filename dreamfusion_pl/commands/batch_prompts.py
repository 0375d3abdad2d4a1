"""What the embedded prior makes of a batch's prompts, said before the first fit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from dreamfusion_pl.batch.jobs import Job, is_done
from dreamfusion_pl.batch.worker import Outcome
from dreamfusion_pl.configuration.prompt_words import check_object, is_embedded, words_warning
from dreamfusion_pl.runs import read_configuration


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
