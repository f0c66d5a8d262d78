"""Sizes, windows, chance and mistakes of ACT and Diffusion Policy: what no golden file of LeRobot holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tendon.config.compose import compose
from tendon.errors import ConfigError
from tendon.policies.act.model import Ensemble, averaged
from tendon.policies.base import AUGMENT_NOISE
from tendon.policies.processing.processing import load_processing
from tendon.policies.registry import make_policy
from tests.policies.features_of import features_of
from tests.weights.formats.test_lerobot import ENVIRONMENT, NUMBERS, SEEING, STATE, TOP, policy_of

FULL = {  # parameters, tensors: LeRobot 0.4.4's, of its own defaults
    "act": ({STATE: 14, TOP: (480, 640, 3), "action": 14}, 51_613_582, 234),
    "diffusion": ({STATE: 2, TOP: (96, 96, 3), "action": 2}, 262_709_026, 213),
    "diffusion_pusht_keypoints": ({STATE: 2, ENVIRONMENT: 16, "action": 2}, 63_497_090, 148),
}


@pytest.mark.parametrize("name", list(FULL))
def test_full_sizes_are_lerobots(name: str) -> None:
    sizes, num_parameters, num_tensors = FULL[name]
    with torch.device("meta"):
        policy = make_policy(compose([f"policy={name}", "data.uri=x"]).policy, features_of(sizes))
    assert sum(parameter.numel() for parameter in policy.parameters()) == num_parameters
    assert len([one for one in policy.state_dict() if not one.startswith("processing.")]) == num_tensors


def test_presets_are_the_pages() -> None:
    act, diffusion, points, pusht = (
        compose([f"policy={name}", "data.uri=x"])
        for name in ("act", "diffusion", "diffusion_pusht_keypoints", "act_pusht")
    )
    t = act.training
    assert (t.offline_steps, t.batch_size, t.lr, t.optimizer, t.weight_decay) == (100_000, 8, 1e-5, "adamw", 1e-4)
    assert (t.grad_clip_norm, t.lr_scheduler, t.save_freq, act.seed) == (10.0, "constant", 20_000, 1000)
    t = diffusion.training
    assert (t.offline_steps, t.batch_size, t.lr, t.adam_betas, t.weight_decay) == (
        200_000,
        64,
        1e-4,
        (0.95, 0.999),
        1e-6,
    )
    assert (t.lr_scheduler, t.lr_warmup_steps, t.lr_end_factor, diffusion.seed) == ("cosine", 500, 0.0, 100_000)
    assert vars(points.policy)["down_dims"] == (256, 512, 1024)
    assert (vars(points.policy)["noise_scheduler_type"], vars(points.policy)["num_inference_steps"]) == ("DDIM", 10)
    assert (pusht.policy.name, pusht.training.offline_steps) == ("act", 80_000)


def test_windows_are_lerobots() -> None:
    act, _ = policy_of("act", NUMBERS)
    assert act.windows.training["action"].deltas == (0, 1, 2, 3)
    assert (act.windows.acting[STATE].deltas, act.windows.chunk, act.windows.execute) == ((0,), 4, 2)
    full = compose(["policy=diffusion", "data.uri=x"]).policy.windows(features_of(NUMBERS))
    assert full.training["action"].deltas == tuple(range(-1, 15))
    assert (full.acting[STATE].deltas, full.execute, full.drop_last) == ((-1, 0), 8, 7)


def batch_of(policy: Any, size: int = 6) -> dict[str, torch.Tensor]:
    generator, batch = torch.Generator().manual_seed(2), {}
    for key, span in policy.windows.training.items():
        shape = policy.features[key].shape
        lead = (size, len(span.deltas))
        batch[key] = torch.randn(*lead, *shape, generator=generator)
        if len(shape) == 3:
            batch[key] = torch.randint(0, 256, (*lead, *shape), generator=generator, dtype=torch.uint8)
    batch["action_is_pad"] = torch.zeros(size, len(policy.windows.training["action"].deltas), dtype=torch.bool)
    return batch


@pytest.mark.parametrize(
    ("name", "sizes"), [("act", NUMBERS), pytest.param("act", SEEING, marks=pytest.mark.long), ("diffusion", SEEING)]
)
def test_it_learns_a_batch_and_all_of_it_learns(name: str, sizes: Any) -> None:
    policy, _ = policy_of(name, sizes, *(["policy.crop_shape=[36,36]"] if name == "diffusion" else []))
    policy.train()
    optimizer, losses = torch.optim.Adam(policy.parameters(), 3e-3), []
    data = batch_of(policy, 6 if sizes is NUMBERS else 2)
    for step in range(30):
        torch.manual_seed(step % 3)
        optimizer.zero_grad()
        output = policy.loss(data)
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert sum(losses[-3:]) < sum(losses[:3])
    assert [one for one, parameter in policy.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("act", ()),
        ("act", ("policy.temporal_ensemble_coeff=0.1", "policy.n_action_steps=1")),
        ("diffusion", ("policy.crop_shape=[]",)),
        ("diffusion", ("policy.crop_shape=[]", "policy.noise_scheduler_type=DDIM")),
    ],
)
def test_an_episodes_actions_do_not_depend_on_its_neighbours(name: str, more: tuple[str, ...]) -> None:
    policy, _ = policy_of(name, NUMBERS, *more)
    together, alone = policy.start(7, 8, 9), policy.start(8)
    for _ in range(4):
        seen = {k: torch.randn(3, len(s.deltas), *policy.features[k].shape) for k, s in policy.windows.acting.items()}
        many, together = policy.act(seen, together)
        one, alone = policy.act({key: value[1:2] for key, value in seen.items()}, alone)
        torch.testing.assert_close(many["action"][1], one["action"][0], rtol=1e-5, atol=1e-5)


def test_an_ensemble_is_the_weighted_mean_of_all_predictions() -> None:
    generator, coefficient, size = torch.Generator().manual_seed(0), 0.3, 5
    chunks = torch.randn(9, 2, size, 3, generator=generator)
    memory = Ensemble(torch.zeros(2, size - 1, 3), torch.zeros(2, size - 1, dtype=torch.int64))
    for now, chunk in enumerate(chunks):
        means, memory = averaged(chunk, memory, coefficient)
        predictions = [chunks[then][:, now - then] for then in range(max(0, now - size + 1), now + 1)]
        weights = torch.exp(-coefficient * torch.arange(len(predictions)))
        expected = sum(w * one for w, one in zip(weights, predictions, strict=True)) / weights.sum()
        torch.testing.assert_close(means[:, 0], expected)


def test_crops_are_drawn_for_each_window_and_only_in_training() -> None:
    policy, _ = policy_of("diffusion", SEEING, "policy.crop_shape=[36,36]")
    assert policy.num_draws == 2
    batch = batch_of(policy)
    middle = policy.processing(batch)[TOP]
    drawn = policy.processing(batch | {AUGMENT_NOISE: torch.rand(6, 2)})[TOP]
    assert middle.shape == drawn.shape == (6, 2, 3, 36, 36)
    assert not torch.equal(middle, drawn)
    still, _ = policy_of("diffusion", SEEING, "policy.crop_shape=[36,36]", "policy.crop_is_random=false")
    assert still.num_draws == 0
    assert torch.equal(still.processing(batch)[TOP], middle)


def test_the_processing_is_saved_and_read_again(tmp_path: Any) -> None:
    policy, _ = policy_of(
        "diffusion", SEEING, "policy.crop_shape=[]", "policy.resize_shape=[40,40]", "policy.crop_ratio=0.9"
    )
    policy.processing.save(tmp_path)
    batch = batch_of(policy)
    again = load_processing(tmp_path)(batch, "acting")
    assert all(torch.equal(value, again[key]) for key, value in policy.processing(batch, "acting").items())


def test_steps_beyond_the_episode_count_as_lerobot_counts_them() -> None:
    old, _ = policy_of("act", NUMBERS, "policy.use_vae=false", "policy.dropout=0")
    new, _ = policy_of("act", NUMBERS, "policy.use_vae=false", "policy.dropout=0", "policy.mean_over_valid=true")
    batch = batch_of(old)
    batch["action_is_pad"][:, 2:] = True
    torch.testing.assert_close(new.loss(batch).loss, 2 * old.loss(batch).loss)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("policy=act", "policy.temporal_ensemble_coeff=0.01"), "policy.n_action_steps is 100"),
        (("policy=act", "policy.chunk_size=10"), "policy.n_action_steps is 100, policy.chunk_size 10"),
        (("policy=act", "policy.n_heads=7"), "policy.n_heads is 7"),
        (("policy=act", "policy.use_vae=false", "policy.kl_weight=1"), "policy.kl_weight has no effect"),
        (("policy=diffusion", "policy.horizon=12"), "policy.horizon is 12 with 3"),
        (("policy=diffusion", "policy.n_action_steps=16"), "policy.n_action_steps is 16"),
        (("policy=diffusion", "policy.resize_shape=[90,90]"), "policy.crop_shape is"),
        (("policy=diffusion", "policy.crop_ratio=0.9"), "policy.crop_ratio is 0.9"),
        (("policy=diffusion", "policy.beta_end=0.1"), "policy.beta_end has no effect"),
        (("policy=diffusion", "policy.num_inference_steps=200"), "policy.num_inference_steps is 200"),
        (("policy=diffusion", "policy.pretrained_backbone_weights=x"), "policy.use_group_norm is on"),
    ],
)
def test_what_does_not_go_together_is_refused_at_plan(overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([*overrides, "data.uri=x"])
    assert any(words in problem.what for problem in caught.value.problems), str(caught.value)


@pytest.mark.parametrize("name", ["act", "diffusion"])
def test_what_it_cannot_read_or_give_is_named(name: str) -> None:
    config = compose([f"policy={name}", "data.uri=x"]).policy
    several = features_of({STATE: 3, "action.arm": 2, "action.hand": 1})
    with pytest.raises(ConfigError, match="predicts one action, the dataset has 2"):
        make_policy(config, several)
    with pytest.raises(ConfigError, match="has nothing to look at"):
        make_policy(config, features_of({"action": 2}))


def test_cameras_of_several_sizes_share_no_encoder() -> None:
    sizes = {STATE: 3, TOP: (96, 96, 3), "observation.images.wrist": (100, 120, 3), "action": 2}
    with pytest.raises(ConfigError, match="cameras of several sizes"):
        policy_of("diffusion", sizes, "policy.crop_shape=[]")
    policy_of("diffusion", sizes, "policy.crop_shape=[84,84]")
