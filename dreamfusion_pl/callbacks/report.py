"""Status and results of a run: status.json for programs, viewer.html for people."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.callbacks.hyperparameters import log_row
from dreamfusion_pl.callbacks.previews.stages import stage
from dreamfusion_pl.callbacks.safety import Safety
from dreamfusion_pl.callbacks.score import Score
from dreamfusion_pl.run_folder import layout
from dreamfusion_pl.version import VERSION

PREVIEWS = 8  # most on the page
FORMAT = 1  # version of status.json; raised when a field changes its meaning or is removed


@final
class Report(Callback):
    """Updates ``status.json`` from the first step on, and writes ``viewer.html`` when a fit ends.

    ``status.json`` is described in docs/run_folder.md.
    """

    def __init__(self) -> None:
        self._has_begun = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Record the start time, and make all ranks agree on the run folder."""
        self._started, self._has_begun = datetime.now(UTC), False
        self._processor_time = time.process_time()
        layout.run_folder(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the status "running"."""
        self._has_begun = True
        self._write(trainer, pl_module, "running")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Update step and metrics."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._write(trainer, pl_module, "running")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the viewer page, the settings and the status "finished"."""
        if trainer.is_global_zero:
            with stage(trainer, "writing the page"):
                self._show(trainer, pl_module)
            log_row(trainer, pl_module)
            self._write(trainer, pl_module, "finished", files=_files(layout.run_folder(trainer)))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the status "interrupted" or "failed", with the error."""
        if trainer.state.fn == "fit" and self._has_begun and trainer.is_global_zero:
            if isinstance(exception, KeyboardInterrupt | SystemExit):
                self._write(trainer, pl_module, "interrupted")
            else:
                self._write(trainer, pl_module, "failed", error=f"{type(exception).__name__}: {exception}")

    def _write(self, trainer: Trainer, pl_module: LightningModule, state: str, **more: Any) -> None:
        if not trainer.is_global_zero:
            return
        from dreamfusion_pl.atomic import replacing

        now = datetime.now(UTC)
        status = {
            "format": FORMAT,
            "state": state,
            **_identity(pl_module),
            "step": trainer.global_step,
            "max_steps": trainer.max_steps,
            "started": self._started.isoformat(timespec="seconds"),
            "updated": now.isoformat(timespec="seconds"),
            "seconds": round((now - self._started).total_seconds(), 1),
            "device": _device(pl_module.device),
            "versions": {
                "dreamfusion_pl": VERSION,
                "torch": str(torch.__version__),
                "python": platform.python_version(),
            },
            "metrics": _metrics(trainer),
            "skipped_steps": sum(one.skipped for one in trainer.callbacks if isinstance(one, Safety)),
            "notes": [note for one in trainer.callbacks if isinstance(one, Safety) for note in one.notes],
            **more,
        }
        with replacing(layout.run_folder(trainer) / layout.STATUS) as temporary:
            temporary.write_text(json.dumps(status, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def _show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        from dreamfusion_pl.export.pages.facts import duration, metrics, work
        from dreamfusion_pl.export.pages.viewer import Page, write_viewer

        run, device = layout.run_folder(trainer), pl_module.device
        previews = layout.previews(run)
        configuration = run / "config.yaml"
        seconds = (datetime.now(UTC) - self._started).total_seconds()
        busy = work(time.process_time() - self._processor_time, seconds, torch.get_num_threads())
        facts = {
            "seed": str(_identity(pl_module)["seed"]),
            "steps": str(trainer.global_step),
            "time since it started, or went on": duration(seconds),
            **({"of it, this run's work": busy} if device.type == "cpu" else {}),
            "device": _device(device),
            "version": f"dreamfusion_pl {VERSION}, torch {torch.__version__}",
            **metrics(_metrics(trainer)),
        }
        page = Page(
            title=str(_identity(pl_module)["prompt"]),
            object=_existing(run / layout.OBJECT),
            film=_existing(run / layout.TURNTABLE_GIF),
            previews={_caption(path): path for path in _spaced(previews, PREVIEWS)},
            legend="Rows: colour, normals, opacity; latents decoded, if there are any; what the prior wants.",
            facts=facts,
            configuration=configuration.read_text(encoding="utf-8") if configuration.exists() else "",
        )
        write_viewer(page, run / layout.VIEWER)


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


def _caption(preview: Path) -> str:
    return f"step {layout.step_of(preview)}"


def _spaced(paths: list[Path], most: int) -> list[Path]:
    """Return at most so many of the paths, evenly spaced, with the last."""
    if len(paths) <= most:
        return paths
    return [paths[round((len(paths) - 1) * place / (most - 1))] for place in range(most)]


def _identity(model: LightningModule) -> dict[str, str | int]:
    assert isinstance(model, DreamFusion)
    return {"prompt": model.prompt, "seed": model.seed}


def _metrics(trainer: Trainer) -> dict[str, float | None]:
    """Return the last logged values; values that are not finite become None, since JSON has no NaN."""
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for one in trainer.callbacks:
        if isinstance(one, Score) and one.value is not None:
            values["score"] = one.value
    return {name: value if abs(value) < float("inf") else None for name, value in values.items()}


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)


def _files(run: Path) -> dict[str, dict[str, str | int]]:
    """Return size and SHA-256 of every result file, by its path in the run folder."""
    single = [
        layout.OBJECT,
        layout.OBJECT_REPORT,
        layout.TURNTABLE_GIF,
        layout.TURNTABLE_VIDEO,
        layout.VIEWER,
        layout.PROMPT,
        "config.yaml",
    ]
    places = [
        *(run / name for name in single),
        *sorted((run / layout.RENDERS).glob("*.png")),
        *sorted((run / "checkpoints").glob("*.ckpt")),
    ]
    return {
        place.relative_to(run).as_posix(): {
            "bytes": place.stat().st_size,
            "sha256": hashlib.sha256(place.read_bytes()).hexdigest(),
        }
        for place in places
        if place.exists()
    }
