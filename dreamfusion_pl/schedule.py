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

    @property
    def least(self) -> float:
        """The least value: at an end, for a schedule that only rises or only falls."""
        return min(self(0.0), self(1.0))

    @property
    def most(self) -> float:
        """The greatest value, at an end in the same way."""
        return max(self(0.0), self(1.0))


def schedule_of(value: Schedule | float) -> Schedule:
    """Return a schedule as it is, and a number as a constant one."""
    return value if isinstance(value, Schedule) else Constant(value)


def count_at(count: Schedule | int, progress: float) -> int:
    """Return a count, such as one of pixels, at a progress; values of a schedule are rounded."""
    return round(count(progress)) if isinstance(count, Schedule) else count


def least_count(count: Schedule | int) -> int:
    """Return the least that a count is at any progress."""
    return round(count.least) if isinstance(count, Schedule) else count


def check_not_negative(**schedules: Schedule) -> None:
    """Check that weights are never negative.

    Raises:
        ValueError: a schedule is negative; the message has its name, its values at both ends and the least.
    """
    for name, schedule in schedules.items():
        if schedule.least < 0.0:
            raise ValueError(
                f"{name} must not be negative, got {schedule(0.0):g} at the start and {schedule(1.0):g} "
                f"at the end, at least {schedule.least:g}"
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


@final
class Steps(Schedule):
    """Values that change at once: each holds from its progress on, until the next.

    Args:
        values: values by the progress at which they begin, such as ``{0: 32, 0.4: 64}``; one begins at 0.

    Raises:
        ValueError: none begins at 0, or a progress is outside [0, 1].
    """

    def __init__(self, values: dict[float, float]) -> None:
        starts = sorted(values)
        if not starts or starts[0] != 0.0 or starts[-1] > 1.0:
            raise ValueError(
                f"values begin at fractions of training in [0, 1], the first at 0, got {dict(values)}"
            )
        self.values = [(start, values[start]) for start in starts]

    def __call__(self, progress: float) -> float:
        return [value for start, value in self.values if start <= max(progress, 0.0)][-1]

    @property
    def least(self) -> float:
        return min(value for _, value in self.values)

    @property
    def most(self) -> float:
        return max(value for _, value in self.values)
