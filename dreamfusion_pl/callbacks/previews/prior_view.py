"""What the prior wants to see in a view: its one-step estimate of the clean picture."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamfusion_pl import rng
from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.diffusion.noise import per_row, x0_from_eps
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.base import draw_noise
from dreamfusion_pl.types import Rendering, Views

TIME = 0.6  # enough noise that the prior may change shapes, and little enough that it starts from this object
MOST_GUIDANCE = 3.0  # omega of sampled pictures; with that of distillation, estimates leave all colours


@torch.no_grad()
def prior_view(model: DreamFusion, views: Views, rendering: Rendering) -> Tensor:
    """Return x0_hat of each view: its picture with noise at t = .6, denoised in one step (paper 2).

    The noise is the same whenever this is called, so that pictures of a run can be compared. omega is that of
    the distillation, at most 3. Views go through the prior one at a time.

    Args:
        model: the model, whose prior is on its device.
        views: B views.
        rendering: rendering of the views.

    Returns:
        Pictures of the rendering's size [B, H, W, 3].
    """
    pictures = []
    for index in range(len(views.origin)):
        view = Views(*(part[index : index + 1] for part in views))
        picture = Rendering(*(part[index : index + 1] for part in rendering))
        z, prior = model.encode(picture).to(picture.rgb), model.prior
        t, eps = z.new_full((1,), TIME), draw_noise(z, rng.generator(0, "prior view"))
        omega = min(model.distillation.guidance_scale, MOST_GUIDANCE)
        z_t = prior.schedule.diffuse(z, eps, t)
        eps_hat = prior.guided(z_t, t, model.prompts(view), omega)
        levels = per_row(prior.schedule.alpha(t)), per_row(prior.schedule.sigma(t))
        pictures.append(decoded(prior, x0_from_eps(eps_hat, z_t, *levels), rendering))
    return torch.cat(pictures)


def decoded(prior: DiffusionPrior, z: Tensor, rendering: Rendering) -> Tensor:
    """Decode z [B, C, h, w], one row at a time, to pictures of the rendering's size, [B, H, W, 3]."""
    pictures = torch.cat([prior.decode(one) for one in z.split(1)]).permute(0, 3, 1, 2)
    shown = torch.nn.functional.interpolate(
        pictures, rendering.rgb.shape[1:3], mode="bilinear", antialias=True
    )
    return shown.permute(0, 2, 3, 1)
