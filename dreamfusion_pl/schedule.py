"""Values as functions of training progress in [0, 1]."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final


class Schedule(ABC):
    """A value that depends on progress."""

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """Return the value at ``progress`` in [0, 1]."""


def check_not_negative(**schedules: Schedule) -> None:
    """Check that weights are never negative. All schedules here are monotonic, so the two ends are enough.

    Raises:
        ValueError: a schedule is negative; the message has its name and its values at both ends.
    """
    for name, schedule in schedules.items():
        ends = schedule(0.0), schedule(1.0)
        if min(ends) < 0.0:
            raise ValueError(
                f"{name} must not be negative, got {ends[0]:g} at the start and {ends[1]:g} at the end"
            )


def check_steps(steps: int | None) -> int | None:
    """Return the number of steps over which schedules run; None means all steps of the training.

    Raises:
        ValueError: it is below 1.
    """
    if steps is not None and steps < 1:
        raise ValueError(f"schedule_steps is a number of steps, 1 or more, or null; got {steps}")
    return steps


def _fraction(progress: float, start: float, end: float) -> float:
    return min(max((progress - start) / (end - start), 0.0), 1.0)


def _check_interval(start: float, end: float) -> None:
    if not 0.0 <= start < end <= 1.0:
        raise ValueError(
            f"a schedule needs 0 <= start < end <= 1 (fractions of training), got start={start}, end={end}"
        )


@final
class Constant(Schedule):
    """The same value throughout training.

    Args:
        value: the value.
    """

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, progress: float) -> float:
        return self.value


@final
class Linear(Schedule):
    """Linear from ``first`` at ``start`` to ``last`` at ``end``, constant outside.

    Args:
        first: value up to ``start``.
        last: value from ``end`` on.
        start: progress at which the change begins.
        end: progress at which it is complete.
    """

    def __init__(self, first: float, last: float, start: float = 0.0, end: float = 1.0) -> None:
        _check_interval(start, end)
        self.first, self.last, self.start, self.end = first, last, start, end

    def __call__(self, progress: float) -> float:
        return self.first + (self.last - self.first) * _fraction(progress, self.start, self.end)


@final
class Cosine(Schedule):
    """Half a cosine wave from ``first`` at ``start`` to ``last`` at ``end``, constant outside.

    Args:
        first: value up to ``start``.
        last: value from ``end`` on.
        start: progress at which the change begins.
        end: progress at which it is complete.
    """

    def __init__(self, first: float, last: float, start: float = 0.0, end: float = 1.0) -> None:
        _check_interval(start, end)
        self.first, self.last, self.start, self.end = first, last, start, end

    def __call__(self, progress: float) -> float:
        angle = math.pi * _fraction(progress, self.start, self.end)
        return self.last + (self.first - self.last) * 0.5 * (1.0 + math.cos(angle))
