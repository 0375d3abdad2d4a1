import math

import torch

from dreamfusion_pl.rendering.volume import accumulate, compositing_weights, over


def test_weights_and_colour_agree_with_a_loop():
    generator = torch.Generator().manual_seed(0)
    density = 20.0 * torch.rand(5, 9, generator=generator, dtype=torch.float64)
    delta = 0.2 * torch.rand(5, 9, generator=generator, dtype=torch.float64)
    colors = torch.rand(5, 9, 3, generator=generator, dtype=torch.float64)
    weights = compositing_weights(density, delta)
    color = accumulate(weights, colors)
    for ray in range(5):
        transmittance, expected = 1.0, [0.0, 0.0, 0.0]
        for i in range(9):
            alpha = 1.0 - math.exp(-density[ray, i].item() * delta[ray, i].item())
            weight = alpha * transmittance
            transmittance *= 1.0 - alpha
            assert math.isclose(weights[ray, i].item(), weight, rel_tol=1e-9, abs_tol=1e-12)
            expected = [e + weight * c for e, c in zip(expected, colors[ray, i].tolist(), strict=True)]
        torch.testing.assert_close(color[ray], torch.tensor(expected, dtype=torch.float64))


def test_weights_and_gradients_stay_finite_for_extreme_densities():
    density = torch.tensor([[0.0, 1e6, 1e6, 0.0]], requires_grad=True)
    weights = compositing_weights(density, torch.full((1, 1), 0.1))
    torch.testing.assert_close(weights, torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    weights.sum().backward()
    assert density.grad is not None and density.grad.isfinite().all()


def test_weights_add_up_to_one_at_most_whatever_the_density():
    generator = torch.Generator().manual_seed(0)
    for exponent in (0.0, 5.0, 10.0, 15.0):
        density = math.exp(exponent) * torch.rand(500, 64, generator=generator)
        total = compositing_weights(density, torch.rand(500, 1, generator=generator) / 64).sum(-1)
        assert total.max() <= 1.0 + 1e-6


def test_gradient_of_the_weights():
    density = torch.rand(2, 4, dtype=torch.float64, requires_grad=True)
    delta = torch.rand(2, 1, dtype=torch.float64)
    assert torch.autograd.gradcheck(compositing_weights, (density, delta))


def test_over_puts_colour_in_front():
    color = over(torch.tensor([[0.2, 0.0, 0.1]]), torch.tensor([0.25]), torch.tensor([[1.0, 0.4, 0.0]]))
    torch.testing.assert_close(color, torch.tensor([[0.95, 0.3, 0.1]]))
