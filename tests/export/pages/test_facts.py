"""Figures of a run in words."""

import pytest

from dreamfusion_pl.export.pages.facts import duration, metrics, work


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (496, "8 min 16 s")),
        *((3599.7, "1 h 0 min"), (7512, "2 h 5 min")),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_work_says_how_much_of_the_machine_a_run_had():
    assert work(98.0, 62.0, 2) == "1 min 38 s, 79 % of 2 threads"
    assert work(62.0, 496.0, 1) == "1 min 2 s, 12 % of 1 thread"  # on a busy machine
    assert work(130.0, 62.0, 2) == "2 min 10 s, 100 % of 2 threads"  # libraries have more


def test_metrics_have_words_and_units_and_no_keys():
    values = {"loss/opacity": 0.25, "opacity": 0.175, "my_metric": 1234.567, "loss": None, "score": 0.01485}
    shown = metrics(values)
    assert list(shown.values()) == ["0.01485", "18 %", "0.25", "1235"]
    assert next(iter(shown)).startswith("score (") and "my metric" in shown
    assert not any("/" in name or "_" in name for name in shown)
