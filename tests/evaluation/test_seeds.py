"""Differences of finished runs, from their files."""

from __future__ import annotations

import shutil

from PIL import Image

from dreamfusion_pl.evaluation.seeds import diversity_of
from dreamfusion_pl.metrics.diversity import Diversity
from dreamfusion_pl.run_folder import layout


def test_a_run_and_its_copy_are_equal_and_a_damaged_one_is_left_out(finished_run, tmp_path):
    copy, damaged, other = (tmp_path / name for name in ("copy", "damaged", "other"))
    for place in (copy, damaged, other):
        shutil.copytree(finished_run, place)
    (damaged / layout.OBJECT).write_bytes(b"glTF")
    found = diversity_of([finished_run, copy, damaged])
    assert found == {finished_run: Diversity(0.0, 0.0), copy: Diversity(0.0, 0.0)}
    with Image.open(copy / layout.TURNTABLE_GIF) as film:
        size = film.size
    frames = [Image.new("RGB", size, (0, 0, shade)) for shade in (0, 80, 160, 240)]
    frames[0].save(other / layout.TURNTABLE_GIF, save_all=True, append_images=frames[1:])
    assert diversity_of([finished_run, other])[other].pictures > 0.1
    assert diversity_of([finished_run]) == diversity_of([damaged, copy]) == {}
