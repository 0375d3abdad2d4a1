import pytest
import torch

from dreamfusion_pl.scene.pictures import IdentityParametrization, MLPPicture


def test_identity_is_theta():
    x = IdentityParametrization(count=500, shape=(1, 2, 3), spread=2.0)
    assert x().shape == (500, 1, 2, 3)
    assert x() is x.theta
    assert float(x().detach().std()) == pytest.approx(2.0, rel=0.05)
    assert torch.equal(x(), IdentityParametrization(500, (1, 2, 3), 2.0)())


def test_a_small_network_can_draw():
    picture = MLPPicture(resolution=16)
    assert picture().shape == (1, 16, 16, 3) and picture().min() > 0.0 and picture().max() < 1.0
    target = torch.zeros(16, 16, 3)
    target[4:12, 2:9] = torch.tensor([0.9, 0.2, 0.1])
    optimizer = torch.optim.Adam(picture.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (picture()[0] - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 2e-3


@pytest.mark.parametrize("make", [lambda: IdentityParametrization(0), lambda: MLPPicture(width=0)])
def test_sizes_must_be_positive(make):
    with pytest.raises(ValueError, match="positive"):
        make()
