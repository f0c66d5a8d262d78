from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tendon.config.schema import PolicyConfig
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError
from tendon.policies.bc.config import BcConfig
from tendon.policies.bc.model import Bc
from tendon.policies.registry import make_policy
from tendon.policies.spec import PolicySpec
from tendon.policies.windows import Span
from tests.policies.features_of import features_of

DIMS = {"observation.z": 2, "action": 4, "observation.a": 3}
FEATURES = features_of(DIMS)
CONFIG = BcConfig("bc", (32, 16), "deterministic", 5, 1e-4, True, 1.0, 0.0, 0.0, "mean_std", "identity")


def stats(high: float = 1.0) -> dict[str, FeatureStats]:
    return {key: FeatureStats(9, *((value,) * d for value in (0.5, 2.0, -high, high, 0, 0))) for key, d in DIMS.items()}


def batch(size: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(size)
    made = {key: torch.randn(size, 1, dim, generator=generator) for key, dim in DIMS.items()}
    return made | {"action": made["action"].clamp(-1, 1)}


def numpy_forward(policy: Bc, data: dict[str, torch.Tensor]) -> np.ndarray:
    """The deterministic net in float64: keys in sorted order, normalised, two layers, tanh."""
    weights = {name: value.double().numpy() for name, value in policy.state_dict().items()}
    x = np.concatenate([data["observation.a"][:, 0], data["observation.z"][:, 0]], -1).astype(np.float64)
    x = (x - 0.5) / 2.0
    for layer in ("trunk.0", "trunk.2"):
        x = np.maximum(x @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"], 0)
    return np.tanh(x @ weights["head.action.weight"].T + weights["head.action.bias"])


def test_the_net_is_the_one_in_the_book() -> None:
    policy = Bc(CONFIG, FEATURES, stats())
    data = batch()
    action, memory = policy.act(data, policy.start(1))
    assert memory is None
    assert action["action"].shape == (6, 1, 4)
    np.testing.assert_allclose(action["action"][:, 0], numpy_forward(policy, data), atol=1e-6)
    assert policy.reads == ("observation.a", "observation.z")
    assert policy.windows.training == dict.fromkeys(("observation.a", "observation.z", "action"), Span((0,)))
    assert policy.windows.acting == dict.fromkeys(policy.reads, Span((0,)))


def test_losses_and_their_weights() -> None:
    config = replace(CONFIG, l2_weight=0.5, l1_weight=2.0, cos_weight=3.0)
    policy = Bc(config, FEATURES, stats())
    data = batch()
    got, want = numpy_forward(policy, data), data["action"][:, 0].double().numpy()
    error = np.abs(got - want)
    l2 = (error**2).mean()
    l1 = np.where(error < 1, 0.5 * error**2, error - 0.5).mean()
    norms = np.linalg.norm(got[:, :3], axis=1) * np.linalg.norm(want[:, :3], axis=1)
    cos = (1 - (got[:, :3] * want[:, :3]).sum(1) / norms).mean()
    output = policy.loss(data)
    assert output.loss.item() == pytest.approx(0.5 * l2 + 2 * l1 + 3 * cos, abs=1e-5)
    expected = {"l2_loss": l2, "l1_loss": l1, "cos_loss": cos}
    assert {k: v.item() for k, v in output.metrics.items()} == pytest.approx(expected, abs=1e-5)


def test_gmm_validation_is_the_training_loss() -> None:
    """Upstream's low-noise validation turns 6.57 into 1.1e8; ours is the same number in both modes."""
    policy = Bc(replace(CONFIG, head="gmm"), FEATURES, stats())
    data = batch()
    training = policy.train().loss(data).loss.item()
    assert policy.eval().loss(data).loss.item() == training
    assert abs(training) < 100


def test_gmm_actions_depend_on_the_episodes_seed_and_step_only() -> None:
    torch.manual_seed(3)
    policy = Bc(replace(CONFIG, head="gmm", low_noise_eval=False), FEATURES, stats()).eval()
    data = {key: value[:1].expand(3, 1, -1) for key, value in batch().items()}
    one = {key: value[:1] for key, value in data.items()}
    together, memory = policy.act(data, policy.start(7, 8, 7))
    torch.manual_seed(999)  # the global generator plays no part
    alone, _ = policy.act(one, policy.start(8))
    together, alone = together["action"], alone["action"]
    torch.testing.assert_close(together[1], alone[0])
    torch.testing.assert_close(together[0], together[2])
    assert (together[0] - together[1]).abs().max() > 0.01
    later, _ = policy.act(data, memory)
    later = later["action"]
    assert (later[0] - together[0]).abs().max() > 0.01
    split, _ = policy.act(one, memory[1:2])
    torch.testing.assert_close(later[1], split["action"][0])


def test_mean_std_actions_have_no_tanh() -> None:
    policy = Bc(replace(CONFIG, action_normalization="mean_std"), FEATURES, stats(high=50))
    with torch.no_grad():
        policy.head.action.bias.fill_(10.0)
    action, _ = policy.act(batch())
    assert action["action"].min().item() > 15  # about 10 * std + mean


@pytest.mark.parametrize(
    ("change", "high", "words"),
    [
        ({}, 2.4, "reach 2.4"),
        ({"l2_weight": 0.0}, 1.0, "all three are 0"),
        ({"hidden_dims": ()}, 1.0, "no layers"),
    ],
)
def test_configurations_that_cannot_learn_are_refused(change: dict[str, Any], high: float, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_policy(replace(CONFIG, **change), FEATURES, stats(high))


def test_all_problems_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make_policy(replace(CONFIG, l2_weight=0.0, hidden_dims=()), features_of({"action": 4}), stats(9.0))
    assert len(caught.value.problems) == 4


def test_unknown_policy_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="policy=bc"):
        make_policy(PolicyConfig("bcc"), FEATURES)


def test_info_round_trip() -> None:
    policy = make_policy(CONFIG, FEATURES)
    info = PolicySpec(CONFIG, FEATURES, policy.windows)
    import json

    assert PolicySpec.from_json(json.loads(json.dumps(info.to_json())), "here") == info
    assert info.action_dim == 4
