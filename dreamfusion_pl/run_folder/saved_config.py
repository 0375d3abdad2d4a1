"""Saves configuration and prompt of a run: config.yaml, prompt.txt, and both as text in TensorBoard."""

from __future__ import annotations

from typing import final

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.cli import SaveConfigCallback

from dreamfusion_pl.run_folder import layout


@final
class SavedConfiguration(SaveConfigCallback):
    """Saves the full configuration and the prompt of a run in the run folder and in TensorBoard."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Determine the run folder on all ranks, then save."""
        layout.run_folder(trainer)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write both files, atomically (a run is resumed from the first), and both texts to TensorBoard."""
        from dreamfusion_pl.atomic import replacing

        run = layout.run_folder(trainer)
        texts = {"configuration": self.parser.dump(self.config, skip_validation=True, skip_none=False)}
        with replacing(run / self.config_filename) as temporary:
            temporary.write_text(texts["configuration"], encoding="utf-8")
        prompt = self.config.get("prompt")
        if prompt is not None:
            texts["prompt"] = prompt
            with replacing(run / layout.PROMPT) as temporary:
                temporary.write_text(f"{prompt}\n", encoding="utf-8")
        writer = layout.tensorboard(trainer)
        if writer is not None:
            for name, text in texts.items():
                indented = text.replace("\n", "\n    ")
                writer.add_text(name, f"    {indented}", 0)
