"""Training a text-to-image diffusion model from scratch: L_Diff, seed eq. 1.

The training sees text exactly as ``IFPipeline`` shows it: lower case, padded to 77 tokens, no mask in the U-Net,
and the empty prompt as the unconditional text.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol, final

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from dreamfusion_pl.diffusion import pipeline as pipelines
from dreamfusion_pl.rng import generator


class CaptionedPictures(Protocol):
    """B pictures with a caption each."""

    pictures: Tensor  # [B, H, W, 3] in [0, 1]
    captions: list[str]  # B


def stratified_timesteps(batch: int, num_timesteps: int, source: torch.Generator) -> Tensor:
    """Return B timesteps [B] (int64), one in each of B equal parts of [0, num_timesteps)."""
    offset = torch.rand(1, generator=source, device=source.device)
    strata = torch.arange(batch, device=source.device)
    return ((strata + offset) / batch * num_timesteps).long().clamp_(max=num_timesteps - 1)


def min_snr_weight(alphas_cumprod: Tensor, cap: float) -> Tensor:
    """Return the weight of the noise prediction's squared error, min(SNR, cap) / SNR (Hang et al., 2023).

    Args:
        alphas_cumprod: alpha_t squared, [B], in (0, 1).
        cap: the signal-to-noise ratio above which pictures' finest detail stops to gain weight.
    """
    return (cap * (1.0 - alphas_cumprod) / alphas_cumprod).clamp(max=1.0)


def variational_bound(eps_error: Tensor, variance: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return KL(q(z_{t-1} | z_t, x) || p(z_{t-1} | z_t)) in bits per pixel channel, with learned variance.

    Nichol and Dhariwal 2021, eq. 15: the log variance lies between those of the posterior and of the forward
    step. The mean's error is given, so no gradient reaches the noise prediction. The term of t = 0 is left out (0):
    a sampler adds no noise there.

    Args:
        eps_error: eps_hat - eps, [B, 3, H, W], without gradient.
        variance: the network's variance channels, [B, 3, H, W], -1 for the posterior's, +1 for the forward step's.
        t: timesteps [B] (int64).
        alphas_cumprod: the schedule's table [T].

    Returns:
        Bits [B].
    """
    now, before = alphas_cumprod[t], alphas_cumprod[(t - 1).clamp(min=0)]
    beta = (1.0 - now / before).clamp(min=1e-8)
    low, high = (beta * (1.0 - before) / (1.0 - now)).log(), beta.log()
    mean_scale = beta.square() / ((1.0 - now) * (1.0 - beta))
    low, high, mean_scale = (v[:, None, None, None] for v in (low, high, mean_scale))
    log_variance = low + 0.5 * (variance + 1.0) * (high - low)
    gap = low - log_variance
    nats = 0.5 * (gap.exp() - 1.0 - gap + mean_scale * eps_error.square() * (-log_variance).exp())
    return torch.where(t > 0, nats.mean(dim=(1, 2, 3)) / math.log(2.0), 0.0)


@final
class DenoiserTraining(LightningModule):
    """Trains a pixel-space U-Net and its text encoder, and writes them as an ``IFPipeline`` folder.

    Args:
        vocabulary: the words that captions are made of, each one token.
        output: the pipeline folder written when training ends (averaged weights, half precision).
        size: height and width of the pictures.
        channels: widths of the U-Net's levels, finest first.
        layers_per_block: residual blocks per level.
        attention_size: height of the level that attends to the text.
        text_width: width of the text embedding.
        text_layers: layers of the text encoder.
        learning_rate: peak learning rate of AdamW.
        warmup_steps: steps of linear growth before the cosine decay.
        weight_decay: AdamW's decoupled decay.
        snr_cap: cap of the min-SNR weight w(t).
        variance_weight: weight of the variational bound in units of the whole chain's bits per channel.
        null_fraction: share of captions replaced by the empty prompt, for classifier-free guidance.
        average_decay: decay of the weights' exponential moving average.
        sample_prompts: prompts of the sample grid.
        sample_every: steps between grids, 0 for none.
        sample_steps: denoising steps of a grid.
        guidance_scale: omega of the grid's samples, (1 + omega) eps(y) - omega eps().
        seed: key of every random draw.
    """

    def __init__(
        self,
        vocabulary: list[str],
        output: str = "denoiser",
        size: int = 32,
        channels: list[int] = [32, 64, 128, 192],  # noqa: B006
        layers_per_block: int = 1,
        attention_size: int = 8,
        text_width: int = 128,
        text_layers: int = 2,
        learning_rate: float = 1e-3,
        warmup_steps: int = 200,
        weight_decay: float = 0.01,
        snr_cap: float = 5.0,
        variance_weight: float = 1e-3,
        null_fraction: float = 0.1,
        average_decay: float = 0.999,
        sample_prompts: list[str] = ["a red chair", "a blue ball"],  # noqa: B006
        sample_every: int = 500,
        sample_steps: int = 25,
        guidance_scale: float = 3.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.output, self.seed = output, seed
        self.learning_rate, self.warmup_steps, self.weight_decay = learning_rate, warmup_steps, weight_decay
        self.snr_cap, self.variance_weight, self.null_fraction = snr_cap, variance_weight, null_fraction
        self.sample_prompts, self.sample_every = sample_prompts, sample_every
        self.sample_steps, self.guidance_scale = sample_steps, guidance_scale
        self.tokenizer = pipelines.build_tokenizer(vocabulary)
        self.scheduler = pipelines.build_scheduler()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            text_encoder = pipelines.build_text_encoder(len(self.tokenizer), text_width, text_layers)
            unet = pipelines.build_unet(size, channels, layers_per_block, attention_size, text_width)
        self.networks = nn.ModuleDict({"text_encoder": text_encoder, "unet": unet})
        self.average = AveragedModel(self.networks, multi_avg_fn=_averaging(average_decay))
        self.average.requires_grad_(False)
        self.register_buffer("alphas_cumprod", self.scheduler.alphas_cumprod.clone(), persistent=False)

    def embed(self, captions: list[str]) -> Tensor:
        """Return text embeddings [B, 77, D]; every distinct caption is computed once."""
        distinct = list(dict.fromkeys(caption.lower().strip() for caption in captions))
        index = {caption: i for i, caption in enumerate(distinct)}
        tokens = self.tokenizer(
            distinct, padding="max_length", max_length=pipelines.MAX_TOKENS, truncation=True, return_tensors="pt"
        ).to(self.device)
        text = self.networks["text_encoder"](tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        return text[[index[caption.lower().strip()] for caption in captions]]

    def training_step(self, batch: CaptionedPictures, _: int) -> Tensor:
        """Return L_Diff (seed eq. 1) plus the variance's bound."""
        x = batch.pictures.permute(0, 3, 1, 2) * 2.0 - 1.0
        source = generator(self.seed, "denoising", self.global_rank, self.global_step)
        t = stratified_timesteps(len(x), len(self.alphas_cumprod), source)
        dropped = torch.rand(len(x), generator=source) < self.null_fraction
        eps = torch.randn(x.shape, generator=source).to(x.device)
        captions = ["" if drop else caption for caption, drop in zip(batch.captions, dropped.tolist(), strict=True)]
        t = t.to(x.device)
        squared_alpha = self.alphas_cumprod[t]
        z_t = squared_alpha.sqrt()[:, None, None, None] * x + (1 - squared_alpha).sqrt()[:, None, None, None] * eps
        prediction = self.networks["unet"](z_t, t, self.embed(captions), return_dict=False)[0].float()
        eps_hat, variance = prediction.chunk(2, dim=1)
        error = eps_hat - eps
        mse = error.square().mean(dim=(1, 2, 3))
        denoising = (min_snr_weight(squared_alpha, self.snr_cap) * mse).mean()  # seed eq. 1
        bound = variational_bound(error.detach(), variance, t, self.alphas_cumprod).mean() * len(self.alphas_cumprod)
        loss = denoising + self.variance_weight * bound
        self.log_dict(
            {"train/loss": loss, "train/eps_mse": mse.mean(), "train/weighted_mse": denoising, "train/bits": bound}
        )
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def configure_optimizers(self) -> dict:
        """Return AdamW and the warmup plus cosine by progress."""
        total = self.trainer.estimated_stepping_batches
        parameters = list(self.networks.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.99), foreach=True)

        def factor(step: int) -> float:
            return min((step + 1) / self.warmup_steps, 0.5 + 0.5 * math.cos(math.pi * min(step / total, 1.0)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer, optimizer_closure=None) -> None:  # noqa: ANN001
        """Step, then move the average, so that a checkpoint never holds one without the other."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.average.update_parameters(self.networks)

    def on_train_batch_end(self, *_: object) -> None:
        """Draw the sample grid when it is due."""
        if self.sample_every and self.global_step % self.sample_every == 0 and self.trainer.is_global_zero:
            self._log_samples()

    def on_train_end(self) -> None:
        """Write the pipeline folder."""
        if self.trainer.is_global_zero:
            pipelines.save_pipeline(self.pipeline(), self.output)

    def pipeline(self) -> pipelines.IFPipeline:
        """Return the averaged weights as a pipeline that shares them."""
        parts = self.average.module
        return pipelines.assemble(self.tokenizer, parts["text_encoder"], parts["unet"], self.scheduler)

    def _log_samples(self) -> None:
        pictures = self.pipeline()(
            self.sample_prompts,
            num_inference_steps=self.sample_steps,
            guidance_scale=1.0 + self.guidance_scale,
            generator=generator(self.seed, "samples"),
            output_type="np",
            clean_caption=False,
        ).images
        grid = torch.cat(list(torch.as_tensor(pictures)), dim=1).clamp(0, 1)
        if isinstance(self.logger, TensorBoardLogger):
            self.logger.experiment.add_image("samples", grid, self.global_step, dataformats="HWC")
        _write_png(grid, Path(self.trainer.log_dir or self.trainer.default_root_dir) / "samples", self.global_step)


def _averaging(decay: float):
    """Return the averaging rule of ``AveragedModel``: decay grows from 0 to its value, as the average warms up."""

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], num_averaged: Tensor) -> None:
        count = float(num_averaged)
        torch._foreach_lerp_(averages, values, 1.0 - min(decay, (1.0 + count) / (10.0 + count)))

    return update


def _write_png(grid: Tensor, folder: Path, step: int) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray((grid * 255).round().byte().cpu().numpy()).save(folder / f"step_{step:06d}.png")
