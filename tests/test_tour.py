"""The notebook of docs/, from its first cell to its last, and what a result shows of itself there."""

from __future__ import annotations

import json
import os
import re
import shutil
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from dreamfusion_pl.result import Result

TOUR = Path(__file__).parents[1] / "docs" / "tour.ipynb"
PICTURES = 8


def test_it_is_committed_with_its_pictures_and_without_pages_or_paths():
    cells = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    shown = [output.get("data", {}) for output in outputs]
    assert sum("image/png" in data for data in shown) == PICTURES
    assert not any("text/html" in data for data in shown) and TOUR.stat().st_size < 600_000
    words = [output.get("text", "") for output in outputs] + [data.get("text/plain", "") for data in shown]
    assert not re.search(r"(?<![\w.])/(?:tmp|work|home|root)\b", json.dumps(words))
    assert not any(output["output_type"] == "error" for output in outputs)


def test_a_result_shows_its_page(tmp_path):
    result = Result(SimpleNamespace(prompt="a <b>red</b> chair"), tmp_path)
    assert "a &lt;b&gt;red&lt;/b&gt; chair" in result._repr_html_()  # it has none
    (tmp_path / "viewer.html").write_text('<p id="x">chair & table</p>', encoding="utf-8")
    assert 'srcdoc="&lt;p id=&quot;x&quot;&gt;chair &amp; table&lt;/p&gt;"' in result._repr_html_()


def test_a_result_shows_a_picture_where_pages_cannot_be(tmp_path):
    result = Result(SimpleNamespace(prompt="a red chair"), tmp_path)
    assert repr(result) == f"Result('a red chair', {str(tmp_path)!r})"
    assert result._repr_png_() is None  # a run that was stopped before its film
    frames = [Image.new("RGB", (32, 24), color) for color in ("red", "blue")]
    frames[0].save(result.turntable, save_all=True, append_images=frames[1:])
    picture = Image.open(BytesIO(result._repr_png_()))
    assert picture.format == "PNG" and picture.size == (32, 24)
    assert picture.getpixel((3, 3)) == (255, 0, 0)  # the first frame


def test_every_cell_runs(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(TOUR.parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    shutil.copy(TOUR, tmp_path)
    notebook = nbformat.read("tour.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in data for data in shown) == PICTURES
    assert sum("srcdoc=" in data.get("text/html", "") for data in shown) == 1
    assert (tmp_path / "chair.obj").stat().st_size > 10_000
