"""The object as a mesh, when training ends."""

from __future__ import annotations

import sys
from typing import final

from pytorch_lightning import Callback, LightningModule, Trainer

from dreamfusion_pl.callbacks import folder


@final
class MeshExport(Callback):
    """Extracts the surface with its colours and writes object.glb; shows it in TensorBoard.

    Args:
        resolution: cells along a side of the grid that the surface is extracted from.
    """

    def __init__(self, resolution: int = 96) -> None:
        if resolution < 8:
            raise ValueError(
                f"resolution is the number of grid cells along a side, 8 or more, got {resolution}"
            )
        self.resolution = resolution

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export the finished object, or say why there is none."""
        if not trainer.is_global_zero:
            return
        from dreamfusion_pl.export.files import write_mesh
        from dreamfusion_pl.export.mesh import extract

        run = folder.run_folder(trainer)
        run.mkdir(parents=True, exist_ok=True)
        try:
            mesh = extract(pl_module.scene, self.resolution, progress=pl_module.progress)
        except ValueError as error:
            print(f"dreamfusion_pl: warning: no mesh was written: {error}", file=sys.stderr)
            return
        write_mesh(mesh, run / folder.OBJECT)
        writer = folder.tensorboard(trainer)
        if writer is not None:
            colors = (mesh.colors * 255.0).round().clamp(0, 255).byte()
            writer.add_mesh(
                "object", mesh.vertices[None], colors[None], mesh.faces[None], global_step=trainer.global_step
            )
