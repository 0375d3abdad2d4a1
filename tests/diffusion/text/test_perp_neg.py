"""Perpendicular negatives: their weights by azimuth, and guidance against a loop over views and negatives."""

import math
import threading

import pytest
import torch
from word_prior import WordPrior, embedded, views_at

from dreamfusion_pl.diffusion.closed_form import GaussianPrior, MixturePrior, Mode
from dreamfusion_pl.diffusion.noise import Uniform
from dreamfusion_pl.diffusion.prior import perpendicular
from dreamfusion_pl.diffusion.shared import PriorBatcher
from dreamfusion_pl.diffusion.text.perp_neg import PerpNeg
from dreamfusion_pl.distillation.density import DensityDistillation
from dreamfusion_pl.distillation.parameter_space import ParameterSpaceSampling
from dreamfusion_pl.types import Condition, Negatives

AZIMUTHS = [0.0, 20.0, 60.0, 90.0, 91.0, 150.0, 180.0, 300.0, 200.0]
ELEVATIONS = [0.0, 10.0, 0.0, 20.0, 0.0, 0.0, -5.0, 30.0, 75.0]


def weights_by_hand(azimuth_deg: float) -> tuple[float, float]:
    """Of front and side, by the paper's formulas: r falls from front to side, and from side to back."""
    away = abs((azimuth_deg + 180.0) % 360.0 - 180.0)
    if away <= 90.0:
        r = 1.0 - away / 90.0
        return 4.0 * math.exp(-0.5 * r) - 2.426, 4.0 * math.exp(-0.5 * (1.0 - r)) - 2.426
    r = 2.0 - away / 90.0
    return math.exp(-0.5 * r) + 0.967, math.exp(-0.5 * r) - 0.606


@pytest.mark.parametrize("directions", [4, 8, 48])
def test_weights_and_texts_of_the_negatives(directions):
    prompts = embedded(WordPrior(), "a ball", directions=directions, perp_neg=PerpNeg())
    negatives = prompts(views_at(ELEVATIONS, AZIMUTHS)).negatives
    expected = torch.tensor([weights_by_hand(azimuth) for azimuth in AZIMUTHS]).T
    expected[:, -1] = 0.0  # from above
    torch.testing.assert_close(negatives.weight, expected)
    sides = ["side"] * 9 if directions == 4 else ["left side"] * 6 + ["right side"] * 3
    nearest = [0, 15, 0, 15, 0, 0, 0, 30, 75]
    levels = [f", elevation {degrees}" if directions == 48 else "" for degrees in nearest]
    views = zip(["front"] * 9 + sides, levels * 2, strict=True)
    texts = [f"a ball, {name} view{level}" for name, level in views]
    assert torch.equal(negatives.text.tokens, WordPrior().embed(texts).tokens)


def test_weights_do_not_jump_and_fade_towards_overhead():
    weigh = PerpNeg()
    weight = weigh(torch.linspace(0.0, 2.0, 2001))
    assert weight.diff(dim=1).abs().max() < 3e-3 and bool((weight >= 0.0).all())
    assert weight[0, 0] < 1e-3 and weight[1, 1000] < 1e-3  # nothing is its own negative
    prompts = embedded(
        WordPrior(), "a ball", view_embedding="interpolated", perp_neg=weigh, overhead_deg=60.0
    )
    fading = prompts(views_at([50.0, 60.0, 65.0, 70.0], [90.0] * 4)).negatives.weight
    torch.testing.assert_close(fading[0], weights_by_hand(90.0)[0] * torch.tensor([1.0, 0.5, 0.25, 0.0]))


@pytest.mark.parametrize(
    "numbers",
    [(-1.0, 0.5, 0.0), (1.0, 0.5, -0.7), (1.0, -1.0, -2.8), (math.inf, 0.5, 0.0), (math.nan, 1.0, 0.0)],
)
def test_a_weight_that_can_be_negative_is_refused(numbers):
    with pytest.raises(ValueError, match="perp_neg.side_behind: .* must not be negative"):
        PerpNeg(side_behind=numbers)


def guided_by_a_loop(prior, z_t, t, condition, omega):
    """One view and one text at a time, in plain numbers."""
    rows = []
    for b in range(len(z_t)):
        here = slice(b, b + 1)

        def predict(text, here=here):
            return prior.predict(z_t[here], t[here], text).flatten().double().tolist()

        null = predict(condition.null)
        toward = [y - n for y, n in zip(predict(condition.text.rows(here)), null, strict=True)]
        pushed = list(toward)
        for m, weights in enumerate(condition.negatives.weight.tolist()):
            row = m * len(z_t) + b
            text = condition.negatives.text.rows(slice(row, row + 1))
            away = [y - n for y, n in zip(predict(text), null, strict=True)]
            along = sum(p * q for p, q in zip(away, toward, strict=True)) / sum(q * q for q in toward)
            pushed = [x - weights[b] * (p - along * q) for x, p, q in zip(pushed, away, toward, strict=True)]
        rows.append([n + (1.0 + omega) * x for n, x in zip(null, pushed, strict=True)])
    return torch.tensor(rows, dtype=torch.float64).view_as(z_t)


def modes() -> MixturePrior:
    """Three Gaussians of 2 x 2 pictures: a prior in closed form that tells texts apart."""
    eye = torch.eye(4)
    spread = 0.2 * eye + 0.1
    return MixturePrior(
        {
            "front": Mode(tuple(eye[0].tolist()), tuple(map(tuple, spread.tolist()))),
            "side": Mode(tuple(eye[1].tolist()), tuple(map(tuple, (0.3 * eye).tolist()))),
            "back": Mode(tuple((-eye[2]).tolist()), tuple(map(tuple, (0.5 * eye).tolist()))),
            "overhead": Mode(tuple((-eye[3]).tolist()), tuple(map(tuple, (0.1 * eye).tolist()))),
        },
        (1, 2, 2),
    )


def draw(prior, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, prior.channels, prior.resolution, prior.resolution)
    z_t = torch.randn(shape, generator=generator, dtype=torch.float64)
    return z_t, 0.2 + 0.7 * torch.rand(count, generator=generator)


@pytest.mark.parametrize("omega", [0.0, 1.0, 99.0])
@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("make", [WordPrior, modes])
@pytest.mark.parametrize("kind", ["nearest", "interpolated"])
def test_guidance_is_what_a_slow_loop_computes(kind, make, count, omega):
    prior = make()
    prompts = embedded(prior, "a side", "back", 4, view_embedding=kind, perp_neg=PerpNeg())
    condition = prompts(views_at(ELEVATIONS[-count:], AZIMUTHS[-count:]))
    z_t, t = draw(prior, count)
    expected = guided_by_a_loop(prior, z_t, t, condition, omega)
    torch.testing.assert_close(prior.guided(z_t, t, condition, omega), expected, rtol=1e-6, atol=1e-6)
    plain = prior.guided(z_t, t, condition._replace(negatives=None), omega)
    assert (plain - expected).abs().max() > 1e-2 or count == 1  # the last view is from above


def test_all_texts_are_asked_in_one_call():
    prior = WordPrior()
    condition = embedded(prior, "a ball", perp_neg=PerpNeg())(views_at(ELEVATIONS, AZIMUTHS))
    prior.guided(*draw(prior, 9), condition, 4.0)
    assert prior.calls == 1


@pytest.mark.parametrize("omega", [0.0, 3.0, 99.0])
def test_without_negatives_nothing_changes_to_the_last_bit(omega):
    prior = WordPrior()
    condition = embedded(prior, "a ball")(views_at(ELEVATIONS, AZIMUTHS))
    z_t, t = draw(prior, 9)
    z_t = z_t.float()
    assert condition.negatives is None
    texts = condition.text.join(condition.null.expand(9))
    conditional, unconditional = prior.predict(torch.cat([z_t, z_t]), torch.cat([t, t]), texts).chunk(2)
    expected = (1.0 + omega) * conditional - omega * unconditional
    assert torch.equal(prior.guided(z_t, t, condition, omega), expected)


def test_a_negative_along_the_text_itself_does_nothing():
    prior = WordPrior()
    condition = embedded(prior, "a ball")(views_at([0.0] * 3, [0.0, 90.0, 180.0]))
    with_itself = condition._replace(negatives=Negatives(condition.text, torch.full((1, 3), 2.0)))
    z_t, t = draw(prior, 3)
    torch.testing.assert_close(
        prior.guided(z_t, t, with_itself, 9.0), prior.guided(z_t, t, condition, 9.0), rtol=1e-9, atol=1e-9
    )


def test_projection_is_per_view_and_in_single_precision():
    generator = torch.Generator().manual_seed(0)
    axes = 1e-3 * torch.randn(5, 3, 8, 8, generator=generator).bfloat16()
    axes[4] = 0.0
    vectors = torch.randn(2, 5, 3, 8, 8, generator=generator).bfloat16()
    apart = perpendicular(vectors, axes)
    assert apart.dtype == torch.float32 and torch.equal(apart[:, 4], vectors[:, 4].float())
    cosine = torch.nn.functional.cosine_similarity(apart.flatten(2), axes.float().flatten(1), dim=-1)
    assert cosine.abs().max() < 1e-5
    for b in range(4):
        torch.testing.assert_close(perpendicular(vectors[:, b : b + 1], axes[b : b + 1]), apart[:, b : b + 1])


def test_a_gradient_flows_through_the_projection():
    prior, distillation = modes(), ParameterSpaceSampling(2.0, Uniform())
    prompts = embedded(prior, "a ball", view_embedding="interpolated", perp_neg=PerpNeg())
    condition = prompts(views_at([0.0, 0.0], [70.0, 140.0]))

    def value(z):
        return distillation(z, condition, prior, 0.0, torch.Generator().manual_seed(3)).total

    z = draw(prior, 2)[0].requires_grad_()
    (slope,) = torch.autograd.grad(value(z), z)
    for index in range(z.numel()):
        step = 1e-5 * torch.eye(z.numel(), dtype=z.dtype)[index].view_as(z)
        difference = float(value(z.detach() + step) - value(z.detach() - step)) / 2e-5
        assert float(slope.flatten()[index]) == pytest.approx(difference, rel=1e-4, abs=1e-6)


def test_fits_with_and_without_negatives_share_a_prior():
    options = [{"perp_neg": PerpNeg()}, {}, {"perp_neg": PerpNeg(), "view_embedding": "interpolated"}]
    alone, shared, batcher, one = {}, {}, PriorBatcher(3), WordPrior()

    def run_fit(index):
        count = index + 1
        with batcher.lock:
            prior = batcher.share(index, one)
            prompts = embedded(prior, f"a {index}", "blue", **options[index])
            condition = prompts(views_at(ELEVATIONS[:count], AZIMUTHS[1 : count + 1]))
            alone[index] = WordPrior().guided(*draw(one, count, index), condition, 4.0)
            shared[index] = prior.guided(*draw(one, count, index), condition, 4.0)
            batcher.leave(index)

    threads = [threading.Thread(target=run_fit, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.calls == 1 and sorted(shared) == [0, 1, 2]
    for index in range(3):
        torch.testing.assert_close(shared[index], alone[index])


def test_a_distillation_without_guidance_refuses_negatives():
    prior = GaussianPrior([0.0], [[1.0]])
    text = prior.embed(["y"])
    condition = Condition(text, prior.embed([""]), Negatives(text, torch.ones(1, 1)))
    with pytest.raises(ValueError, match="leave perp_neg out"):
        DensityDistillation(Uniform())(torch.zeros(1, 1, 1, 1), condition, prior, 0.0, torch.Generator())
