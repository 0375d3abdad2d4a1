import math

import pytest
from fakes import small_model

from dreamfusion_pl.schedule import Constant, Cosine, Linear, Steps, check_not_negative


def test_values_by_hand():
    assert Constant(3.0)(0.7) == 3.0
    line = Linear(2.0, 4.0, start=0.25, end=0.75)
    assert [line(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == [2.0, 2.0, 3.0, 4.0, 4.0]
    arc = Cosine(1.0, 0.0, start=0.5)
    assert [arc(p) for p in (0.0, 0.5, 0.75, 1.0)] == pytest.approx([1.0, 1.0, 0.5, 0.0])
    assert arc(0.625) == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))


def test_steps_hold_from_their_progress_on():
    steps = Steps({0.4: 64, 0: 32, 0.9: 16})
    assert [steps(p) for p in (0.0, 0.39, 0.4, 0.89, 0.9, 1.0)] == [32, 32, 64, 64, 16, 16]
    assert (steps.least, steps.most) == (16, 64)
    with pytest.raises(ValueError, match="weight must not be negative"):
        check_not_negative(weight=Steps({0: 1, 0.2: -1, 0.5: 1}))


@pytest.mark.parametrize("values", [{}, {0.1: 1.0}, {0.0: 1.0, 1.5: 2.0}, {-0.5: 1.0, 0.0: 2.0}])
def test_impossible_steps_are_refused(values):
    with pytest.raises(ValueError, match="the first at 0"):
        Steps(values)


@pytest.mark.parametrize("kind", [Linear, Cosine])
@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.6, 0.4), (-0.1, 0.5), (0.0, 1.5)])
def test_an_impossible_interval_is_refused(kind, start, end):
    with pytest.raises(ValueError, match=f"start={start}, end={end}"):
        kind(0.0, 1.0, start, end)


def test_a_negative_weight_is_refused():
    check_not_negative(opacity_weight=Linear(0.0, 1.0), decay=Constant(0.0))
    with pytest.raises(
        ValueError, match="orientation_weight must not be negative, got 1 at the start and -1"
    ):
        check_not_negative(opacity_weight=Constant(1.0), orientation_weight=Linear(1.0, -1.0))


@pytest.mark.parametrize("name", ["opacity", "orientation"])
def test_an_object_is_not_fitted_with_a_negative_weight(name):
    with pytest.raises(ValueError, match=name):
        small_model(**{name: Linear(1.0, -1.0)})
