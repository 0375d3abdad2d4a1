"""Steps of DDIM along a predicted noise, forwards and backwards in time."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dreamfusion_pl.diffusion.noise import NoiseSchedule, per_row, x0_from_eps


def ddim_step(z: Tensor, eps: Tensor, t: Tensor, to: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Move z [B, C, h, w] from times t to times ``to``, [B], along the noise eps (Song et al. 2021, eq. 12).

    On the straight path of a flow model it is a step of Euler's method.
    """
    x0 = x0_from_eps(eps, z, per_row(schedule.alpha(t)), per_row(schedule.sigma(t)))
    return schedule.diffuse(x0, eps, to)


def denoise(
    z_t: Tensor, t: Tensor, predict: Callable[[Tensor, Tensor], Tensor], steps: int, schedule: NoiseSchedule
) -> Tensor:
    """Return the clean pictures [B, C, h, w] that DDIM sampling makes of noisy ones.

    Args:
        z_t: noisy pictures [B, C, h, w].
        t: times [B].
        predict: the predicted noise [B, C, h, w] of noisy pictures at times [B].
        steps: number of equal steps from t to 0, 1 or more; with one it is the one-step estimate of x0.
        schedule: the prior's noise levels.
    """
    for step in range(steps):
        now, after = t * (1.0 - step / steps), t * (1.0 - (step + 1) / steps)
        eps = predict(z_t, now)
        z_t = ddim_step(z_t, eps, now, after, schedule)
    return x0_from_eps(eps, z_t, per_row(schedule.alpha(after)), per_row(schedule.sigma(after)))


def invert(
    z: Tensor, t: Tensor, predict: Callable[[Tensor, Tensor], Tensor], steps: int, schedule: NoiseSchedule
) -> Tensor:
    """Return the noisy picture at times t from which DDIM sampling would lead to z.

    Args:
        z: clean pictures [B, C, h, w].
        t: times [B].
        predict: the predicted noise [B, C, h, w] of noisy pictures at times [B].
        steps: number of equal steps from 0 to t.
        schedule: the prior's noise levels.
    """
    for step in range(steps):
        before, after = t * (step / steps), t * ((step + 1) / steps)
        z = ddim_step(z, predict(z, before), before, after, schedule)
    return z
