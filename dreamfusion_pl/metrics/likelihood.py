"""Evidence for a prompt under the prior: how much the prompt helps to denoise images of the object."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamfusion_pl import rng
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.types import Condition

TIMES = (0.2, 0.35, 0.5, 0.65, 0.8)


@torch.no_grad()
def prompt_evidence(prior: DiffusionPrior, z: Tensor, condition: Condition) -> float:
    """Return the denoising loss with the empty prompt minus that with the prompt, paper eq. 1 with w = 1.

    Up to the weighting over t this estimates log p(x | y) - log p(x) (Li et al. 2023, Diffusion Classifier).
    Times and noise are always the same, so that objects of one prompt can be compared.

    Args:
        prior: the frozen model.
        z: encoded images [B, C, h, w].
        condition: text condition of these views.

    Returns:
        Mean over views, times and elements; above 0 if the prompt helps.
    """
    draws = rng.generator(0, "evidence")
    texts = condition.text.join(condition.null.expand(len(z)))
    gains = []
    for time in TIMES:
        t = torch.full((len(z),), time, device=z.device)
        eps = torch.randn(z.shape, generator=draws).to(z)
        z_t = prior.schedule.diffuse(z, eps, t)
        eps_hat = prior.predict(torch.cat([z_t, z_t]), torch.cat([t, t]), texts)
        with_prompt, without = ((half - eps).square().mean() for half in eps_hat.chunk(2))
        gains.append(without - with_prompt)
    return float(torch.stack(gains).mean())
