"""The row of a run in TensorBoard's HParams tab: settings that people compare, and how the run ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import LightningModule, Trainer

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.run_folder import layout

METRICS = ("score", "loss", "opacity")  # columns, and the charts whose last points they show


def compared_settings(trainer: Trainer, model: LightningModule) -> dict[str, str | int | float]:
    """Return about ten settings of a fit; what a class does not have is left out."""
    assert isinstance(model, DreamFusion)
    configured: Mapping[str, Any] = model.hparams  # of a model that was built without a configuration: little
    arguments = {
        name: (configured.get(name) or {}).get("init_args") or {}
        for name in ("distillation", "prior", "scene")
    }
    views = getattr(trainer, "datamodule", None)
    settings: dict[str, Any] = {
        "prompt": model.prompt,
        "seed": model.seed,
        "steps": trainer.max_steps,
        "learning_rate": model.learning_rate,
        "distillation": type(model.distillation).__name__,
        "guidance_scale": arguments["distillation"].get("guidance_scale"),
        "prior": arguments["prior"].get("model", type(model.prior).__name__),
        "scene": _classes(arguments["scene"]) or type(model.scene).__name__,
        "scene_parameters": sum(parameter.numel() for parameter in model.scene.parameters()),
    }
    if isinstance(views, RandomViews):
        settings["views_per_step"] = views.views_per_step
        settings["resolution"] = views.side(1.0, model.prior.resolution)
    return {name: value for name, value in settings.items() if isinstance(value, str | int | float)}


def _classes(arguments: Mapping[str, Any]) -> str:
    """Return the short names of the classes that a scene is composed of: its features and its field."""
    parts = [one for one in arguments.values() if isinstance(one, dict) and "class_path" in one]
    return " ".join(str(one["class_path"]).rpartition(".")[2] for one in parts)


def log_row(trainer: Trainer, model: LightningModule) -> None:
    """Write the row. Its metrics are charts that the run has, and not written a second time."""
    writer = layout.tensorboard(trainer)
    if writer is None:
        return
    from torch.utils.tensorboard.summary import hparams

    for summary in hparams(compared_settings(trainer, model), dict.fromkeys(METRICS, 0.0)):
        writer._get_file_writer().add_summary(summary, trainer.global_step)
