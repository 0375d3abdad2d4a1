import copy

import pytest
import torch

from dreamfusion_pl.optimizers import Shampoo


def quadratic(parameter: torch.Tensor, decades: float = 3.0) -> torch.Tensor:
    """A bowl over matrices with its lowest point at 1, and curvatures that span some decades."""
    scale = torch.logspace(0, decades, parameter.shape[1])
    return ((parameter - 1.0).square() * scale).sum()


def run(optimizer, parameter, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        quadratic(parameter).backward()
        optimizer.step()


def start() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)))


def test_it_descends_a_narrow_valley():
    parameter = start()
    before = float(quadratic(parameter).detach())
    run(Shampoo([parameter], lr=1e-2, block_size=8), parameter, 300)
    assert float(quadratic(parameter).detach()) < 1e-2 * before


def test_a_step_is_the_preconditioned_gradient_with_the_length_of_sign_descent():
    parameter = start()
    optimizer = Shampoo([parameter], lr=1.0, betas=(0.0, 0.5), block_size=8, refresh_every=1)
    quadratic(parameter, decades=0.5).backward()
    gradient, before = parameter.grad.clone(), parameter.detach().clone()
    optimizer.step()
    left = 0.5 * gradient @ gradient.T + 0.5e-6 * torch.eye(6)
    right = 0.5 * gradient.T @ gradient + 0.5e-6 * torch.eye(5)
    ridge = [1e-6 * torch.linalg.eigvalsh(m).max() * torch.eye(len(m)) for m in (left, right)]

    def inverse_root(matrix):
        values, vectors = torch.linalg.eigh(matrix.double())
        return vectors @ torch.diag(values**-0.5) @ vectors.T

    direction = inverse_root(left + ridge[0]) @ gradient.double() @ inverse_root(right + ridge[1])
    expected = direction / direction.norm() * gradient.numel() ** 0.5
    step = (before - parameter.detach()).double()
    assert float(step.norm()) == pytest.approx(float(expected.norm()), rel=1e-3)
    cosine = (step * expected).sum() / step.norm() / expected.norm()
    assert float(cosine) > 0.995


def test_its_state_survives_a_checkpoint_exactly(tmp_path):
    whole, part = start(), start()
    run(Shampoo([whole], lr=1e-2, block_size=8, refresh_every=3), whole, 20)
    optimizer = Shampoo([part], lr=1e-2, block_size=8, refresh_every=3)
    run(optimizer, part, 10)
    torch.save({"state": optimizer.state_dict(), "parameter": part.detach()}, tmp_path / "last.ckpt")
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)
    again = torch.nn.Parameter(copy.deepcopy(stored["parameter"]))
    resumed = Shampoo([again], lr=1e-2, block_size=8, refresh_every=3)
    resumed.load_state_dict(stored["state"])
    torch.rand(5)  # whatever else drew in between
    run(resumed, again, 10)
    assert torch.equal(again, whole)
