"""The object as a textured surface, when training ends."""

from __future__ import annotations

import sys
from typing import final

from pytorch_lightning import Callback, LightningModule, Trainer

from dreamfusion_pl.callbacks import folder


@final
class MeshExport(Callback):
    """Extracts the surface, bakes its texture and writes object.glb and a report; shows it in TensorBoard.

    Args:
        resolution: grid points along the object's longest side, 8 or more.
        max_faces: triangles that the surface is simplified to, 16 or more.
        texture_size: height and width of the texture, 8 to 8192.
    """

    def __init__(self, resolution: int = 96, max_faces: int = 8000, texture_size: int = 512) -> None:
        if resolution < 8 or max_faces < 16 or not 8 <= texture_size <= 8192:
            raise ValueError(
                "resolution must be 8 or more, max_faces 16 or more and texture_size 8 to 8192, "
                f"got {resolution}, {max_faces} and {texture_size}"
            )
        self.resolution, self.max_faces, self.texture_size = resolution, max_faces, texture_size

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export the finished object, or say why there is none."""
        if not trainer.is_global_zero:
            return
        from dreamfusion_pl.export.asset import Settings, make_asset
        from dreamfusion_pl.export.files import write_asset
        from dreamfusion_pl.export.report import examine, write_report

        settings = Settings(self.resolution, None, self.max_faces, self.texture_size)
        run = folder.run_folder(trainer)
        run.mkdir(parents=True, exist_ok=True)
        try:
            asset = make_asset(pl_module.scene, settings, pl_module.progress)
        except ValueError as error:
            print(f"dreamfusion_pl: warning: no mesh was written: {error}", file=sys.stderr)
            return
        write_asset(asset, run / folder.OBJECT)
        write_report(examine(asset.mesh), run / folder.OBJECT_REPORT)
        writer = folder.tensorboard(trainer)
        if writer is not None:
            vertices, faces, colors = asset.mesh
            shades = (colors * 255.0).round().clamp(0, 255).byte()
            step = trainer.global_step
            writer.add_mesh("object", vertices[None], shades[None], faces[None], global_step=step)
