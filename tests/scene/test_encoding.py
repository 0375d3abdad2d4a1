import torch

from dreamfusion_pl.scene.frequencies import encode_directions, encode_points


def test_integrated_encoding_is_the_mean_over_a_gaussian():
    mean, covariance = torch.tensor([0.3, -0.7, 0.1]), 0.02
    noise = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0))
    draws = encode_points(mean + covariance**0.5 * noise, 0.0, 5)
    torch.testing.assert_close(encode_points(mean, covariance, 5), draws.mean(0), atol=0.01, rtol=0.0)


def test_encoding_without_covariance_by_hand():
    encoding = encode_points(torch.tensor([[0.5, 0.0, -1.0]]), 0.0, 2)
    phases = torch.tensor([[0.5, 0.0, -1.0, 1.0, 0.0, -2.0]])
    torch.testing.assert_close(encoding, torch.cat([phases.sin(), phases.cos()], dim=-1))


def test_high_frequencies_vanish_first():
    damped = encode_points(torch.full((1, 3), 0.1), 0.05, 8)[0, 24:].reshape(8, 3)[:, 0]
    assert damped[0] > 0.95 and damped[5:].abs().max() < 1e-6


def test_directions_keep_themselves():
    directions = torch.nn.functional.normalize(torch.randn(2, 4, 4, 3), dim=-1)
    encoding = encode_directions(directions, 4)
    assert encoding.shape == (2, 4, 4, 27)
    assert torch.equal(encoding[..., :3], directions)
