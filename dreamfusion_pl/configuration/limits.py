"""Limits on the numbers of a configuration, checked before anything is built from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

LARGEST = 1e6  # magnitude of a number with a fraction: lengths, rates, weights, temperatures
SMALLEST = 1e-20  # the same, if it is not 0; its square is about the smallest number of float32
LARGEST_WHOLE = 2**32  # magnitude of a count or a seed
# Of Lightning's trainer: 0 has no meaning, and ends in a division by it.
_POSITIVE = ("val_check_interval", "check_val_every_n_epoch", "accumulate_grad_batches")
# Of SummaryWriter, which gives them no types
_WRITER = {"purge_step": int, "max_queue": int, "flush_secs": int, "filename_suffix": str, "comment": str}


def check_numbers(configuration: Mapping[str, Any]) -> None:
    """Check that every number of a configuration is finite and of a magnitude that can be computed with.

    Ranges of single arguments are checked by the classes that they belong to.

    Args:
        configuration: contents of a configuration, nested.

    Raises:
        ValueError: a number is not; the message has its name.
    """
    for name, value in _leaves(configuration):
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if isinstance(value, int):
            if abs(value) > LARGEST_WHOLE:
                raise ValueError(f"{name}: {value:.3g} is too large: a whole number is at most 2^32")
        elif not math.isfinite(value):
            raise ValueError(f"{name}: {value} is no number to compute with: give a finite one")
        elif abs(value) > LARGEST or 0.0 < abs(value) < SMALLEST:
            raise ValueError(
                f"{name}: {value:g} is out of range: a number is 0, or between {SMALLEST:g} and {LARGEST:g} "
                "in magnitude"
            )


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Check what Lightning and TensorBoard take without a look and fail with later.

    Args:
        trainer: the section ``trainer`` of a configuration.

    Raises:
        ValueError: a value is out of range or of another kind; the message has its name.
    """
    for name in _POSITIVE:
        value = trainer.get(name)
        if isinstance(value, int | float) and value <= 0:
            raise ValueError(f"trainer.{name} must be above 0, got {value}")
    if trainer.get("devices") in ("", 0, [], {}):
        raise ValueError(f"trainer.devices: {trainer['devices']!r} is no device: give a number, or auto")
    loggers = trainer.get("logger")
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        arguments = logger.get("init_args") if isinstance(logger, Mapping) else None
        for name, kind in _WRITER.items():
            value = (arguments or {}).get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
                article = "a text" if kind is str else "a whole number"
                raise ValueError(f"trainer.logger.{name} must be {article}, got {value!r}")


def _leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, path if key in ("init_args", "dict_kwargs") else (*path, str(key)))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _leaves(value, (*path, str(index)))
    else:
        yield ".".join(path), node
