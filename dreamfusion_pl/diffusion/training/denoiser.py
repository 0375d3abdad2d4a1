"""Training a text-to-image diffusion model from scratch: L_Diff, seed eq. 1.

Text is prepared exactly as in ``IFPipeline``: lower case, padded to 77 tokens, no attention mask in the
U-Net, and the empty prompt as the unconditional text.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, final

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.diffusion.noise import per_row
from dreamfusion_pl.diffusion.training import pipeline_folder as pipelines
from dreamfusion_pl.diffusion.training.objective import (
    min_snr_weight,
    stratified_timesteps,
    variational_bound,
    words_error,
)
from dreamfusion_pl.rng import generator
from dreamfusion_pl.types import PictureBatch


@final
class DenoiserTraining(LightningModule):
    """Trains a pixel-space U-Net and its text encoder, and writes them as an ``IFPipeline`` folder.

    Args:
        vocabulary: the words of the captions; each becomes one token.
        output: the pipeline folder to write when training ends (averaged weights, half precision).
        size: height and width of the images.
        channels: widths of the U-Net's levels, finest first.
        layers_per_block: residual blocks per level.
        attention_size: height of the level that attends to the text.
        text_width: width of the text embedding.
        text_layers: layers of the text encoder.
        learning_rate: peak learning rate of AdamW.
        warmup_steps: steps of linear warm-up, multiplied by a cosine decay over all steps.
        weight_decay: AdamW's weight decay, for parameters with two or more dimensions.
        snr_cap: SNR above which w(t) decreases, see min_snr_weight.
        noisy_share: share of timesteps that are drawn from the noisiest part, see stratified_timesteps.
        noisy_from: t / T in [0, 1) where that part begins.
        variance_weight: weight of the variational bound of the whole chain, in bits per channel.
        words_weight: weight of the loss for predicting a text's words from its embedding, see words_error.
        null_fraction: fraction of captions replaced by the empty prompt, for classifier-free guidance.
        average_decay: decay of the exponential moving average of the weights.
        sample_prompts: prompts of the sample grid.
        sample_every: steps between sample grids; 0 disables them.
        sample_steps: denoising steps per sample.
        guidance_scale: omega of the samples: (1 + omega) eps(y) - omega eps().
        initial: pipeline folder, or "builtin", to initialize the weights from; None: random weights.
        seed: seed of the initial weights and of all random numbers.

    Raises:
        ValueError: a weight is out of range; ``initial`` is not a pipeline folder, or has another
            architecture or words that the vocabulary lacks.
    """

    def __init__(
        self,
        vocabulary: list[str],
        output: str = "denoiser",
        size: int = 32,
        channels: tuple[int, ...] = (32, 64, 128, 192),
        layers_per_block: int = 1,
        attention_size: int = 8,
        text_width: int = 128,
        text_layers: int = 2,
        learning_rate: float = 1e-3,
        warmup_steps: int = 200,
        weight_decay: float = 0.01,
        snr_cap: float = 5.0,
        noisy_share: float = 0.5,
        noisy_from: float = 0.8,
        variance_weight: float = 1e-3,
        words_weight: float = 0.1,
        null_fraction: float = 0.1,
        average_decay: float = 0.999,
        sample_prompts: tuple[str, ...] = ("a red chair", "a blue ball"),
        sample_every: int = 500,
        sample_steps: int = 25,
        guidance_scale: float = 3.0,
        initial: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if snr_cap < 1.0 or min(variance_weight, words_weight) < 0.0:
            raise ValueError(
                "snr_cap must be 1 or more, variance_weight and words_weight not negative, "
                f"got {snr_cap}, {variance_weight} and {words_weight}"
            )
        if not (0.0 <= null_fraction < 1.0 and 0.0 <= noisy_share <= 1.0 and 0.0 <= noisy_from < 1.0):
            raise ValueError(
                "null_fraction and noisy_from are in [0, 1), noisy_share is in [0, 1], "
                f"got {null_fraction}, {noisy_from} and {noisy_share}"
            )
        self.output, self.seed = output, seed
        self.learning_rate, self.warmup_steps, self.weight_decay = learning_rate, warmup_steps, weight_decay
        self.snr_cap, self.timestep_law = snr_cap, (noisy_share, noisy_from)
        self.variance_weight, self.words_weight = variance_weight, words_weight
        self.null_fraction = null_fraction
        self.sample_prompts, self.sample_every = sample_prompts, sample_every
        self.sample_steps, self.guidance_scale = sample_steps, guidance_scale
        self.tokenizer = pipelines.build_tokenizer(vocabulary)
        self.scheduler = pipelines.build_scheduler()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            text_encoder = pipelines.build_text_encoder(len(self.tokenizer), text_width, text_layers)
            unet = pipelines.build_unet(size, channels, layers_per_block, attention_size, text_width)
        self.networks = nn.ModuleDict({"text_encoder": text_encoder, "unet": unet})
        if initial is not None:
            pipelines.load_weights(initial, self.tokenizer, self.networks)
        self.average = AveragedModel(self.networks, multi_avg_fn=_averaging(average_decay))
        self.average.requires_grad_(False)
        self.register_buffer("squared_alphas", self.scheduler.alphas_cumprod.clone(), persistent=False)
        self.squared_alphas: Tensor

    def embed(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings [B, 77, D] as in ``IFPipeline``, and their words_error.

        Repeated captions are embedded once.
        """
        texts = [caption.lower().strip() for caption in captions]
        row = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        limits = {"padding": "max_length", "max_length": pipelines.MAX_TOKENS, "truncation": True}
        tokens = self.tokenizer(list(row), **limits, return_tensors="pt").to(self.device)
        encoder = cast(pipelines.T5EncoderModel, self.networks["text_encoder"])
        distinct = encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        table = encoder.get_input_embeddings().weight
        error = words_error(distinct, tokens.input_ids, tokens.attention_mask, table)
        return distinct[[row[text] for text in texts]], error

    def training_step(self, batch: PictureBatch, _: int) -> Tensor:
        """Return L_Diff (seed eq. 1) plus the variational bound and the loss on words."""
        x = batch.pictures.permute(0, 3, 1, 2) * 2.0 - 1.0
        source = generator(self.seed, "denoising", self.global_rank, self.global_step)
        t = stratified_timesteps(len(x), len(self.squared_alphas), source, *self.timestep_law).to(x.device)
        dropped = (torch.rand(len(x), generator=source) < self.null_fraction).tolist()
        captions = ["" if drop else text for drop, text in zip(dropped, batch.captions, strict=True)]
        eps = torch.randn(x.shape, generator=source).to(x.device)
        squared_alpha = self.squared_alphas[t]
        alpha, sigma = per_row(squared_alpha.sqrt()), per_row((1.0 - squared_alpha).sqrt())
        z_t = alpha * x + sigma * eps
        text, words = self.embed(captions)
        output = self.networks["unet"](z_t, t, text, return_dict=False)[0].float()
        v_hat, variance = output.chunk(2, dim=1)
        error = v_hat - (alpha * eps - sigma * x)
        mse = error.square().mean(dim=(1, 2, 3))
        diffusion = (min_snr_weight(squared_alpha, self.snr_cap) * mse).mean()  # seed eq. 1
        eps_error = (alpha * error).detach()
        steps = variational_bound(eps_error, variance, t, self.squared_alphas)
        bits = steps.mean() * len(self.squared_alphas)
        loss = diffusion + self.variance_weight * bits + self.words_weight * words
        parts = {"diffusion": diffusion, "v_mse": mse.mean(), "bits": bits, "words": words}
        self.log_dict({f"train/{name}": value for name, value in parts.items()})
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with linear warm-up and cosine decay."""
        total = float(self.trainer.estimated_stepping_batches)
        if not math.isfinite(total):
            raise ValueError("the learning rate needs an end: pass --trainer.max_steps")
        parameters = list(self.networks.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.99), foreach=True)

        def factor(step: int) -> float:
            cosine = 0.5 + 0.5 * math.cos(math.pi * min(step / total, 1.0))
            return cosine * min((step + 1) / self.warmup_steps, 1.0)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, *args: Any, **keywords: Any) -> None:
        """Step, then update the average at once, so that every checkpoint holds both in the same state."""
        super().optimizer_step(*args, **keywords)
        self.average.update_parameters(self.networks)

    def on_train_start(self) -> None:
        """Check before training that the output can be written.

        Raises:
            ValueError: something other than a pipeline folder is at ``output``, or it is not writable.
        """
        pipelines.check_destination(self.output)

    def on_fit_start(self) -> None:
        """Get the run folder on every rank: ``log_dir`` synchronizes ranks, and only rank 0 draws samples."""
        self.run_folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)

    def on_train_batch_end(self, *_: object) -> None:
        """Draw the sample grid every ``sample_every`` steps."""
        if self.sample_every and self.global_step % self.sample_every == 0 and self.trainer.is_global_zero:
            self._draw_samples()

    def on_fit_end(self) -> None:
        """Write the pipeline folder."""
        if self.trainer.is_global_zero:
            folder = pipelines.save_pipeline(self.pipeline(), self.output)
            print(f"pipeline:   {folder}", flush=True)

    def pipeline(self) -> pipelines.IFPipeline:
        """Return a pipeline with the averaged weights, which it shares."""
        parts = cast(nn.ModuleDict, self.average.module)
        return pipelines.assemble(self.tokenizer, parts["text_encoder"], parts["unet"], self.scheduler)

    def _draw_samples(self) -> None:
        """Draw one sample per prompt, side by side, to TensorBoard and to ``samples/step_N.png``."""
        from PIL import Image

        pictures = self.pipeline()(
            list(self.sample_prompts),
            num_inference_steps=self.sample_steps,
            guidance_scale=1.0 + self.guidance_scale,
            generator=generator(self.seed, "samples"),
            output_type="np",
            clean_caption=False,
        ).images
        row = torch.cat(list(torch.as_tensor(pictures)), dim=1)
        if isinstance(self.logger, TensorBoardLogger):
            self.logger.experiment.add_image("samples", row, self.global_step, dataformats="HWC")
        file = self.run_folder / "samples" / f"step_{self.global_step:06d}.png"
        with replacing(file) as temporary:
            Image.fromarray((row * 255.0).round().byte().numpy()).save(temporary)


def _averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return an update rule whose decay grows to ``decay``, so that initial weights are soon forgotten."""

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], num_averaged: Tensor) -> None:
        count = float(num_averaged)
        torch._foreach_lerp_(averages, values, 1.0 - min(decay, (1.0 + count) / (10.0 + count)))

    return update
