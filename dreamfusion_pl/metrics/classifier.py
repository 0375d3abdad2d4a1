"""The world classifier: a small network, trained independently of any prior, that names object and colour."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, final

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.data.world.colors import COLORS
from dreamfusion_pl.data.world.objects.catalog import OBJECT_NAMES
from dreamfusion_pl.types import PictureBatch

WEIGHTS = Path(__file__).parent / "world_classifier.safetensors"
COLOR_NAMES = tuple(COLORS)


class Scores(NamedTuple):
    """Log-probabilities of B images."""

    object: Tensor  # [B, number of objects]
    color: Tensor  # [B, number of colours]


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.GroupNorm(8, outputs),
        nn.SiLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.GroupNorm(8, outputs),
        nn.SiLU(),
        nn.MaxPool2d(2),
    )


@final
class WorldClassifier(nn.Module):
    """Classifies the object and the main colour in an image, at 32 x 32 pixels internally.

    Args:
        width: channels of the first block; the next two have two and four times as many.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _block(3, width), _block(width, 2 * width), _block(2 * width, 4 * width)
        )
        self.neck = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * width * 16, 256), nn.SiLU())
        self.object = nn.Linear(256, len(OBJECT_NAMES))
        self.color = nn.Linear(256, len(COLOR_NAMES))

    def forward(self, pictures: Tensor) -> Scores:
        """Classify images [B, H, W, 3] in [0, 1]; they are resized to 32 x 32 pixels if necessary."""
        x = pictures.permute(0, 3, 1, 2) * 2.0 - 1.0
        if x.shape[-2:] != (32, 32):
            x = nn.functional.interpolate(x, (32, 32), mode="bilinear", antialias=True, align_corners=False)
        hidden = self.neck(self.features(x))
        return Scores(self.object(hidden).log_softmax(-1), self.color(hidden).log_softmax(-1))


def load_classifier(path: str | Path = WEIGHTS) -> WorldClassifier:
    """Load the trained classifier, frozen.

    Raises:
        ValueError: there are no weights at ``path``.
    """
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise ValueError(
            f"no classifier weights at {path}; train them with `fit --config configs/classifier.yaml`"
        )
    classifier = WorldClassifier()
    classifier.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return classifier.eval().requires_grad_(False)


@final
class ClassifierTraining(LightningModule):
    """Trains the classifier on captioned images of the procedural world.

    Args:
        learning_rate: peak learning rate of the one-cycle schedule.
        output: safetensors file for the weights (half precision), written when training ends.
    """

    def __init__(self, learning_rate: float = 2e-3, output: str = "world_classifier.safetensors") -> None:
        super().__init__()
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        self.learning_rate, self.output = learning_rate, output
        self.classifier = WorldClassifier()

    def training_step(self, batch: PictureBatch, _: int) -> Tensor:
        """Return the cross-entropy of object and colour; other captions than of one object are skipped."""
        scenes = [parse(caption) for caption in batch.captions]
        keep = [i for i, scene in enumerate(scenes) if scene is not None and not scene.relation]
        items = [scenes[i].items[0] for i in keep]  # type: ignore[union-attr]  # those in keep are not None
        noise = 0.06 * torch.rand((), device=batch.pictures.device) * torch.randn_like(batch.pictures)
        scores = self.classifier((batch.pictures + noise)[keep])
        objects = torch.tensor([OBJECT_NAMES.index(item.object) for item in items], device=self.device)
        colors = torch.tensor([COLOR_NAMES.index(item.color) for item in items], device=self.device)
        loss = nn.functional.nll_loss(scores.object, objects) + nn.functional.nll_loss(scores.color, colors)
        self.log("train/loss", loss)
        self.log("train/object", (scores.object.argmax(-1) == objects).float().mean())
        self.log("train/color", (scores.color.argmax(-1) == colors).float().mean())
        return loss

    def on_fit_end(self) -> None:
        """Write the weights."""
        from safetensors.torch import save_file

        if self.trainer.is_global_zero:
            weights = {name: value.half().cpu() for name, value in self.classifier.state_dict().items()}
            save_file(weights, self.output)

    def configure_optimizers(self) -> dict:
        """Return AdamW with a one-cycle schedule over the run."""
        optimizer = torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=0.01)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
