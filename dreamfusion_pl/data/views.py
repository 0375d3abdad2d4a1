"""Random views for training: cameras, lights, shading modes, backgrounds (paper 3.2, A.2)."""

from __future__ import annotations

import itertools
import math
from typing import final

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from dreamfusion_pl import rng
from dreamfusion_pl.data import cameras
from dreamfusion_pl.data.orbit import orbit, ring
from dreamfusion_pl.data.view_loader import ViewLoader
from dreamfusion_pl.schedule import Schedule, check_steps, count_at, least_count
from dreamfusion_pl.types import Views


def _uniform(count: int, limits: tuple[float, float], generator: torch.Generator) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * torch.rand(count, generator=generator)


@final
class RandomViews(LightningDataModule):
    """Random cameras, lights, shading modes and backgrounds for training; fixed rings for evaluation.

    Every random number depends on (seed, rank, step) only: ranks differ, and a resumed run continues exactly.

    Args:
        views_per_step: views B per training step and device.
        resolution: height and width of training renders in pixels, or a schedule of them, such as ``Steps``,
            rounded to whole pixels; None uses the prior's.
        elevation_deg: range of elevations in degrees, within [-90, 90].
        azimuth_deg: range of azimuths in degrees, within [-360, 360] and at most 360 wide; 0 is the front.
        area_probability: probability of sampling elevations uniformly in area on the sphere, not in angle.
        distance: range of camera distances from the origin in world units.
        focal: range of focal lengths in image widths.
        spread: stratify the azimuths of a step over equal sectors instead of sampling independently.
        position_noise: half-width of the uniform noise on camera positions in world units.
        target_noise: standard deviation of the look-at point in world units.
        up_noise: standard deviation of the noise on the camera's up vector.
        light_distance: range of the light's distance from the origin in world units.
        albedo_fraction: fraction of training, from its start, with albedo renders only.
        shaded_probability: probability that a view is shaded after that.
        textureless_probability: probability that a shaded view is textureless (albedo replaced by white).
        ambient: ambient intensity of shaded views, in [0, 1].
        diffuse: diffuse intensity of shaded views, in [0, 1].
        solid_probability: probability that a view has a random solid background in place of a learned one, so
            that the object cannot be painted on the background.
        look_elevation_deg: elevation of the validation and test rings in degrees.
        look_distance: camera distance of these rings; None uses the middle of ``distance``.
        look_focal: focal length of these rings; None uses the middle of ``focal``.
        look_resolution: height and width of validation renders in pixels.
        turntable_resolution: the same of the turntable's; None: twice ``look_resolution``.
        num_val_views: number of views of a validation.
        num_test_views: number of frames of a turntable.
        seed: random seed.
        schedule_steps: steps in which progress goes from 0 to 1, where it stays; None: all of training.

    Raises:
        ValueError: a count is not positive, or a range is reversed or out of bounds.
    """

    def __init__(
        self,
        views_per_step: int = 4,
        resolution: int | Schedule | None = None,
        elevation_deg: tuple[float, float] = (-10.0, 90.0),
        azimuth_deg: tuple[float, float] = (0.0, 360.0),
        area_probability: float = 0.5,
        distance: tuple[float, float] = (1.0, 1.5),
        focal: tuple[float, float] = (0.7, 1.35),
        spread: bool = True,
        position_noise: float = 0.1,
        target_noise: float = 0.2,
        up_noise: float = 0.02,
        light_distance: tuple[float, float] = (0.8, 1.5),
        albedo_fraction: float = 1.0 / 15.0,
        shaded_probability: float = 0.75,
        textureless_probability: float = 0.5,
        ambient: float = 0.1,
        diffuse: float = 0.9,
        solid_probability: float = 0.0,
        look_elevation_deg: float = 15.0,
        look_distance: float | None = None,
        look_focal: float | None = None,
        look_resolution: int = 128,
        turntable_resolution: int | None = None,
        num_val_views: int = 4,
        num_test_views: int = 48,
        seed: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.schedule_steps = check_steps(schedule_steps)
        for name, count in [
            ("views_per_step", views_per_step),
            ("look_resolution", look_resolution),
            ("num_val_views", num_val_views),
            ("num_test_views", num_test_views),
            ("resolution", 1 if resolution is None else least_count(resolution)),
            ("turntable_resolution", 1 if turntable_resolution is None else turntable_resolution),
        ]:
            if count < 1:
                raise ValueError(f"{name} must be 1 or more, got {count}")
        for name, limits, floor in [
            ("elevation_deg", elevation_deg, -90.0),
            ("azimuth_deg", azimuth_deg, -360.0),
            ("distance", distance, 1e-6),
            ("focal", focal, 1e-6),
            ("light_distance", light_distance, 0.0),
        ]:
            if not floor <= limits[0] <= limits[1]:
                raise ValueError(
                    f"{name} is a range [low, high] with {floor} <= low <= high, got {list(limits)}"
                )
        for name, number, most in [
            ("area_probability", area_probability, 1.0),
            ("shaded_probability", shaded_probability, 1.0),
            ("textureless_probability", textureless_probability, 1.0),
            ("albedo_fraction", albedo_fraction, 1.0),
            ("ambient", ambient, 1.0),
            ("diffuse", diffuse, 1.0),
            ("position_noise", position_noise, math.inf),
            ("target_noise", target_noise, math.inf),
            ("up_noise", up_noise, math.inf),
        ]:
            if not 0.0 <= number <= most:
                raise ValueError(f"{name} must be in [0, {most:g}], got {number}")
        look = [number for number in (look_distance, look_focal) if number is not None]
        if not -90.0 <= look_elevation_deg <= 90.0 or min(look, default=1.0) <= 0.0:
            raise ValueError(
                "look_elevation_deg must be in [-90, 90], look_distance and look_focal above 0, "
                f"got {look_elevation_deg}, {look_distance} and {look_focal}"
            )
        if elevation_deg[1] > 90.0:
            raise ValueError(f"elevation_deg ends at 90 (straight above), got {elevation_deg[1]}")
        self.views_per_step, self.resolution, self.seed = views_per_step, resolution, seed
        if azimuth_deg[1] > 360.0 or azimuth_deg[1] - azimuth_deg[0] > 360.0:
            raise ValueError(
                "azimuth_deg is a range within [-360, 360], at most 360 degrees wide, such as [-90, 90] for "
                f"the front half; got {list(azimuth_deg)}"
            )
        self.azimuth_deg = azimuth_deg
        self.elevation_deg, self.area_probability, self.spread = elevation_deg, area_probability, spread
        self.distance, self.focal, self.light_distance = distance, focal, light_distance
        self.position_noise, self.target_noise, self.up_noise = position_noise, target_noise, up_noise
        self.albedo_fraction, self.ambient, self.diffuse = albedo_fraction, ambient, diffuse
        self.shaded_probability, self.textureless_probability = shaded_probability, textureless_probability
        self.solid_probability = solid_probability
        self.look_elevation_deg, self.look_resolution = look_elevation_deg, look_resolution
        self.turntable_resolution = turntable_resolution or 2 * look_resolution
        self.look_distance = sum(distance) / 2 if look_distance is None else look_distance
        self.look_focal = sum(focal) / 2 if look_focal is None else look_focal
        self.num_val_views, self.num_test_views = num_val_views, num_test_views

    def side(self, progress: float, own: int) -> int:
        """Return height and width of training renders at a progress; ``own``: the prior's."""
        return own if self.resolution is None else count_at(self.resolution, progress)

    def draw(self, step: int, progress: float, resolution: int, rank: int = 0) -> Views:
        """Sample the views of one step.

        Args:
            step: training step; with (seed, rank) it determines all random numbers.
            progress: training progress in [0, 1].
            resolution: height and width in pixels.
            rank: global rank of the process.
        """
        generator = rng.generator(self.seed, "views", rank, step)
        count = self.views_per_step
        azimuth = cameras.sample_azimuths_deg(count, self.spread, generator, *self.azimuth_deg)
        elevation = cameras.sample_elevations_deg(
            count, *self.elevation_deg, self.area_probability, generator
        )
        origin = cameras.positions(elevation, azimuth, _uniform(count, self.distance, generator))
        origin = origin + self.position_noise * (2.0 * torch.rand(count, 3, generator=generator) - 1.0)
        target = self.target_noise * torch.randn(count, 3, generator=generator)
        up = torch.tensor([0.0, 0.0, 1.0]) + self.up_noise * torch.randn(count, 3, generator=generator)
        focal = _uniform(count, self.focal, generator)
        light = cameras.sample_lights(origin, *self.light_distance, generator)
        shaded = torch.rand(count, generator=generator) < self.shaded_probability
        shaded &= torch.tensor(progress >= self.albedo_fraction)
        textureless = shaded & (torch.rand(count, generator=generator) < self.textureless_probability)
        return Views(
            origin=origin,
            rotation=cameras.look_at(origin, target, up),
            focal=focal,
            elevation_deg=elevation,
            azimuth_deg=azimuth,
            light=light,
            ambient=torch.where(shaded, self.ambient, 1.0),
            diffuse=torch.where(shaded, self.diffuse, 0.0),
            textureless=textureless,
            background=torch.rand(count, 3, generator=generator),
            jitter=torch.rand(count, resolution, resolution, generator=generator),
            solid=torch.rand(count, generator=generator) < self.solid_probability,
        )

    def train_dataloader(self) -> ViewLoader:
        """Return an endless loader of training views from the trainer's current step."""
        trainer, accumulated = self.trainer, self.trainer.accumulate_grad_batches
        module = trainer.lightning_module
        own, drawn = module.prior.resolution, module.distillation.view_step

        def views(index: int) -> Views:
            step = drawn(index)  # earlier than index where views are seen again
            progress = min(step // accumulated / (self.schedule_steps or trainer.max_steps), 1.0)
            return self.draw(step, progress, self.side(progress, own), trainer.global_rank)

        return ViewLoader(
            views,
            lambda: itertools.count(trainer.global_step * accumulated),
        )

    def val_dataloader(self) -> ViewLoader:
        """Return a loader with one batch: the views of a validation."""
        azimuths = ring(self.num_val_views)
        return ViewLoader(lambda _: self._orbit(azimuths, self.look_resolution), lambda: range(1))

    def test_dataloader(self) -> ViewLoader:
        """Return a loader of the turntable's views, ``views_per_step`` per batch."""
        batches = ring(self.num_test_views).split(self.views_per_step)
        side = self.turntable_resolution
        return ViewLoader(lambda index: self._orbit(batches[index], side), lambda: range(len(batches)))

    def predict_dataloader(self) -> ViewLoader:
        """Return the same loader as ``test_dataloader``."""
        return self.test_dataloader()

    def transfer_batch_to_device(self, batch: Views, device: torch.device, dataloader_idx: int) -> Views:
        """Move views to a device; to a GPU from pinned memory, which does not wait for earlier work."""
        if device.type == "cuda":
            batch = Views(*(field.pin_memory() for field in batch))
        return Views(*(field.to(device, non_blocking=device.type == "cuda") for field in batch))

    def _orbit(self, azimuths_deg: Tensor, side: int) -> Views:
        return orbit(azimuths_deg, self.look_elevation_deg, self.look_distance, self.look_focal, side, side)
