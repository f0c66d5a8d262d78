"""Golden values computed with numpy alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tendon.policies.parts.heads import DeterministicHead, GaussianMixture, MixtureHead
from tendon.policies.parts.mlp import make_mlp


def test_mixture_log_prob_by_hand() -> None:
    mean = torch.tensor([[[0.0, 0.5], [1.0, -1.0]]])
    std = torch.tensor([[[1.0, 2.0], [0.5, 0.25]]])
    logits = torch.log(torch.tensor([[0.25, 0.75]]))
    action = torch.tensor([[0.5, -0.5]])

    def normal(x: float, m: float, s: float) -> float:
        return float(np.exp(-0.5 * ((x - m) / s) ** 2) / (s * np.sqrt(2 * np.pi)))

    density = 0.25 * normal(0.5, 0, 1) * normal(-0.5, 0.5, 2) + 0.75 * normal(0.5, 1, 0.5) * normal(-0.5, -1, 0.25)
    assert GaussianMixture(mean, std, logits).log_prob(action).item() == pytest.approx(np.log(density), abs=1e-6)


def test_mixture_agrees_with_torch_distributions() -> None:
    from torch import distributions as d

    generator = torch.Generator().manual_seed(0)
    mean, std = torch.randn(16, 5, 7, generator=generator), torch.rand(16, 5, 7, generator=generator) + 1e-4
    logits, action = torch.randn(16, 5, generator=generator), torch.randn(16, 7, generator=generator)
    theirs = d.MixtureSameFamily(d.Categorical(logits=logits), d.Independent(d.Normal(mean, std), 1)).log_prob(action)
    torch.testing.assert_close(GaussianMixture(mean, std, logits).log_prob(action), theirs, rtol=1e-5, atol=1e-5)


def test_log_prob_survives_far_actions_and_tiny_std() -> None:
    """Ten thousand standard deviations away: by hand, of two equal modes."""
    mixture = GaussianMixture(torch.zeros(1, 2, 7), torch.full((1, 2, 7), 1e-4), torch.zeros(1, 2))
    expected = 7 * (-0.5 * 1e8 - math.log(1e-4) - 0.5 * math.log(2 * math.pi))
    assert mixture.log_prob(torch.ones(1, 7)).item() == pytest.approx(expected, rel=1e-6)


def test_samples_choose_modes_by_weight_and_spread_by_std() -> None:
    count = 20_000
    mean = torch.tensor([-0.5, 0.5]).view(1, 2, 1).expand(count, 2, 1)
    std = torch.tensor([0.1, 0.01]).view(1, 2, 1).expand(count, 2, 1)
    mixture = GaussianMixture(mean, std, torch.log(torch.tensor([0.3, 0.7])).expand(count, 2))
    generator = torch.Generator().manual_seed(1)
    uniform, normal = torch.rand(count, generator=generator), torch.randn(count, 1, generator=generator)
    sample = mixture.sample(uniform, normal)
    left = sample[:, 0] < 0
    assert left.float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert sample[left].std().item() == pytest.approx(0.1, rel=0.05)
    assert sample[~left].std().item() == pytest.approx(0.01, rel=0.05)
    low_noise = mixture.sample(uniform, normal, std=1e-4)
    assert (low_noise.abs() - 0.5).abs().max().item() < 1e-3


def test_sample_at_the_upper_edge_stays_in_the_last_mode() -> None:
    mixture = GaussianMixture(torch.tensor([[[0.0], [1.0], [2.0]]]), torch.ones(1, 3, 1), torch.zeros(1, 3))
    assert mixture.sample(torch.tensor([0.99999994]), torch.zeros(1, 1)).item() == 2.0


def test_heads_bound_with_tanh_and_order_modes_row_major() -> None:
    head = MixtureHead(4, 3, num_modes=2, min_std=0.01, bounded=True)
    features = torch.randn(5, 4)
    mixture = head(features)
    raw = features.numpy() @ head.mean.weight.detach().numpy().T + head.mean.bias.detach().numpy()
    np.testing.assert_allclose(mixture.mean.detach()[:, 1, 2], np.tanh(raw[:, 1 * 3 + 2]), atol=1e-6)
    scale = features.numpy() @ head.scale.weight.detach().numpy().T + head.scale.bias.detach().numpy()
    np.testing.assert_allclose(mixture.std.detach()[:, 0, 1], np.log1p(np.exp(scale[:, 1])) + 0.01, atol=1e-6)
    unbounded = DeterministicHead(4, 3, bounded=False)
    assert torch.equal(unbounded(features), unbounded.action(features))


def test_mlp_ends_in_relu() -> None:
    assert [type(layer).__name__ for layer in make_mlp(3, (4, 5))] == ["Linear", "ReLU", "Linear", "ReLU"]
    assert (make_mlp(3, (4, 5))(torch.randn(9, 3)) >= 0).all()
