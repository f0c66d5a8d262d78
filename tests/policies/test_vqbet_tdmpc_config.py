"""What vqbet and tdmpc refuse, by name and with what to do; and which of their keys change nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tendon.config.compose import compose
from tendon.config.schema import PolicyConfig
from tendon.errors import ConfigError
from tendon.policies.registry import make_policy
from tests.policies.features_of import features_of

STATE, ENV = "observation.state", "observation.environment_state"
FRONT, SIDE = "observation.images.front", "observation.images.side"
NUMBERS = {STATE: 3, "action": 2}


def config_of(policy: str, *overrides: str) -> PolicyConfig:
    return compose([f"policy={policy}", "data.uri=x", *overrides]).policy


def refused(policy: str, sizes: dict[str, Any], *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught, torch.device("meta"):
        make_policy(config_of(policy, *overrides), features_of(sizes))
    assert all(problem.fix for problem in caught.value.problems)
    return [problem.what for problem in caught.value.problems]


@pytest.mark.parametrize("policy", ["vqbet", "tdmpc"])
def test_features_that_it_cannot_read_are_named(policy: str) -> None:
    cameras = {FRONT: (96, 96, 3), SIDE: (96, 96, 3)}
    assert refused(policy, NUMBERS | cameras) == [f"{policy} reads one camera, not 2"]
    assert refused(policy, NUMBERS | {f"goal.{STATE}": 3}) == [f"{policy} cannot read state"]
    assert refused(policy, NUMBERS | {"observation.scans.lidar": (1, 32)}) == [f"{policy} cannot read scans.lidar"]
    assert refused(policy, {"action": 2})[0] == f"{policy} has nothing to look at"
    parts = {STATE: 3, "action.arm": 2, "action.gripper": 1}
    assert refused(policy, parts)[0] == f"{policy} predicts one action, the dataset has 2"


def test_pictures_that_do_not_fit() -> None:
    assert refused("vqbet", NUMBERS | {FRONT: (64, 96, 3)}) == ["the crop is larger than the picture"]
    assert refused("tdmpc", NUMBERS | {FRONT: (84, 96, 3)}) == ["tdmpc cannot read the camera"]
    assert refused("tdmpc", NUMBERS | {FRONT: (32, 32, 3)}) == ["tdmpc cannot read the camera"]
    with torch.device("meta"):
        make_policy(config_of("tdmpc"), features_of(NUMBERS | {FRONT: (39, 39, 3)}))


def test_more_tokens_than_positions() -> None:
    """A camera makes a third token of each step."""
    short = "policy.gpt_block_size=17"
    with torch.device("meta"):
        make_policy(config_of("vqbet", short), features_of(NUMBERS))
    assert refused("vqbet", NUMBERS | {FRONT: (96, 96, 3)}, short) == ["vqbet has too few positions"]


@pytest.mark.parametrize(
    ("policy", "overrides", "key"),
    [
        ("vqbet", ["policy.gpt_n_head=7"], "gpt_n_head"),
        ("vqbet", ["policy.pretrained_backbone_weights=x"], "use_group_norm"),
        ("vqbet", ["policy.gpt_block_size=15"], "gpt_block_size"),
        ("tdmpc", ["policy.n_action_steps=2"], "n_action_repeats"),
        ("tdmpc_pusht_keypoints", ["policy.use_mpc=false"], "n_action_steps"),
        ("tdmpc_pusht_keypoints", ["policy.horizon=4"], "n_action_steps"),
        ("tdmpc", ["policy.n_gaussian_samples=10", "policy.n_pi_samples=20"], "n_elites"),
    ],
)
def test_values_that_do_not_go_together(policy: str, overrides: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=f"policy.{key}"):
        config_of(policy, *overrides)


def test_keys_of_a_planner_that_is_not_there_are_refused_and_change_nothing() -> None:
    with pytest.raises(ConfigError, match=r"policy\.cem_iterations"):
        config_of("tdmpc", "policy.use_mpc=false", "policy.cem_iterations=3")
    config = config_of("tdmpc", "policy.use_mpc=false", "policy.mlp_dim=8", "policy.latent_dim=4")
    shown = {STATE: torch.ones(2, 1, 3)}
    acted = []
    other = {"min_std": 0.5, "max_std": 1.0, "n_elites": 2, "cem_iterations": 1, "n_pi_samples": 3}
    assert set(other) <= set(config.without_effect())
    for one in (config, replace(config, **other)):
        torch.manual_seed(0)
        acted.append(make_policy(one, features_of(NUMBERS)).act(shown)[0]["action"])
    assert torch.equal(acted[0], acted[1])
    assert acted[0].shape == (2, 2, 2)


def test_vqbet_reads_key_points_alone() -> None:
    with torch.device("meta"):
        policy = make_policy(config_of("vqbet"), features_of({ENV: 16, STATE: 2, "action": 2}))
    assert policy.embed_state.in_features == 18
    assert policy.camera is None
    assert policy.num_draws == 2 * 11  # codes alone: there is nothing to crop
    assert policy.windows.acting[ENV].deltas == (-4, -3, -2, -1, 0)
    assert policy.windows.training["action"].deltas == tuple(range(-4, 11))


def test_tdmpc_reads_rewards_in_training_alone() -> None:
    windows = config_of("tdmpc").windows(features_of(NUMBERS))
    assert windows.training["next.reward"].deltas == (0, 1, 2, 3, 4)
    assert windows.training[STATE].deltas == (0, 1, 2, 3, 4, 5)
    assert set(windows.acting) == {STATE}
    assert (windows.chunk, windows.execute) == (2, 2)
    several = config_of("tdmpc_pusht_keypoints").windows(features_of(NUMBERS))
    assert (several.chunk, several.execute) == (5, 5)
