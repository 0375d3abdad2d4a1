"""Every method makes steps with tiny models of every family, and with negative prompts."""

from __future__ import annotations

import pytest
import torch
from tiny_families import FAMILIES, save_tiny_family

from dreamfusion_pl import rng
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.noise import SigmaSquared
from dreamfusion_pl.distillation.adjustments import Clip, Rescale
from dreamfusion_pl.distillation.base import Distillation
from dreamfusion_pl.distillation.sds import ScoreDistillation
from dreamfusion_pl.distillation.times import FallingTimes, PriorWeightedTimes
from dreamfusion_pl.distillation.variants.asd import AsynchronousDistillation
from dreamfusion_pl.distillation.variants.bridge import BridgeDistillation
from dreamfusion_pl.distillation.variants.csd import ClassifierScoreDistillation
from dreamfusion_pl.distillation.variants.hifa import DenoisedPictures
from dreamfusion_pl.distillation.variants.inversion import InversionDistillation
from dreamfusion_pl.distillation.variants.ism import IntervalScoreMatching
from dreamfusion_pl.distillation.variants.nfsd import NoiseFreeDistillation
from dreamfusion_pl.distillation.variants.reconstruction import IterativeReconstruction
from dreamfusion_pl.types import Condition, Negatives

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
COMMON = {"guidance_scale": 3.0, "weighting": SigmaSquared(), "t_max": 0.9}
METHODS = {
    "sds, rescaled": ScoreDistillation(**COMMON, adjustment=Rescale(), draws=2),
    "sds, clipped": ScoreDistillation(**COMMON, adjustment=Clip(1.0), time_law=FallingTimes()),
    "sds, weighted times": ScoreDistillation(**COMMON, time_law=PriorWeightedTimes()),
    "csd": ClassifierScoreDistillation(**COMMON),
    "csd, negative": ClassifierScoreDistillation(**COMMON, negative_text="a chair", negative_scale=0.5),
    "nfsd": NoiseFreeDistillation(**COMMON, negative_text="a chair"),
    "bridge": BridgeDistillation(**COMMON, source_text="a chair, {}"),
    "asd": AsynchronousDistillation(**COMMON),
    "sdi": InversionDistillation(**COMMON, steps=2),
    "hifa": DenoisedPictures(**COMMON, steps=2),
    "sir": IterativeReconstruction(**COMMON, batches=2, passes=2),
    "ism": IntervalScoreMatching(stride=0.5, **COMMON),
}
STEPS = 20


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def prior(request, tmp_path_factory) -> PretrainedPrior:
    folder = save_tiny_family(request.param, tmp_path_factory.mktemp("families"))
    return PretrainedPrior(str(folder), dtype="float32", resolution=8)


def condition(prior: PretrainedPrior, method: Distillation, negative: bool) -> Condition:
    texts = ["a red chair, front view", "a red chair, back view"]
    found = Condition(prior.embed(texts), prior.embed([""]))
    if method.source_text is not None:
        found = found._replace(source=prior.embed([method.source_text.replace("{}", text) for text in texts]))
    if negative:
        weight = torch.tensor([[0.5, 0.0]])
        found = found._replace(negatives=Negatives(prior.embed(texts[::-1]), weight))
    return found


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_steps_move_the_pictures(prior, method):
    method.check(prior)
    start = torch.randn(
        2, prior.channels, prior.resolution, prior.resolution, generator=rng.generator(0, "z")
    )
    z = start.clone().requires_grad_()
    plain, crowded = (condition(prior, method, negative) for negative in (False, True))
    for step in range(STEPS):
        where = crowded if step == 0 else plain
        loss = method(z, where, prior, step / STEPS, rng.generator(0, "distillation", 0, step))
        (gradient,) = torch.autograd.grad(loss.total, z)
        assert bool(gradient.isfinite().all()), step
        with torch.no_grad():
            z -= 1e-3 * gradient
    assert float((z.detach() - start).abs().max()) > 1e-5
