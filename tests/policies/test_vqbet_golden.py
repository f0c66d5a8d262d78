"""VQ-BeT's numbers are LeRobot 0.4.4's: losses, chunks and updates of both phases (tests/golden/lerobot/make_vqbet.py)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tendon.config.compose import compose
from tendon.config.schema import TrainConfig
from tendon.policies.base import AUGMENT_NOISE
from tendon.policies.parts import noise
from tendon.policies.processing.images import Crop
from tendon.policies.registry import make_policy
from tendon.policies.vqbet.model import Vqbet
from tendon.train.loop.engine import Engine
from tendon.weights.formats.lerobot.table import VQBET
from tests.golden.lerobot import seeded
from tests.policies.features_of import features_of
from tests.train.small_trial import feature_stats

GOLDEN = np.load(Path(__file__).parents[1] / "golden/lerobot/vqbet.npz")
META = json.loads(bytes(GOLDEN["meta"]))
VARIANTS = META["variants"]
IMAGE, STATE = "observation.images.top", "observation.state"
FEATURES = features_of({IMAGE: (44, 47, 3), STATE: 3, "action": 2})
BATCH, QUERIES = 5, 4


def config_of(variant: str) -> TrainConfig:
    """As LeRobot's, of the preset."""
    values = {**META["small"], **VARIANTS[variant]}
    warmup = values.pop("scheduler_warmup_steps")
    values["crop_shape"] = list(values["crop_shape"] or [])
    overrides = [f"policy.{key}={json.dumps(value)}".replace('"', "") for key, value in values.items()]
    kinds = [f"policy.{kind}_normalization=identity" for kind in ("image", "state", "action")]
    training = ["training.offline_steps=40", f"training.lr_warmup_steps={warmup}", f"training.batch_size={BATCH}"]
    observation = [f"env.observation=[{IMAGE},{STATE}]"]
    overrides = ["policy=vqbet", "data.uri=x", *overrides, *kinds, *training, *observation]
    if not values["crop_shape"]:
        overrides = [one for one in overrides if "crop_is_random" not in one]
    return compose(overrides)


def fill(policy: Vqbet, variant: str) -> None:
    """Load LeRobot's seeded weights by the table of names, strictly."""
    shapes = META["shapes"][variant]
    held = policy.state_dict()
    for ours, other in names_of(policy).items():
        assert list(held[ours].shape) == shapes[other], ours
        if not other.endswith((*seeded.UNTOUCHED, "num_batches_tracked")):
            held[ours].copy_(torch.from_numpy(seeded.weights(other, tuple(held[ours].shape))))


def names_of(policy: torch.nn.Module) -> dict[str, str]:
    return {name: VQBET.theirs(name) for name in policy.state_dict() if VQBET.theirs(name)}


def make(variant: str) -> Vqbet:
    policy = make_policy(config_of(variant).policy, FEATURES)
    assert isinstance(policy, Vqbet)
    fill(policy, variant)
    return policy


def batch_of(name: str) -> dict[str, torch.Tensor]:
    draws_BN = np.concatenate(
        [
            np.broadcast_to(seeded.uniform(f"{name} place", 2), (BATCH, 2)),
            seeded.uniform(f"{name} codes", BATCH * QUERIES, 2).reshape(BATCH, -1),
        ],
        1,
    )
    arrays = {
        IMAGE: seeded.picture(f"{name} image", BATCH, 3, 44, 47, 3),
        STATE: seeded.normal(f"{name} state", BATCH, 3, 3),
        "action": seeded.normal(f"{name} action", BATCH, QUERIES + 3, 2),
        AUGMENT_NOISE: draws_BN,
    }
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_map_one_to_one_and_nothing_is_left_over(variant: str) -> None:
    policy = make_policy(config_of(variant).policy, FEATURES)
    table, constants = names_of(policy), VQBET.constants(policy.config)
    shapes = META["shapes"][variant]
    assert len(set(table.values())) == len(table)
    assert set(table.values()).isdisjoint(constants)
    assert {*table.values(), *constants} == set(shapes)
    assert {key: list(value.shape) for key, value in constants.items()} == {key: shapes[key] for key in constants}
    assert set(table) == {name for name in policy.state_dict() if not name.startswith("processing.")}


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_and_chunks_are_lerobots(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make(variant).eval()
    policy.rvq.discretized.fill_(True)
    batch = batch_of(variant)
    with torch.no_grad():
        crop = policy.processing.transforms[0]
        if isinstance(crop, Crop):  # LeRobot in evaluation mode
            object.__setattr__(crop, "random", False)
        output = policy.loss(batch)
    expected = {key.removeprefix(f"{variant}/"): GOLDEN[key] for key in GOLDEN if key.startswith(f"{variant}/")}
    assert float(output.loss) == pytest.approx(float(expected.pop("loss")), rel=1e-5)
    chunk_BWA = expected.pop("chunk")
    for name, value in expected.items():
        assert float(output.metrics[name]) == pytest.approx(float(value), rel=1e-5, abs=1e-6), name
    newest_BG = batch[AUGMENT_NOISE][:, 2:].view(BATCH, QUERIES, 2)[:, 2]
    monkeypatch.setattr("tendon.policies.vqbet.model.draw_uniform", lambda memory, count: (newest_BG, memory))
    action, _ = policy.act({key: batch[key] for key in (IMAGE, STATE)}, policy.start(*range(BATCH)))
    np.testing.assert_allclose(action["action"].numpy(), chunk_BWA, rtol=1e-5, atol=1e-5)


def test_updates_of_both_phases_are_lerobots() -> None:
    """Losses, gradient norms and rates of seven updates with the border behind the third; and the weights at the end."""
    config = config_of("plain")
    config = replace(config, device="cpu", training=replace(config.training, num_threads=1))
    stats = {STATE: feature_stats(0, 1, -1, 1, 3), "action": feature_stats(0, 1, -1, 1, 2)}
    engine = Engine(config, stats, found=FEATURES)
    assert isinstance(engine.policy, Vqbet)
    fill(engine.policy, "plain")
    for step in range(len(GOLDEN["training/loss"])):
        engine.policy.train()
        vqvae_lr = config.policy.optimizer_vqvae_lr / config.training.lr * engine._rate(step)
        rates = engine._rate(step), vqvae_lr
        update = engine.update(batch_of(f"step {step}"), step, measure=True)
        numbers = update.numbers()
        assert numbers["loss"] == pytest.approx(GOLDEN["training/loss"][step], rel=2e-5), step
        assert numbers["grad_norm"] == pytest.approx(GOLDEN["training/grad_norm"][step], rel=1e-4), step
        assert rates == pytest.approx((GOLDEN["training/lr"][step], GOLDEN["training/vqvae_lr"][step])), step
        assert bool(engine.policy.rvq.discretized) == (step >= 2)
        if step < 3:
            for name in ("n_different_codes", "n_different_combinations", "recon_l1_error"):
                assert numbers[name] == pytest.approx(GOLDEN[f"training/{name}"][step], rel=1e-5), (step, name)
    held = engine.policy.state_dict()
    compared = 0
    for ours, theirs in names_of(engine.policy).items():
        if f"weights/{theirs}" in GOLDEN:
            np.testing.assert_allclose(held[ours].numpy(), GOLDEN[f"weights/{theirs}"], rtol=1e-4, atol=1e-5)
            compared += 1
    assert compared > 25


def test_full_size_has_as_many_parameters_as_lerobots() -> None:
    sizes = {"observation.images.image": (96, 96, 3), "observation.state": 2, "action": 2}
    with torch.device("meta"):
        policy = make_policy(compose(["policy=vqbet", "data.uri=x"]).policy, features_of(sizes))
    assert sum(parameter.numel() for parameter in policy.parameters()) == 37_515_530


def test_what_is_drawn_depends_on_the_episodes_seed_alone() -> None:
    policy = make("plain").eval()
    shown = {key: value for key, value in batch_of("plain").items() if key in (IMAGE, STATE)}
    together, memory = policy.act(shown, policy.start(3, 4, 5, 6, 7))
    alone, _ = policy.act({key: value[2:3] for key, value in shown.items()}, policy.start(5))
    assert torch.allclose(together["action"][2], alone["action"][0], atol=1e-6)
    assert torch.equal(memory, noise.start_noise(3, 4, 5, 6, 7) + torch.tensor([0, 1]))
