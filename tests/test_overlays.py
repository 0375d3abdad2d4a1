"""The overlay of every family, end to end on its tiny random pipeline."""

import pytest
import yaml
from fakes import SMALL_CALLBACKS, SMALL_EXPORT
from PIL import Image
from tiny_families import save_tiny_family

from dreamfusion_pl.cli import main
from dreamfusion_pl.configuration import layers

OVERLAYS = ["stable_diffusion", "stable_diffusion_xl", "deepfloyd", "stable_diffusion_3", "flux"]
SMALL = {
    "model": {
        "init_args": {
            "scene": {"init_args": {"features": {"init_args": {"resolution": 8, "channels": 4, "width": 8}}}},
            "renderer": {"num_samples": 8, "occupancy_resolution": 8, "num_strata": 16},
            "prior": {"init_args": {"dtype": "float32", "resolution": 8}},
        }
    },
    "data": {"init_args": {"resolution": 8, "look_resolution": 16, "num_val_views": 2, "num_test_views": 2}},
    "trainer": {
        "max_steps": 20,
        "val_check_interval": 20,
        "log_every_n_steps": 5,
        "callbacks": SMALL_CALLBACKS,
    },
}


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_fit_of_20_steps(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    save_tiny_family(name, tmp_path / "tiny")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    status = main(
        [
            "fit",
            *("--config", f"{name}.yaml", "--config", "small.yaml"),
            *("--prompt", "a red chair", "--model.prior.model", "tiny"),
        ]
    )
    assert status == 0, capsys.readouterr().err
    run = tmp_path / "lightning_logs" / "version_0"
    settings = yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]
    assert settings["distillation"]["init_args"]["guidance_scale"] > 0.0
    assert "done: 20 steps" in capsys.readouterr().out
    assert (run / "turntable.gif").read_bytes()[:6] == b"GIF89a"
    assert (run / "checkpoints" / "last.ckpt").stat().st_size < 1e6


@pytest.mark.parametrize(
    ("name", "channels"), [("stable_diffusion", 4), ("stable_diffusion_xl", 4), ("stable_diffusion_3", 16)]
)
def test_a_fit_that_begins_in_latents_and_goes_on_in_colours(name, channels, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    save_tiny_family(name, tmp_path / "tiny")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    words = ["--config", f"{name}.yaml", "--config", "small.yaml", "--prompt", "a red chair"]
    words += ["--trainer.val_check_interval", "8"]  # a preview of each half
    words += ["--model.prior.model", "tiny", "--model.latent_until", "0.5"]
    assert main(["fit", *words]) == 2
    err = capsys.readouterr().err
    assert (
        "emits colours" in err
        and "number of channels; 4 for" in err
        and "16 for Stable Diffusion 3 and FLUX" in err
    )
    assert main(["fit", *words, "--model.scene.latents", "5"]) == 2
    assert f"pass --model.scene.latents {channels}" in capsys.readouterr().err
    words += ["--model.scene.latents", str(channels)]
    assert main(["fit", *words]) == 0, capsys.readouterr().err
    (run,) = [path.parent for path in tmp_path.glob("lightning_logs/*/object.glb")]
    for step, rows in ((8, 5), (16, 4)):  # the first has a row of decoded latents
        with Image.open(run / "renders" / f"step_{step:06d}.png") as sheet:
            assert sheet.height == rows * 16
    words = ["--formats", "ply", "--out", str(tmp_path / "out"), *SMALL_EXPORT]
    assert main(["export", str(run), *words]) == 0


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_names_a_hub_model_and_bfloat16(name):
    prior = layers.load(f"{name}.yaml").tree["model"]["init_args"]["prior"]["init_args"]
    assert prior["model"].count("/") == 1 and prior["dtype"] == "bfloat16"
