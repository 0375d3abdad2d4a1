"""``fit`` as a Python function, and the result that it returns."""

from __future__ import annotations

import html
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import final

from jsonargparse import ArgumentError

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.diffusion.text.prompt_check import check_prompt
from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.runs import RunCommand
from dreamfusion_pl.terminal import plain, quieten, use_all_cores


@final
class Result:
    """A finished object.

    Args:
        model: the trained model, with averaged weights.
        run: its run folder.
    """

    def __init__(self, model: DreamFusion, run: Path) -> None:
        self.model, self.run = model, run

    @property
    def turntable(self) -> Path:
        """Path of the turntable, an animated GIF; an MP4 is next to it."""
        return self.run / layout.TURNTABLE_GIF

    def __repr__(self) -> str:
        return f"Result({self.model.prompt!r}, {str(self.run)!r})"

    def _repr_html_(self) -> str:
        """Show the run's page in a notebook: the object to turn around, its turntable and previews."""
        page = self.run / layout.VIEWER
        if not page.exists():
            return f"<p>{html.escape(self.model.prompt)}: {html.escape(str(self.run))} has no page</p>"
        text = html.escape(page.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{text}" style="width: 100%; height: 760px; border: 0"></iframe>'

    def _repr_png_(self) -> bytes | None:
        """Show the object from its front where a page cannot be shown, as in a notebook on a web host."""
        from PIL import Image

        if not self.turntable.exists():
            return None
        file = BytesIO()
        with Image.open(self.turntable) as film:
            film.convert("RGB").save(file, format="PNG")
        return file.getvalue()

    def save(self, path: str | Path, resolution: int = 96) -> Path:
        """Write the object as a textured mesh.

        Args:
            path: a .glb, .obj, .ply, .stl or .usdz file.
            resolution: grid points along the object's longest side, 8 or more.

        Returns:
            The path.

        Raises:
            ValueError: the suffix is not one of these, or the scene is empty.
            OSError: the file cannot be written.
        """
        from dreamfusion_pl.export.asset import Settings, make_asset
        from dreamfusion_pl.export.files.meshes import write_asset

        settings = Settings(resolution=resolution)
        return write_asset(make_asset(self.model.scene, settings, self.model.progress), path)


def generate(
    prompt: str, steps: int | None, seed: int, configs: Sequence[str], options: Sequence[str]
) -> Result:
    """See :func:`dreamfusion_pl.generate`."""
    words = [f"--config={config}" for config in configs]
    words += [f"--prompt={check_prompt(prompt)}", f"--seed_everything={seed}", *options]
    if steps is not None:
        words.append(f"--trainer.max_steps={steps}")
    use_all_cores()
    try:
        with warnings.catch_warnings():
            quieten()
            command = RunCommand("fit", words)
    except (ArgumentError, ValueError) as error:
        raise ValueError(plain(error)) from error
    return Result(command.model, layout.run_folder(command.trainer))
