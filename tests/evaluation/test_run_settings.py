"""What a run's configuration says about looking at its object, and configurations that make no sense."""

import pytest
import yaml

from dreamfusion_pl.evaluation.run_settings import MESH, RunSettings, settings_of
from dreamfusion_pl.metrics.looks import Camera


def run(folder, tree) -> str:
    text = tree if isinstance(tree, str) else yaml.safe_dump(tree)
    (folder / "config.yaml").write_text(text)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    return folder


def test_cameras_and_surface_are_those_of_the_run(tmp_path, capsys):
    data = {"class_path": "x", "init_args": {"distance": [1.5, 2.0], "focal": [0.7, 1.3], "look_focal": None}}
    mesh = {"class_path": MESH, "init_args": {"smallest_part": 0.001, "threshold": 7.0, "resolution": 64}}
    tree = {"data": data, "trainer": {"callbacks": [{"class_path": "y"}, mesh]}}
    folder = run(tmp_path, tree)
    wanted = RunSettings(Camera(1.75, 1.0), 7.0, 0.001)
    assert settings_of(folder) == settings_of(folder / "checkpoints" / "last.ckpt") == wanted
    assert not capsys.readouterr().err


def test_a_run_as_fit_writes_it(finished_run, capsys):
    settings = settings_of(finished_run)
    configured = yaml.safe_load((finished_run / "config.yaml").read_text())["data"]["init_args"]
    assert settings.camera == pytest.approx((sum(configured["distance"]) / 2, configured["look_focal"]))
    assert settings[1:] == RunSettings()[1:] and not capsys.readouterr().err


@pytest.mark.parametrize("tree", [{}, {"data": None, "trainer": None}, {"trainer": {"callbacks": None}}])
def test_what_is_not_said_has_its_default(tmp_path, capsys, tree):
    assert settings_of(run(tmp_path, tree)) == RunSettings()
    assert not capsys.readouterr().err


def of_data(**arguments):
    return {"data": {"init_args": arguments}}


def of_mesh(**arguments):
    return {"trainer": {"callbacks": [{"class_path": MESH, "init_args": arguments}]}}


@pytest.mark.parametrize(
    "tree",
    [
        "[1, 2",
        "just words",
        "",
        "[" * 5000,
        {"data": 3},
        {"data": {"init_args": [1]}},
        {"trainer": {"callbacks": 5}},
        of_data(distance=[float("nan"), 1.0]),
        of_data(distance=[1e30, 1e30]),
        of_data(distance="near"),
        of_data(focal=[2.0, 1.0]),
        of_data(look_distance=float("inf")),
        of_data(look_focal=-1.0),
        of_data(look_distance="near"),
        of_mesh(smallest_part=2.0),
        of_mesh(smallest_part="all"),
        of_mesh(threshold=-1.0),
        of_mesh(threshold=float("inf")),
        of_mesh(threshold="high"),
    ],
    ids=lambda tree: str(tree)[:60],
)
def test_what_makes_no_sense_is_said_and_not_believed(tmp_path, capsys, tree):
    assert settings_of(run(tmp_path, tree)) == RunSettings()
    error = capsys.readouterr().err
    assert "does not say how the object was looked at" in error and error.count("\n") == 1


def test_a_missing_configuration_is_said(tmp_path, capsys):
    assert settings_of(tmp_path) == RunSettings()
    assert "No such file" in capsys.readouterr().err
