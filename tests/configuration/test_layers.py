import pytest
import torch
import yaml
from fakes import SMALL
from jsonargparse import ArgumentError

from dreamfusion_pl.cli import main
from dreamfusion_pl.configuration import layers, parsing, trust

ALL = sorted(path.name for path in layers.PACKAGED.glob("*.yaml"))


@pytest.mark.parametrize("name", ALL)
def test_every_yaml_is_accepted(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", name, "--prompt", "a red chair", "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["class_path"].startswith("dreamfusion_pl.")
    assert printed["trainer"]["max_steps"] > 0


def names_of_layers(*args: str) -> list[str]:
    return [layer.name.rpartition("/")[2] for layer in layers.arrange(list(args)).layers]


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "overlay.yaml").write_text("trainer: {max_steps: 3}\n")
    (tmp_path / "alone.yaml").write_text("model: {class_path: some.Model}\n")
    return tmp_path


def test_the_default_lies_under_overlays_but_not_under_other_models(folder):
    assert names_of_layers() == ["default.yaml"]
    assert names_of_layers("--config", "overlay.yaml") == ["default.yaml", "overlay.yaml"]
    assert names_of_layers("--config=overlay.yaml", "-c", "overlay.yaml") == [
        "default.yaml",
        "overlay.yaml",
        "overlay.yaml",
    ]
    assert names_of_layers("--config", "alone.yaml") == ["alone.yaml"]
    assert names_of_layers("--model", "some.Model", "--config", "overlay.yaml") == ["overlay.yaml"]


def test_files_come_before_options_whatever_their_order(folder):
    flat = layers.arrange(["--trainer.max_steps", "5", "--config", "overlay.yaml"]).flat()
    assert flat[-2:] == ["--trainer.max_steps", "5"]
    assert flat[2:4] == ["--config", "overlay.yaml"]


def test_files_of_the_working_folder_win_over_packaged_ones(folder):
    assert layers.find("configs/default.yaml") == layers.PACKAGED / "default.yaml"
    (folder / "default.yaml").write_text("{}")
    assert layers.find("default.yaml").resolve() == folder / "default.yaml"


@pytest.mark.parametrize("text", ["a: [", "just words", "- a list", "3"])
def test_what_is_no_mapping_is_refused(folder, text):
    (folder / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match="bad.yaml"):
        layers.load("bad.yaml")


def test_a_missing_file_names_the_packaged_ones(folder):
    with pytest.raises(ValueError, match="default.yaml"):
        layers.load("missing.yaml")


def test_checkpoints_are_found_by_file_folder_and_last(folder):
    for version in (0, 1):
        checkpoints = folder / "lightning_logs" / f"version_{version}" / "checkpoints"
        checkpoints.mkdir(parents=True)
        torch.save({}, checkpoints / "last.ckpt")
        (checkpoints.parent / "config.yaml").write_text(f"prompt: number {version}\nverbose: true\n")
    newest = layers.find_checkpoint("last")
    assert newest == layers.find_checkpoint("lightning_logs/version_1")
    assert newest == layers.find_checkpoint(str(newest))
    arranged = layers.arrange(["--ckpt_path", "lightning_logs/version_0"])
    assert [layer.tree for layer in arranged.layers] == [{"prompt": "number 0"}]
    (folder / "again.yaml").write_text("ckpt_path: lightning_logs/version_0\n")
    arranged = layers.arrange(["--config", "again.yaml"])
    assert arranged.layers[0].tree == {"prompt": "number 0"} and "version_0" in str(arranged.checkpoint)
    assert layers.arrange(["--config", "again.yaml", "--resume", "last"]).checkpoint == newest
    config = folder / "lightning_logs" / "version_1" / "config.yaml"
    logger = {"init_args": {"save_dir": "lightning_logs", "version": "version_1"}}
    config.write_text(yaml.safe_dump({"trainer": {"logger": logger, "max_steps": 5}}))
    looks, goes_on = (layers.arrange(["--ckpt_path", "last"], is_fit=is_fit) for is_fit in (False, True))
    assert goes_on.layers[0].tree["trainer"]["logger"] == logger
    assert looks.layers[0].tree["trainer"] == {
        "logger": trust.LOGGER,  # where a look writes is not for the run to choose
        "callbacks": [],
        "max_steps": 5,
    }
    assert yaml.safe_load(looks.layers[0].text) == looks.layers[0].tree
    with pytest.raises(ValueError, match="no checkpoint at 'version_7'"):
        layers.find_checkpoint("version_7")


RUN = """
model:
  init_args:
    distillation:
      class_path: dreamfusion_pl.distillation.sds.ScoreDistillation
      init_args: {guidance_scale: 6.0, adjustment: null, time_law: null}
"""


def test_empty_settings_of_a_class_that_is_replaced_are_no_fault(folder):
    (folder / "run.yaml").write_text(RUN)
    bridge = ["--model.distillation", "BridgeDistillation", "--model.distillation.source_text", "a gray {}"]
    tree = parsing.read_configuration(["--config", "run.yaml", "--prompt", "a red chair", *bridge])
    arguments = tree["model"]["init_args"]["distillation"]["init_args"]
    assert arguments["source_text"] == "a gray {}" and "adjustment" not in arguments
    (folder / "run.yaml").write_text(RUN.replace("adjustment", "ajustment"))
    with pytest.raises(ArgumentError, match="'ajustment' is not accepted"):
        parsing.read_configuration(["--config", "run.yaml", "--prompt", "a red chair"])


def test_empty_leaves():
    tree = {"a": {}, "b": None, "c": {"d": {"e": None, "f": 1}}, "g": [], "h": 0}
    assert list(parsing.empty_leaves(tree)) == [("a",), ("b",), ("c", "d", "e")]


def test_the_small_run_of_the_tests_has_the_callbacks_of_the_default():
    names = [
        [callback["class_path"] for callback in layers.load(path).tree["trainer"]["callbacks"]]
        for path in ("default.yaml", str(SMALL))
    ]
    assert names[0] == names[1]
