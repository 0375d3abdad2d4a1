"""Training of the autoencoder of a latent diffusion model (Rombach et al. 2022), on pictures of the world.

Distillation differentiates through the encoder at every step. It is therefore small, without normalization
over the whole picture (``AutoencoderTiny``), and trained on blends of two pictures as well: unfinished
objects are translucent, and the gradient has to be of use there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, final

import torch
from diffusers import AutoencoderTiny
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from dreamfusion_pl.diffusion.training import folders
from dreamfusion_pl.diffusion.training.optimization import adamw, averaging, warmup_and_cosine
from dreamfusion_pl.diffusion.training.samples import write_sheet
from dreamfusion_pl.diffusion.training.tiny_autoencoder import build_autoencoder
from dreamfusion_pl.rng import generator
from dreamfusion_pl.types import PictureBatch


@final
class AutoencoderTraining(LightningModule):
    """Trains an ``AutoencoderTiny`` and writes its folder.

    The loss is the mean absolute error, that of edges, and the KL of a posterior N(z, noise^2) from N(0, 1),
    whose only varying part is |z|^2 / 2. Training starts from a thumbnail of the picture (see
    ``start_as_thumbnail``).

    Args:
        output: folder to write when training ends (averaged weights, half precision). Its scaling factor
            makes the deviation of the latents 1.
        width: channels of all levels of encoder and decoder.
        encoder_blocks: residual blocks of each level, finest first. Each level after the first halves the
            side.
        decoder_blocks: residual blocks of each level, coarsest first; as many levels.
        latent_channels: channels C of the latents, 3 or more.
        noise: deviation of the noise that is added to the latents before they are decoded.
        kl_weight: weight of KL, in nats per latent number, against the error of a pixel in [-1, 1].
        edge_weight: weight of the error of differences between neighbouring pixels.
        blended: share of the pictures that are blended with another of the batch.
        learning_rate: peak learning rate of AdamW.
        warmup_steps: steps of linear warm-up, multiplied by a cosine decay over all steps.
        weight_decay: AdamW's weight decay, for parameters with two or more dimensions.
        average_decay: decay of the exponential moving average of the weights.
        sample_every: steps between pictures of reconstructions; 0 disables them.
        seed: seed of the initial weights and of all random numbers.

    Raises:
        ValueError: a weight, share or number of blocks is out of range.
    """

    def __init__(
        self,
        output: str = "autoencoder",
        width: int = 32,
        encoder_blocks: tuple[int, ...] = (0, 1, 2),
        decoder_blocks: tuple[int, ...] = (2, 1, 1),
        latent_channels: int = 4,
        noise: float = 0.1,
        kl_weight: float = 1e-3,
        edge_weight: float = 0.5,
        blended: float = 0.25,
        learning_rate: float = 2e-3,
        warmup_steps: int = 100,
        weight_decay: float = 0.01,
        average_decay: float = 0.999,
        sample_every: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(noise, kl_weight, edge_weight) < 0.0 or not 0.0 <= blended <= 1.0:
            raise ValueError(
                "noise, kl_weight and edge_weight must not be negative, and blended is in [0, 1], "
                f"got {noise}, {kl_weight}, {edge_weight} and {blended}"
            )
        self.output, self.seed, self.sample_every = output, seed, sample_every
        self.noise, self.kl_weight, self.edge_weight, self.blended = noise, kl_weight, edge_weight, blended
        self.learning_rate, self.warmup_steps, self.weight_decay = learning_rate, warmup_steps, weight_decay
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = build_autoencoder(width, encoder_blocks, decoder_blocks, latent_channels)
        self.average = AveragedModel(self.network, multi_avg_fn=averaging(average_decay))
        self.average.requires_grad_(False)
        # Running mean of the latents' variance, for the scaling factor.
        self.register_buffer("latent_variance", torch.ones(()))
        self.latent_variance: Tensor

    def training_step(self, batch: PictureBatch, _: int) -> Tensor:
        """Return the loss of a batch; logs its parts and the PSNR in dB."""
        source = generator(self.seed, "autoencoder", self.global_rank, self.global_step)
        x = self._blend(batch.pictures.permute(0, 3, 1, 2) * 2.0 - 1.0, source)
        z = self.network.encode(x, return_dict=False)[0].float()
        noisy = z + self.noise * torch.randn(z.shape, generator=source).to(x.device)
        error = self.network.decode(noisy, return_dict=False)[0].float() - x
        edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        kl = 0.5 * z.square().mean()
        absolute = error.abs().mean()
        with torch.no_grad():
            self.latent_variance.lerp_(z.detach().var(), 0.01)
        psnr = -10.0 * (error.detach().square().mean() / 4.0).log10()
        self.log_dict({"train/error": absolute, "train/edges": edges, "train/kl": kl, "train/psnr": psnr})
        loss = absolute + self.edge_weight * edges + self.kl_weight * kl
        self.log("train/loss", loss)
        return loss

    def _blend(self, x: Tensor, source: torch.Generator) -> Tensor:
        """Blend a share of the pictures [B, 3, H, W] with the next picture of the batch."""
        is_blended = torch.rand(len(x), 1, 1, 1, generator=source) < self.blended
        share = (torch.rand(len(x), 1, 1, 1, generator=source) * is_blended).to(x)
        return torch.lerp(x, x.roll(1, dims=0), share)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with linear warm-up and cosine decay."""
        optimizer = adamw(self.network, self.learning_rate, self.weight_decay)
        return warmup_and_cosine(optimizer, self.trainer, self.warmup_steps)

    def optimizer_step(self, *args: Any, **keywords: Any) -> None:
        """Step, then update the average at once, so that every checkpoint holds both in the same state."""
        super().optimizer_step(*args, **keywords)
        self.average.update_parameters(self.network)

    def on_train_start(self) -> None:
        """Check before training that the output can be written.

        Raises:
            ValueError: something other than a model's folder is at ``output``, or it is not writable.
        """
        folders.check_destination(self.output, folders.MODEL_INDEX)

    def on_fit_start(self) -> None:
        """Get the run folder on every rank: ``log_dir`` synchronizes ranks, and only rank 0 draws."""
        self.run_folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)

    def on_train_batch_end(self, _: object, batch: PictureBatch, __: int) -> None:
        """Draw reconstructions every ``sample_every`` steps."""
        if self.sample_every and self.global_step % self.sample_every == 0 and self.trainer.is_global_zero:
            self._draw(batch.pictures[:8])

    def on_fit_end(self) -> None:
        """Write the folder."""
        if self.trainer.is_global_zero:
            folder = folders.write(self.output, folders.MODEL_INDEX, self.trained().save_pretrained)
            print(f"autoencoder: {folder}", flush=True)

    def trained(self) -> AutoencoderTiny:
        """Return a copy with the averaged weights in half precision, and its scaling factor."""
        averaged = cast(AutoencoderTiny, self.average.module)
        copy = AutoencoderTiny.from_config(averaged.config)
        copy.load_state_dict(averaged.state_dict())
        copy.register_to_config(scaling_factor=float(self.latent_variance) ** -0.5)
        for parameter in copy.parameters():
            parameter.data = parameter.data.half()
        return copy

    @torch.no_grad()
    def _draw(self, pictures: Tensor) -> None:
        """Draw pictures [B, H, W, 3] above what is decoded, to TensorBoard and ``samples/step_N.png``."""
        averaged = cast(AutoencoderTiny, self.average.module)
        z = averaged.encode(pictures.permute(0, 3, 1, 2) * 2.0 - 1.0, return_dict=False)[0]
        decoded = (averaged.decode(z, return_dict=False)[0].permute(0, 2, 3, 1) * 0.5 + 0.5).clamp(0.0, 1.0)
        rows = [torch.cat(list(row.float().cpu()), dim=1) for row in (pictures, decoded)]
        sheet = torch.cat(rows, dim=0)
        write_sheet(sheet, "reconstructions", self.global_step, self.run_folder, self.logger)
