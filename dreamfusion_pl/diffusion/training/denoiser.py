"""Training a text-to-image diffusion model from scratch: L_Diff, paper eq. 1.

Text is prepared exactly as in the family's pipeline: lower case, padded, no attention mask in the U-Net, and
the empty prompt as the unconditional text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, final

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from dreamfusion_pl.diffusion.noise import per_row
from dreamfusion_pl.diffusion.training import folders
from dreamfusion_pl.diffusion.training.family import PipelineFamily, load_weights
from dreamfusion_pl.diffusion.training.objective import (
    min_snr_weight,
    stratified_timesteps,
    variational_bound,
    words_error,
)
from dreamfusion_pl.diffusion.training.optimization import adamw, averaging, warmup_and_cosine
from dreamfusion_pl.diffusion.training.samples import write_sheet
from dreamfusion_pl.diffusion.training.unet import in_half
from dreamfusion_pl.rng import generator
from dreamfusion_pl.types import PictureBatch


@final
class DenoiserTraining(LightningModule):
    """Trains a U-Net and its text encoder, in pixels or latents, and writes them as a pipeline folder.

    Args:
        family: networks and pipeline: ``StableDiffusionFamily`` or ``DeepFloydFamily``.
        vocabulary: the words of the captions; each becomes one token.
        output: the pipeline folder to write when training ends (averaged weights, half precision).
        learning_rate: peak learning rate of AdamW.
        warmup_steps: steps of linear warm-up, multiplied by a cosine decay over all steps.
        weight_decay: AdamW's weight decay, for parameters with two or more dimensions.
        snr_cap: SNR above which w(t) decreases, see min_snr_weight.
        noisy_share: share of timesteps that are drawn from the noisiest part, see stratified_timesteps.
        noisy_from: t / T in [0, 1) where that part begins.
        variance_weight: weight of the variational bound of the whole chain, in bits per channel, where the
            family learns a variance.
        words_weight: weight of the loss for predicting a text's words from its embedding, see words_error.
        null_fraction: fraction of captions replaced by the empty prompt, for classifier-free guidance.
        average_decay: decay of the exponential moving average of the weights.
        sample_prompts: prompts of the sample grid.
        sample_every: steps between sample grids; 0 disables them.
        sample_steps: denoising steps per sample.
        guidance_scale: omega of the samples: (1 + omega) eps(y) - omega eps().
        initial: pipeline folder of the same family, or "builtin", to initialize the weights from; None:
            random weights.
        seed: seed of the initial weights and of all random numbers.

    Raises:
        ValueError: a weight is out of range; ``initial`` is not a pipeline folder, or has another
            architecture or words that the vocabulary lacks.
    """

    def __init__(
        self,
        family: PipelineFamily,
        vocabulary: list[str],
        output: str = "denoiser",
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
        self.family = family
        self.tokenizer, self.scheduler = family.tokenizer(vocabulary), family.scheduler()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.networks = family.networks(self.tokenizer)
        if initial is not None:
            load_weights(initial, family, self.tokenizer, self.networks)
        self.average = AveragedModel(self.networks, multi_avg_fn=averaging(average_decay))
        self.average.requires_grad_(False)
        self.register_buffer("squared_alphas", self.scheduler.alphas_cumprod.clone(), persistent=False)
        self.squared_alphas: Tensor

    def embed(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings [B, T, D] as in the family's pipeline, and their words_error.

        Repeated captions are embedded once.
        """
        texts = [caption.lower().strip() for caption in captions]
        row = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        found = self.family.embed(self.tokenizer, self.networks["text_encoder"], list(row))
        error = words_error(found.rows, found.tokens, found.mask, found.table)
        return found.rows[[row[text] for text in texts]], error

    def training_step(self, batch: PictureBatch, _: int) -> Tensor:
        """Return L_Diff (paper eq. 1) plus the variational bound, if there is one, and the loss on words.

        Raises:
            ValueError: the pictures have another size than the family's.
        """
        side, own = batch.pictures.shape[1], self.family.picture_size
        if side != own:
            raise ValueError(
                f"the pictures have {side} pixels a side, and the prior {own}: make --data.size and "
                "--model.family.size the same"
            )
        x = self.family.encode(batch.pictures.permute(0, 3, 1, 2) * 2.0 - 1.0)
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
        v_hat = output[:, : x.shape[1]]
        error = v_hat - (alpha * eps - sigma * x)
        mse = error.square().mean(dim=(1, 2, 3))
        diffusion = (min_snr_weight(squared_alpha, self.snr_cap) * mse).mean()  # paper eq. 1
        parts = {"diffusion": diffusion, "v_mse": mse.mean(), "words": words}
        loss = diffusion + self.words_weight * words
        if self.family.learns_variance:
            variance, eps_error = output[:, x.shape[1] :], (alpha * error).detach()
            steps = variational_bound(eps_error, variance, t, self.squared_alphas)
            parts["bits"] = steps.mean() * len(self.squared_alphas)
            loss = loss + self.variance_weight * parts["bits"]
        self.log_dict({f"train/{name}": value for name, value in parts.items()})
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with linear warm-up and cosine decay."""
        optimizer = adamw(self.networks, self.learning_rate, self.weight_decay)
        return warmup_and_cosine(optimizer, self.trainer, self.warmup_steps)

    def optimizer_step(self, *args: Any, **keywords: Any) -> None:
        """Step, then update the average at once, so that every checkpoint holds both in the same state."""
        super().optimizer_step(*args, **keywords)
        self.average.update_parameters(self.networks)

    def on_train_start(self) -> None:
        """Check before training that the output can be written.

        Raises:
            ValueError: something other than a pipeline folder is at ``output``, or it is not writable.
        """
        folders.check_destination(self.output, folders.PIPELINE_INDEX)

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
            print(f"pipeline:   {self.save(self.output)}", flush=True)

    def save(self, folder: str | Path) -> Path:
        """Write the pipeline with the averaged weights, whole or not at all; replace an older one.

        The U-Net is stored in float16. The text encoder stays in float32: it is small, and without a
        ``dtype`` ``from_pretrained`` loads it in the stored precision, but the U-Net in float32.

        Args:
            folder: destination.

        Returns:
            The folder.

        Raises:
            ValueError: the folder cannot be written.
        """
        parts = cast(nn.ModuleDict, self.average.module)
        stored = nn.ModuleDict(
            {"text_encoder": parts["text_encoder"], "unet": in_half(cast(Any, parts["unet"]))}
        )
        whole = self.family.assemble(self.tokenizer, stored, self.scheduler)
        return folders.write(folder, folders.PIPELINE_INDEX, whole.save_pretrained)

    def pipeline(self) -> Any:
        """Return a pipeline with the averaged weights, which it shares."""
        parts = cast(nn.ModuleDict, self.average.module)
        return self.family.assemble(self.tokenizer, parts, self.scheduler)

    def _draw_samples(self) -> None:
        """Draw one sample per prompt, side by side, to TensorBoard and to ``samples/step_N.png``."""
        pictures = self.pipeline()(
            list(self.sample_prompts),
            num_inference_steps=self.sample_steps,
            guidance_scale=1.0 + self.guidance_scale,
            generator=generator(self.seed, "samples"),
            output_type="np",
            **self.family.sampling,
        ).images
        row = torch.cat(list(torch.as_tensor(pictures)), dim=1)
        write_sheet(row, "samples", self.global_step, self.run_folder, self.logger)
