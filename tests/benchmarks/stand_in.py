"""Any configuration with the embedded prior standing in for a model that cannot be had here."""

from __future__ import annotations

import torch
import yaml
from jsonargparse import ActionConfigFile
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import LightningArgumentParser

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.configuration import parsing
from dreamfusion_pl.data.views import RandomViews

# What the embedded prior demands: its model, a guidance scale that it stands, the names of its views.
STAND_IN = {
    "model.prior.model": "builtin",
    "model.prior.dtype": "auto",
    "model.distillation.guidance_scale": "8",
    "model.prompts.directions": "48",
}
# Renders of all hub models have the size of those for the smaller ones.
HUB_STAND_IN = {
    "model.prior.resolution": "0",
    "model.prior.embedded_guidance": "0",
    "data.resolution": "{class_path: Steps, init_args: {values: {0.0: 64, 0.7: 128}}}",
}
HUB = ("stable_diffusion", "stable_diffusion_xl", "deepfloyd", "stable_diffusion_3", "flux")
OWN = ("default", "draft")  # made for the embedded prior
REGIMES = (*OWN, "paper", *HUB)


def words_of(regime: str) -> list[str]:
    """The options of ``fit`` that put the embedded prior into a regime."""
    if regime in OWN:
        return [f"--config={regime}.yaml"]
    settings = STAND_IN | (HUB_STAND_IN if regime in HUB else {})
    return [f"--config={regime}.yaml", *(f"--{name}={value}" for name, value in settings.items())]


def build(regime: str, *words: str, prompt: str = "a red chair") -> tuple[DreamFusion, RandomViews]:
    """Model and data of a regime, untrained."""
    tree = parsing.read_configuration([*words_of(regime), f"--prompt={prompt}", *words])
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    text = yaml.safe_dump({key: tree[key] for key in ("model", "data")})
    torch.manual_seed(0)
    objects = parser.instantiate_classes(parser.parse_string(text))
    return objects.model, objects.data
