"""Exports the object as a textured mesh when training ends."""

from __future__ import annotations

import sys
from typing import final

from pytorch_lightning import Callback, LightningModule, Trainer

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.callbacks.previews.stages import stage
from dreamfusion_pl.export.asset import Asset, Settings, check, make_asset
from dreamfusion_pl.run_folder import layout


@final
class MeshExport(Callback):
    """Extracts the mesh, bakes its texture, writes object.glb and a report, and logs the mesh to TensorBoard.

    Args:
        resolution: grid points along the object's longest side, 8 or more.
        max_faces: number of triangles that the mesh is simplified to, 16 or more.
        texture_size: height and width of the texture, 8 to 8192.
        threshold: density at the isosurface, > 0; None finds it.
        size_m: longest side in metres, 1e-6 to 1e6; None: one world unit is one metre.
        normal_map: whether to bake a normal map from the field's normals.
        smallest_part: parts with less than this share of the largest one's area are dropped as floaters,
            0 to 1; 0 keeps them all.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        resolution: int = 96,
        max_faces: int = 8000,
        texture_size: int = 512,
        threshold: float | None = None,
        size_m: float | None = None,
        normal_map: bool = False,
        smallest_part: float = 0.02,
    ) -> None:
        self.settings = Settings(
            resolution, threshold, max_faces, texture_size, size_m, normal_map, smallest_part
        )
        check(self.settings)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export the finished object, or print why it has no surface."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, DreamFusion)
        from dreamfusion_pl.export.files.meshes import write_asset
        from dreamfusion_pl.export.quality import compare
        from dreamfusion_pl.export.report import examine, write_report

        run = layout.run_folder(trainer)
        run.mkdir(parents=True, exist_ok=True)
        with stage(trainer, "meshing", 3) as advance:
            try:
                asset = make_asset(pl_module.scene, self.settings, pl_module.progress)
            except ValueError as error:
                for name in (layout.OBJECT, layout.OBJECT_REPORT):  # of before, if the run was gone on with
                    (run / name).unlink(missing_ok=True)
                print(f"dreamfusion_pl: warning: no mesh was written: {error}", file=sys.stderr)
                return
            advance()
            write_asset(asset, run / layout.OBJECT)
            advance()
            quality = compare(pl_module.scene, pl_module.renderer, asset, pl_module.progress)
            advance()
        write_report(examine(asset.mesh), run / layout.OBJECT_REPORT, quality._asdict())
        _show(trainer, asset)


def _show(trainer: Trainer, asset: Asset) -> None:
    """Log the mesh to TensorBoard."""
    writer = layout.tensorboard(trainer)
    if writer is not None:
        vertices, faces, colors = asset.mesh
        from dreamfusion_pl.export.files.meshes import y_up

        shades = (colors * 255.0).round().clamp(0, 255).byte()
        step = trainer.global_step
        writer.add_mesh("object", y_up(vertices)[None], shades[None], faces[None], global_step=step)
