"""Figures of a run in words and units, for people."""

from __future__ import annotations

from collections.abc import Mapping

_NAMES = {
    "score": "score (how much the prompt helps the prior to denoise the object; for comparing seeds)",
    "opacity": "share of the last views that the object covers",
    "loss": "loss of the last step",
    "loss/distillation": "of it, distillation",
    "loss/opacity": "opacity of the last views, regularized",
    "loss/orientation": "orientation loss, unweighted",
    "gradient_norm": "norm of the last gradient",
    "learning_rate": "last learning rate",
}


def duration(seconds: float) -> str:
    """Return a time such as "45 s", "8 min 16 s" or "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def work(processor_seconds: float, seconds: float, threads: int) -> str:
    """Return what a run had of a CPU: "1 min 38 s, 79 % of 2 threads". If little, others had the rest.

    Args:
        processor_seconds: time of all threads together, of this process.
        seconds: time that went by, > 0.
        threads: number of threads that the run was given.
    """
    share = min(processor_seconds / (seconds * threads), 1.0)
    plural = "threads" if threads > 1 else "thread"
    return f"{duration(processor_seconds)}, {100 * share:.0f} % of {threads} {plural}"


def metrics(values: Mapping[str, float | None]) -> dict[str, str]:
    """Return metrics by names in words; those of others than this project keep theirs."""
    order = [*(name for name in _NAMES if name in values), *(name for name in values if name not in _NAMES)]
    shown = {}
    for name in order:
        value = values[name]
        if value is not None:
            text = f"{100 * value:.0f} %" if name == "opacity" else f"{value:.4g}"
            shown[_NAMES.get(name, name.replace("_", " "))] = text
    return shown
