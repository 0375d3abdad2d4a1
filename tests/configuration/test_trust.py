"""A stranger's run folder: looking at it imports nothing that it names, and writes where the command says."""

import copy
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fakes import SMALL_EXPORT

from dreamfusion_pl.cli import main
from dreamfusion_pl.configuration import trust

RUN = Path("run")
LOOK = ["--data.look_resolution", "8", "--data.num_test_views", "2", "--data.num_val_views", "1"]
EVIL = """
from pathlib import Path
Path("it_ran").touch()
class Scene: pass
def make(*_, **__): pass
"""


@pytest.fixture
def stranger(finished_run, tmp_path, monkeypatch) -> Path:
    """The working folder, with a run of a stranger and a module that says when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as python -m has it
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    shutil.copytree(finished_run, RUN)
    (tmp_path / "evil.py").write_text(EVIL)
    (tmp_path / "evil.yaml").write_text("{class_path: evil.Scene}")
    (tmp_path / "evil_run.yaml").write_text("{class_path: evil.Scene, init_args: {a: 1}}")
    return tmp_path


def put(tree: dict, path: str, value: object) -> dict:
    """Set a part of a configuration, creating what leads to it."""
    tree = copy.deepcopy(tree)
    *above, name = path.split(".")
    part = tree
    for one in above:
        part = part.setdefault(one, {})
    part[name] = value
    return tree


def change_checkpoint(path: str, value: object) -> None:
    file = RUN / "checkpoints" / "last.ckpt"
    stored = torch.load(file, weights_only=True)
    stored["hyper_parameters"] = put(stored["hyper_parameters"], path, value)
    torch.save(stored, file)


def change_config(path: str, value: object) -> None:
    tree = yaml.safe_load((RUN / "config.yaml").read_text())
    (RUN / "config.yaml").write_text(yaml.safe_dump(put(tree, path, value)))


NAMED = [
    ("scene", {"class_path": "evil.Scene"}),
    ("scene", "evil.Scene"),
    ("scene", '{"class_path": "evil.Scene"}'),
    ("scene", "evil.yaml"),
    ("scene.class_path", "evil.Scene"),
    ("scene.init_args.features", {"class_path": "evil.Scene", "init_args": {}}),
    ("scene.init_args.field", {"class_path": "dreamfusion_pl.runs.yaml.Scene"}),
    ("warmup", {"class_path": "evil.Scene"}),
    ("decay", "evil.make"),
    ("regularizers.opacity", "evil.Scene"),
    ("background", {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "it_ran"]}}),
]


@pytest.mark.parametrize(("path", "value"), NAMED, ids=[f"{path} {value}" for path, value in NAMED])
def test_an_object_that_names_other_code_is_refused_and_nothing_is_imported(stranger, capsys, path, value):
    change_checkpoint(path, value)
    change_config(f"model.init_args.{path}", value)
    for words in (["export", "run", *SMALL_EXPORT], ["test", "--resume", "run", *LOOK]):
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert error.startswith("dreamfusion_pl: error: ") and "Traceback" not in error, error
    assert not Path("it_ran").exists()
    assert sorted(path.name for path in stranger.iterdir()) == [
        "evil.py",
        "evil.yaml",
        "evil_run.yaml",
        "run",
    ]


@pytest.mark.parametrize("words", [["render"], ["evaluate"], ["export"]])
def test_the_message_names_the_class_and_the_way_out(stranger, capsys, words):
    change_checkpoint("scene.class_path", "evil.Scene")
    assert main([*words, "run"]) == 2
    error = capsys.readouterr().err
    assert "names the class evil.Scene" in error and "--trust" in error
    assert main([*words, "run", "--trust"]) == 2  # it is imported, and is no scene
    assert "evil.Scene" in capsys.readouterr().err and Path("it_ran").exists()


PARTS = [
    ("model", "evil.yaml", False),
    ("model.class_path", "evil.Scene", False),
    ("data", {"class_path": "evil.Scene"}, False),
    ("data", "evil_run.yaml", False),
    ("model.init_args.prior", {"class_path": "evil.Scene"}, True),  # no look needs it
    ("model.init_args.distillation", "evil.Scene", True),
    ("model.init_args.optimizer", {"class_path": "evil.make"}, True),
    ("trainer.callbacks", [{"class_path": "evil.Scene"}, "evil.Scene"], True),
    ("trainer.callbacks", "evil.yaml", True),
    ("trainer.strategy", {"class_path": "evil.Scene"}, True),
    ("trainer.plugins", [{"class_path": "evil.Scene"}], True),
    ("trainer.profiler", {"class_path": "evil.Scene"}, True),
    ("trainer.logger", {"class_path": "evil.Scene"}, True),
    ("anything", {"class_path": "evil.Scene"}, True),
]


@pytest.mark.parametrize(
    ("path", "value", "works"), PARTS, ids=[f"{path} {value}" for path, value, _ in PARTS]
)
def test_no_part_of_a_configuration_brings_other_code_into_a_look(stranger, capsys, path, value, works):
    change_config(path, value)
    assert main(["test", "--resume", "run", *LOOK]) == (0 if works else 2)
    assert "Traceback" not in capsys.readouterr().err
    assert not Path("it_ran").exists()


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_a_run_does_not_choose_where_a_look_writes(stranger, capsys, command):
    before = {path: path.stat().st_mtime_ns for path in RUN.rglob("*")}
    logger = {"save_dir": str(stranger / "elsewhere"), "name": "there", "version": "../../up"}
    change_config("trainer.logger.init_args", logger)
    change_config("trainer.default_root_dir", str(stranger / "elsewhere"))
    before[RUN / "config.yaml"] = (RUN / "config.yaml").stat().st_mtime_ns
    assert main([command, "--resume", "run", *LOOK]) == 0
    assert {path.name for path in stranger.iterdir()} >= {"lightning_logs", "run"}
    assert not (stranger / "elsewhere").exists() and not (stranger.parent / "up").exists()
    assert Path("lightning_logs/version_0").is_dir()
    assert {path: path.stat().st_mtime_ns for path in RUN.rglob("*")} == before


def test_nor_does_one_that_is_trusted(stranger):
    change_config("trainer.logger.init_args", {"save_dir": str(stranger / "elsewhere"), "version": "there"})
    assert main(["validate", "--resume", "run", "--trust", *LOOK]) == 0
    assert not (stranger / "elsewhere").exists() and Path("lightning_logs/version_0").is_dir()


def test_callbacks_of_others_are_left_out_and_named(stranger, capsys):
    change_config("trainer.callbacks", [{"class_path": "evil.Scene"}])
    assert main(["test", "--resume", "run", *LOOK]) == 0
    assert "left out of this look, as they are not of this package: evil.Scene" in capsys.readouterr().err


def test_the_prior_of_a_look_can_be_given_by_the_command(stranger, capsys):
    words = ["test", "--resume", "run", "--model.prior.spread", "0.2", *LOOK]
    assert main(words) == 2  # it is one of the tests, and not of this package
    assert "names the class fakes.ColorPrior" in capsys.readouterr().err
    assert main([*words, "--trust"]) == 0


def test_fits_import_what_they_like_after_a_look(stranger, finished_run):
    assert main(["test", "--resume", "run", *LOOK]) == 0
    words = ["fit", "--resume", "run", "--trainer.max_steps", "5", "--schedule_steps", "4"]
    assert main([*words, "--data.num_test_views", "2"]) == 0  # with fakes.ColorPrior


def test_a_configuration_without_bounds_is_refused(stranger, capsys):
    bomb = "&a0 [x]"
    for level in range(1, 9):
        names = ", ".join([f"*a{level - 1}"] * 9)
        bomb = f"[{bomb}, &a{level} [{names}]]"
    (RUN / "config.yaml").write_text(f"data: {bomb}\n")
    assert main(["test", "--resume", "run"]) == 2
    assert "more than 100000 settings" in capsys.readouterr().err
    (RUN / "config.yaml").write_text(f"data: {'[' * 100_000}")
    assert main(["test", "--resume", "run"]) == 2
    assert "no valid YAML" in capsys.readouterr().err


def test_classes_of_this_package_and_optimizers_are_known():
    own = {"class_path": "dreamfusion_pl.schedule.Constant", "init_args": {"value": 1.0}}
    trust.check_classes({"a": [own, {"class_path": "torch.optim.Adam"}, {"class_path": "Constant"}]}, "here")
    for name in ("dreamfusion_plus.Evil", "torch.optimizer", "torch.hub.load", None, 3):
        with pytest.raises(trust.ForeignClassError, match="here names the class"):
            trust.check_classes({"a": [own, {"class_path": name}]}, "here")
