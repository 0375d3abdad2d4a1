"""The leaderboard of distillation methods: its methods are accepted, and its figures are what they say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from dreamfusion_pl.cli import main

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

import leaderboard  # noqa: E402
from methods import METHODS, candidates  # noqa: E402


@pytest.mark.parametrize("name", METHODS)
def test_the_settings_of_a_method_are_accepted(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    method = METHODS[name]
    assert method.best in candidates(method)
    words = [*method.words, *method.paper]
    assert main(["fit", "--config", "draft.yaml", "--prompt", "a red chair", *words, "--print_config"]) == 0
    assert "class_path" in capsys.readouterr().out


def test_every_method_gets_as_many_calls_as_sds():
    for name, method in METHODS.items():
        calls = 2 * leaderboard.STEPS * method.first + leaderboard.steps_by_calls(method) * method.rows
        assert calls == pytest.approx(2 * leaderboard.STEPS, rel=0.01), name


def test_differences_are_taken_fit_by_fit():
    hard_and_easy = {"a blue mug": 0.3, "a red apple": 0.9}
    sds = [{"prompt": p, "seed": s, "iou": v + s / 10} for p, v in hard_and_easy.items() for s in (0, 1)]
    better = [row | {"iou": row["iou"] + 0.02} for row in reversed(sds)]
    assert leaderboard.against(better, sds, "iou") == "+0.020 ± 0.000"  # prompts differ by .6
    assert leaderboard.against(sds, sds, "iou") == "+0.000 ± 0.000"
    mixed = [row | {"iou": row["iou"] + (0.1 if row["seed"] else -0.1)} for row in sds]
    assert leaderboard.against(mixed, sds, "iou") == "+0.000 ± 0.058"  # .1 * sqrt(4 / 3) / sqrt(4)


def test_a_row_of_pictures_has_the_name_of_its_method():
    pictures = [torch.zeros(24, 24, 3), torch.ones(24, 24, 3)]
    rows = [leaderboard.row_of_pictures("SDS", pictures), leaderboard.row_of_pictures("VSD", pictures[:1])]
    sheet = leaderboard.stacked(rows)
    assert sheet.shape == (48, rows[0].shape[1], 3)
    name = sheet[:24, : rows[0].shape[1] - 48]
    assert name.min() < 0.2 and name.max() == 1.0
    assert not torch.equal(name, sheet[24:, : name.shape[1]])
    assert bool((sheet[24:, -24:] == 1.0).all())  # nothing beside the shorter row
