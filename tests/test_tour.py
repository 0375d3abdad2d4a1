"""The notebook of docs/, from its first cell to its last, and what a result shows of itself there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from dreamfusion_pl.result import Result

TOUR = Path(__file__).parents[1] / "docs" / "tour.ipynb"


def test_it_is_committed_without_outputs():
    cells = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5 and not any(cell["outputs"] or cell["execution_count"] for cell in code)


def test_a_result_shows_its_page(tmp_path):
    result = Result(SimpleNamespace(prompt="a <b>red</b> chair"), tmp_path)
    assert "a &lt;b&gt;red&lt;/b&gt; chair" in result._repr_html_()  # it has none
    (tmp_path / "viewer.html").write_text('<p id="x">chair & table</p>', encoding="utf-8")
    assert 'srcdoc="&lt;p id=&quot;x&quot;&gt;chair &amp; table&lt;/p&gt;"' in result._repr_html_()


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
    assert sum("image/png" in data for data in shown) == 7
    assert sum("srcdoc=" in data.get("text/html", "") for data in shown) == 1
    assert (tmp_path / "chair.obj").stat().st_size > 10_000
