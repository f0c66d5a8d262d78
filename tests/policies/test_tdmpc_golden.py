"""TD-MPC's numbers are LeRobot 0.4.4's: losses, updates with the target, planned actions (tests/golden/lerobot/make_tdmpc.py)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tendon.config.compose import compose
from tendon.config.schema import TrainConfig
from tendon.policies.base import AUGMENT_NOISE
from tendon.policies.registry import make_policy
from tendon.policies.tdmpc.model import Tdmpc
from tendon.policies.tdmpc.planner import PlanNoise
from tendon.train.loop.engine import Engine
from tendon.weights.formats.lerobot.table import TDMPC
from tests.golden.lerobot import seeded
from tests.policies.features_of import features_of
from tests.train.small_trial import feature_stats

GOLDEN = np.load(Path(__file__).parents[1] / "golden/lerobot/tdmpc.npz")
META = json.loads(bytes(GOLDEN["meta"]))
VARIANTS = META["variants"]
IMAGE, STATE, ENV = "observation.images.top", "observation.state", "observation.environment_state"
BATCH, EPISODES, PLANS, HORIZON = 5, 3, 3, 3
STATS = {
    STATE: feature_stats(0, 1, -1, 1, 3),
    ENV: feature_stats(0, 1, -1, 1, 4),
    "action": feature_stats(0, 1, -1, 1, 2),
}


def sizes_of(variant: str) -> dict[str, Any]:
    other = {ENV: 4} if variant == "keypoints" else {IMAGE: (40, 40, 3)}
    return other | {STATE: 3, "action": 2}


def config_of(variant: str) -> TrainConfig:
    values = {**META["small"], **VARIANTS[variant]}
    if variant == "policy":  # keys of a planner that it does not have
        for key in ("cem_iterations", "n_gaussian_samples", "n_pi_samples", "n_elites"):
            del values[key]
    overrides = [f"policy.{key}={json.dumps(value)}" for key, value in values.items()]
    observation = ",".join(key for key in sizes_of(variant) if key != "action")
    rest = [f"training.batch_size={BATCH}", f"env.observation=[{observation}]", "device=cpu", "training.num_threads=1"]
    return compose(["policy=tdmpc", "data.uri=x", *overrides, *rest])


def names_of(policy: torch.nn.Module) -> dict[str, str]:
    return {name: TDMPC.theirs(name) for name in policy.state_dict() if TDMPC.theirs(name)}


def fill(policy: Tdmpc, variant: str) -> None:
    """Load LeRobot's seeded weights by the table of names."""
    shapes, held = META["shapes"][variant], policy.state_dict()
    for ours, theirs in names_of(policy).items():
        assert list(held[ours].shape) == shapes[theirs], ours
        held[ours].copy_(torch.from_numpy(seeded.weights(theirs, tuple(held[ours].shape))))


def observation(variant: str, name: str, *axes: int) -> dict[str, torch.Tensor]:
    made = {STATE: seeded.normal(f"{name} state", *axes, 3)}
    if variant == "keypoints":
        made[ENV] = seeded.normal(f"{name} env", *axes, 4)
    else:
        made[IMAGE] = seeded.picture(f"{name} image", *axes, 40, 40, 3)
    return {key: torch.from_numpy(value) for key, value in made.items()}


def batch_of(variant: str, name: str, num_draws: int) -> dict[str, torch.Tensor]:
    made = observation(variant, name, BATCH, HORIZON + 1)
    made["action"] = torch.from_numpy(seeded.uniform(f"{name} action", BATCH, HORIZON, 2) * 2 - 1)
    made["next.reward"] = torch.from_numpy(seeded.normal(f"{name} reward", BATCH, HORIZON)).unsqueeze(-1)
    for key in list(made):
        pad = torch.zeros(made[key].shape[:2], dtype=torch.bool)
        pad[-1, 1:], pad[-2, 2:] = True, True
        made[f"{key}_is_pad"] = pad
    critics_B4 = np.broadcast_to(seeded.uniform(f"{name} critics", 4), (BATCH, 4))
    shifts = seeded.uniform(f"{name} shifts", BATCH, HORIZON + 1, 2).reshape(BATCH, -1)
    made[AUGMENT_NOISE] = torch.from_numpy(np.concatenate([critics_B4, shifts], 1)[:, :num_draws].copy())
    return made


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_map_one_to_one_and_nothing_is_left_over(variant: str) -> None:
    features = features_of(sizes_of(variant))
    policy = make_policy(config_of(variant).policy, features)
    table = names_of(policy)
    assert len(set(table.values())) == len(table)
    assert set(table.values()) == set(META["shapes"][variant])
    assert set(table) == {name for name in policy.state_dict() if not name.startswith("processing.")}


@pytest.mark.parametrize("variant", VARIANTS)
def test_updates_are_lerobots(variant: str) -> None:
    """Losses, their terms, gradient norms; the target has moved as theirs."""
    engine = Engine(config_of(variant), STATS, found=features_of(sizes_of(variant)))
    policy = engine.policy
    assert isinstance(policy, Tdmpc)
    fill(policy, variant)
    expected = {
        key.removeprefix(f"{variant}/training/"): GOLDEN[key] for key in GOLDEN if key.startswith(f"{variant}/training")
    }
    del expected["sum_loss"]
    for step in range(len(expected["loss"])):
        batch = batch_of(variant, f"{variant} {step}", policy.num_draws)
        numbers = engine.update(batch, step, measure=True).numbers()
        for name, values in expected.items():
            assert numbers[name] == pytest.approx(values[step], rel=1e-5 if step == 0 else 5e-5, abs=1e-6), (step, name)
    held, compared = policy.state_dict(), set()
    for ours, theirs in names_of(policy).items():
        if f"{variant}/weights/{theirs}" in GOLDEN:
            np.testing.assert_allclose(
                held[ours].numpy(), GOLDEN[f"{variant}/weights/{theirs}"], rtol=1e-4, atol=1e-5, err_msg=ours
            )
            compared.add(theirs.partition(".")[0])
    assert compared == {"model", "model_target"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_planned_actions_are_lerobots(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three plans in a row, each from the one before, all episodes in one batch; theirs were alone."""
    policy = make_policy(config_of(variant).policy, features_of(sizes_of(variant)), STATS)
    assert isinstance(policy, Tdmpc)
    fill(policy, variant)
    policy.eval()
    memory, executed = policy.start(*range(EPISODES)), []
    for number in range(PLANS):
        names = [f"{variant} episode {episode} plan {number}" for episode in range(EPISODES)]
        num_normal, num_uniform = PlanNoise.counts(policy.config, 2)
        normal_BM = torch.from_numpy(np.stack([seeded.normal(f"{name} normal", num_normal) for name in names]))
        uniform_BU = torch.from_numpy(np.stack([seeded.uniform(f"{name} uniform", num_uniform) for name in names]))
        noise = PlanNoise.of(normal_BM, uniform_BU, policy.config, 2)
        monkeypatch.setattr(policy, "_noise", lambda noise_B2, device, noise=noise: (noise, noise_B2))
        seen = [observation(variant, name, 1) for name in names]
        shown = {key: torch.stack([one[key] for one in seen]) for key in seen[0]}
        action, memory = policy.act(shown, memory)
        executed.append(action["action"][:, : policy.windows.execute])
    np.testing.assert_allclose(torch.cat(executed, 1).numpy(), GOLDEN[f"{variant}/actions"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("preset", "sizes", "num_all", "num_learning"),
    [
        ("tdmpc", {"observation.images.image": (84, 84, 3), STATE: 4, "action": 4}, 5_469_146, 2_734_573),
        ("tdmpc_pusht_keypoints", {ENV: 16, STATE: 2, "action": 2}, 5_359_510, 2_679_755),
    ],
)
def test_full_size_has_as_many_parameters_as_lerobots(
    preset: str, sizes: dict[str, Any], num_all: int, num_learning: int
) -> None:
    with torch.device("meta"):
        policy = make_policy(compose([f"policy={preset}", "data.uri=x"]).policy, features_of(sizes))
    counts = {name: parameter.numel() for name, parameter in policy.named_parameters()}
    assert sum(counts.values()) == num_all
    assert sum(count for name, count in counts.items() if not name.startswith(policy.frozen())) == num_learning


def test_a_plan_depends_on_the_episodes_seed_alone() -> None:
    policy = make_policy(config_of("keypoints").policy, features_of(sizes_of("keypoints")), STATS)
    assert isinstance(policy, Tdmpc)
    fill(policy, "keypoints")
    shown = observation("keypoints", "seeds", 3, 1)
    together, memory = policy.act(shown, policy.start(3, 4, 5))
    alone, _ = policy.act({key: value[1:2] for key, value in shown.items()}, policy.start(4))
    assert torch.allclose(together["action"][1], alone["action"][0], atol=1e-5)
    again, _ = policy.act(shown, memory)
    assert not torch.allclose(again["action"], together["action"])


def test_pictures_move_by_whole_pixels_and_their_edges_repeat() -> None:
    config = config_of("image")
    policy = make_policy(replace(config.policy, max_random_shift_ratio=0.1), features_of(sizes_of("image")), STATS)
    assert isinstance(policy, Tdmpc)
    batch = batch_of("image", "moved", 12)
    still = policy.processing(batch)[IMAGE]
    middle = torch.full((BATCH, policy.num_draws), 4.5 / 9)  # four of nine places: no move
    assert torch.equal(policy._shifted(policy.processing(batch), middle)[IMAGE], still)
    corner = torch.zeros_like(middle)
    moved = policy._shifted(policy.processing(batch), corner)[IMAGE]
    assert torch.equal(moved[..., 4:, 4:], still[..., :-4, :-4])
    assert torch.equal(moved[..., 0, 4:], still[..., 0, :-4])
