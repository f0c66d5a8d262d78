"""ROCKET-1: its size, its memory, its prompts, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tendon.config.compose import compose
from tendon.data.features import Feature
from tendon.errors import ConfigError
from tendon.policies.base import AUGMENT_NOISE
from tendon.policies.registry import make_policy
from tendon.policies.rocket1.classes import draw
from tendon.policies.rocket1.config import Rocket1Config
from tendon.policies.rocket1.features import AIM, BUTTONS, CAMERA, INTERACTION, TARGET, features_of_world
from tendon.policies.rocket1.model import CLONING, Rocket1
from tendon.policies.rocket1.network import RocketNetwork, resized_masks, resized_pictures
from tests.golden.minestudio import seeded
from tests.policies.rocket1.golden import batch_of, make

PRESETS = ("rocket1-seed", "rocket1-minestudio", "rocket1-paper", "rocket1-tiny")
SMALL = {"backbone": "tiny", "image_size": (32, 32), "hiddim": 16, "num_heads": 2, "num_layers": 2}


def small(**changes: object) -> Rocket1:
    """A policy that fits into a test, with seeded weights."""
    return make(**{"size": (32, 32), **{key: value for key, value in SMALL.items() if key != "image_size"}, **changes})


def fresh(**changes: object) -> Rocket1:
    """The same with fresh weights: its distributions are as wide as MineStudio's, so that rounding stays small."""
    torch.manual_seed(0)
    return Rocket1(Rocket1Config("rocket1", **{**SMALL, **changes}), features_of_world((32, 32)), None).eval()


def window(name: str, steps: int = 8, rows: int = 2, size: tuple[int, int] = (32, 32)) -> dict[str, np.ndarray]:
    return seeded.window(name, rows, steps, size)


def test_the_seeds_network_has_its_number_of_parameters() -> None:
    for preset, number in (
        ("rocket1-seed", 106_651_930),
        ("rocket1-paper", 106_651_930),
        ("rocket1-minestudio", 189_508_734),
    ):
        config = compose([f"policy={preset}", "data.uri=x"])
        with torch.device("meta"):
            network = RocketNetwork(config.policy)
        assert sum(parameter.numel() for parameter in network.parameters()) == number


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset: str) -> None:
    config = compose([f"policy={preset}", "data.uri=x"])
    policy, training, ema = config.policy, config.training, config.ema
    assert policy.windows(features_of_world()).stateful
    if preset == "rocket1-tiny":
        return
    assert (policy.hiddim, policy.num_heads, policy.num_layers, policy.timesteps, policy.mem_len) == (
        1024,
        8,
        4,
        128,
        128,
    )
    assert (training.lr, training.weight_decay, training.lr_warmup_steps) == (4e-5, 1e-3, 2000)
    assert (training.batch_size, training.precision, training.grad_clip_norm) == (64, "bf16", 1.0)
    assert (ema.enable, ema.decay, ema.every_n_steps, ema.validate_original_weights) == (True, 0.999, 8, True)
    assert policy.prompt_dropout == (0.75 if preset == "rocket1-paper" else 0)
    assert policy.mask_channel_init == ("zeros" if preset == "rocket1-paper" else "timm")


def test_a_chunk_equals_single_steps() -> None:
    policy = fresh(timesteps=8, mem_len=8)
    windows = [window(f"chunk {i}") for i in range(3)]
    memory, chunks = None, []
    with torch.no_grad():
        for arrays in windows:
            log_probs, memory = _forward(policy, arrays, memory)
            chunks.append(log_probs)
        single, steps = None, []
        for arrays in windows:
            for t in range(8):
                one = {key: values[:, t : t + 1] for key, values in arrays.items()}
                log_probs, single = _forward(policy, one, single)
                steps.append(log_probs)
    for head in ("buttons", "camera"):
        together = torch.cat([one[head] for one in chunks], 1)
        alone = torch.cat([one[head] for one in steps], 1)
        assert (together - alone).abs().max() <= 3e-6
    assert (memory["keys"] - single["keys"]).abs().max() <= 3e-6
    assert torch.equal(memory["valid"], single["valid"])


def _forward(policy: Rocket1, arrays: dict, memory: dict | None, first: torch.Tensor | None = None) -> tuple:
    batch = batch_of(arrays)
    shape = batch[CAMERA].shape[:2]
    first = torch.zeros(shape, dtype=torch.bool) if first is None else first
    memory = policy.net.recurrent.empty(shape[0], torch.device("cpu")) if memory is None else memory
    return policy.net(batch[CAMERA], batch[TARGET], batch[INTERACTION].squeeze(-1), first, memory)


def test_no_step_sees_a_later_one() -> None:
    """In a window, where the network sees all steps at once, and when acting, where it is shown the newest alone."""
    policy = small(timesteps=8, mem_len=8)
    assert {span.deltas for span in policy.windows.acting.values()} == {(0,)}
    arrays, other = window("now"), window("other")
    with torch.no_grad():
        _, memory = _forward(policy, window("before"), None)
        expected, _ = _forward(policy, arrays, memory)
        for t in range(7):
            changed = {key: np.concatenate([arrays[key][:, : t + 1], other[key][:, t + 1 :]], 1) for key in arrays}
            seen, _ = _forward(policy, changed, memory)
            for head in expected:
                assert torch.equal(seen[head][:, : t + 1], expected[head][:, : t + 1]), f"step {t} sees a later one"
                assert not torch.equal(seen[head][:, t + 1 :], expected[head][:, t + 1 :]), "nothing is looked at"


def test_first_equals_a_fresh_memory_exactly() -> None:
    policy = small(timesteps=8, mem_len=8)
    with torch.no_grad():
        _, memory = _forward(policy, window("before"), None)
        first = torch.zeros(2, 8, dtype=torch.bool)
        first[:, 0] = True
        told, after_told = _forward(policy, window("now"), memory, first)
        fresh, after_fresh = _forward(policy, window("now"), None)
        goes_on, _ = _forward(policy, window("now"), memory)
    for head in told:
        assert torch.equal(told[head], fresh[head])
        assert not torch.equal(goes_on[head], fresh[head])
    assert torch.equal(after_told["valid"], after_fresh["valid"])


def test_an_episode_that_begins_inside_a_window_sees_nothing_of_before() -> None:
    policy = fresh(timesteps=8, mem_len=8)
    arrays = window("inside")
    first = torch.zeros(2, 8, dtype=torch.bool)
    first[:, 3] = True
    with torch.no_grad():
        _, memory = _forward(policy, window("before"), None)
        whole, after = _forward(policy, arrays, memory, first)
        tail = {key: values[:, 3:] for key, values in arrays.items()}
        alone, after_alone = _forward(policy, tail, None)
    for head in whole:
        assert (whole[head][:, 3:] - alone[head]).abs().max() <= 3e-6
    assert after["valid"].tolist() == after_alone["valid"].tolist() == [[False] * 3 + [True] * 5] * 2


def placed(arrays: dict, episodes: list[int], frames: list[int]) -> dict[str, torch.Tensor]:
    first = np.array(frames) == 0
    return batch_of(arrays, first, episode_index=np.array(episodes), frame_index=np.array(frames))


def test_memory_goes_on_by_the_episodes_identity() -> None:
    """A row whose next window is of another episode, or of another place in it, begins anew though no flag says so."""
    policy = small(timesteps=8, mem_len=8)
    with torch.no_grad():
        before = policy.loss(placed(window("one"), [4, 5], [0, 0])).memory
        assert before["frame_index"].tolist() == [8, 8]
        same = policy.loss(placed(window("two"), [4, 5], [8, 8]), before)
        other = policy.loss(placed(window("two"), [6, 5], [8, 8]), before)
        moved = policy.loss(placed(window("two"), [4, 5], [8, 16]), before)
        none = policy.loss(placed(window("two"), [4, 5], [8, 8]))
    keys = {
        name: each.memory["keys"] for name, each in (("same", same), ("other", other), ("moved", moved), ("none", none))
    }
    top = {
        name: each[:, 1] for name, each in keys.items()
    }  # of the second block: it has seen the first one's attention
    assert torch.equal(top["other"][1], top["same"][1])
    assert torch.equal(top["moved"][0], top["same"][0])
    assert torch.equal(top["other"][0], top["none"][0])
    assert torch.equal(top["moved"][1], top["none"][1])
    assert not torch.equal(top["same"], top["none"])


def test_a_first_flag_of_the_loader_begins_anew() -> None:
    policy = small(timesteps=8, mem_len=8)
    with torch.no_grad():
        before = policy.loss(placed(window("one"), [4, 5], [0, 0])).memory
        before |= {"frame_index": torch.tensor([0, 0])}  # as if the numbers fitted
        again = policy.loss(placed(window("two"), [4, 5], [0, 0]), before)
        fresh = policy.loss(placed(window("two"), [4, 5], [0, 0]))
    assert torch.equal(again.loss, fresh.loss)


def test_what_is_behind_the_end_costs_nothing_and_prompts_nothing() -> None:
    policy = small(timesteps=8, mem_len=8, loss_reduction="mean_valid")
    arrays = seeded.window("tail", 2, 8, (32, 32), tail=3)
    batch = batch_of(arrays)
    with torch.no_grad():
        before = policy.loss(batch)
        changed = dict(batch)
        for key in (CAMERA, TARGET, INTERACTION, BUTTONS, AIM):
            changed[key] = batch[key].clone()
            changed[key][-1, -3:] = 1
        after = policy.loss(changed)
    assert torch.equal(before.loss, after.loss)
    assert before.objectives[CLONING] is before.loss
    for name in ("button_nll", "camera_nll", "flips_per_s_data", "camera_jerk_data"):
        assert torch.equal(before.metrics[name], after.metrics[name]), name


def test_dropped_prompts_hide_mask_and_interaction() -> None:
    policy = small(timesteps=8, mem_len=8, prompt_dropout=0.5)
    assert policy.num_draws == 8
    batch = batch_of(window("prompt"))
    draws = torch.tensor([[0.1, 0.9] * 4, [0.49, 0.5] * 4])
    mask, interaction = policy._prompt(batch | {AUGMENT_NOISE: draws}, torch.ones(2, 8, dtype=torch.bool))
    assert (interaction[:, ::2] == -1).all()
    assert not mask[:, ::2].any()
    assert torch.equal(interaction[:, 1::2], batch[INTERACTION].squeeze(-1)[:, 1::2])
    assert torch.equal(mask[:, 1::2], batch[TARGET][:, 1::2])
    with torch.no_grad():
        hidden = policy.loss(batch | {AUGMENT_NOISE: torch.zeros(2, 8)}).loss
        shown = policy.loss(batch).loss
    assert hidden != shown


def test_acting_is_a_function_of_the_episodes_seed() -> None:
    policy = small(timesteps=8, mem_len=8)
    batch = batch_of(window("act", rows=3))
    actions = {}
    for seeds in ((1, 2, 3), (1, 7, 3), (2, 1, 3)):
        memory, taken = policy.start(*seeds), []
        for t in range(4):
            now = {
                key: batch[key][:1, t : t + 1].expand(3, *batch[key][:1, t : t + 1].shape[1:]) for key in policy.reads
            }
            given, memory = policy.act(now, memory)
            taken.append(torch.cat([given[BUTTONS], given[AIM]], -1))
        actions[seeds] = torch.cat(taken, 1)
        assert given[BUTTONS].shape == (3, 1, 20)
        assert given[AIM].shape == (3, 1, 2)
        assert set(given[BUTTONS].unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(actions[1, 2, 3][0], actions[2, 1, 3][1])
    assert torch.equal(actions[1, 2, 3][2], actions[1, 7, 3][2])
    assert not torch.equal(actions[1, 2, 3][0], actions[1, 2, 3][1])
    greedy = small(timesteps=8, mem_len=8, deterministic=True)
    assert set(greedy.start(1, 2)) == {"keys", "values", "valid"}


def test_drawing_stays_in_the_nucleus_and_follows_the_probabilities() -> None:
    probabilities = torch.tensor([0.05, 0.5, 0.3, 0.15])
    uniform = torch.linspace(0, 1 - 1e-6, 1001)
    classes = draw(probabilities.log().expand(1001, 4), uniform, 0.85)
    counts = torch.bincount(classes, minlength=4) / 1001
    assert counts[0] == 0
    torch.testing.assert_close(counts[1:], torch.tensor([0.5, 0.3, 0.15]) / 0.95, atol=2e-3, rtol=0)
    assert draw(probabilities.log()[None], torch.tensor([0.99]), 0.3).tolist() == [1]


def test_other_sizes_are_scaled_as_opencv_does() -> None:
    rng = np.random.default_rng(0)
    mask = torch.from_numpy((rng.random((2, 36, 64)) < 0.3).astype(np.uint8))
    small_mask = resized_masks(mask, (24, 20))
    rows, columns = (np.arange(24) * 36 // 24), (np.arange(20) * 64 // 20)
    assert (small_mask.numpy() == (mask.numpy()[:, rows][:, :, columns] != 0)).all()
    pictures = torch.from_numpy(rng.integers(0, 256, (2, 36, 64, 3), np.uint8))
    assert resized_pictures(pictures, (36, 64)).shape == (2, 3, 36, 64)
    half = resized_pictures(pictures, (18, 32))
    four = pictures.float().unflatten(2, (32, 2)).unflatten(1, (18, 2)).mean((2, 4)).permute(0, 3, 1, 2)
    assert (half - four).abs().max() <= 0.5


def test_the_loss_of_fresh_weights_is_that_of_a_guess() -> None:
    config = Rocket1Config("rocket1", **SMALL, timesteps=8, mem_len=8, loss_reduction="mean_valid")
    torch.manual_seed(0)
    policy = Rocket1(config, features_of_world((32, 32)), {}).eval()
    metrics = policy.loss(batch_of(window("fresh"))).metrics
    assert float(metrics["button_nll"]) == pytest.approx(np.log(8641), abs=0.5)
    assert float(metrics["camera_nll"]) == pytest.approx(np.log(121), abs=0.5)
    weight = policy.net.backbone.layers[0].weight
    assert not weight[:, 3].any()
    assert weight[:, :3].any()


def test_fresh_heads_cost_what_minestudios_cost() -> None:
    """9.231 and 4.962 nat with MineStudio's class, where a uniform guess costs 9.064 and 4.796."""
    torch.manual_seed(0)
    sizes = {"backbone": "tiny", "image_size": (32, 32), "num_layers": 1, "timesteps": 8, "mem_len": 8}
    policy = Rocket1(Rocket1Config("rocket1", **sizes), features_of_world((32, 32)), {}).eval()
    with torch.no_grad():
        log_probs, _ = _forward(policy, window("fresh"), None)
    assert float(-log_probs["buttons"].mean()) == pytest.approx(9.231, abs=0.03)
    assert float(-log_probs["camera"].mean()) == pytest.approx(4.962, abs=0.06)


def test_behaviour_of_the_data_is_counted_on_real_steps() -> None:
    from tendon.policies.rocket1 import behaviour

    buttons = torch.zeros(1, 6, 20)
    buttons[0, :, 0] = torch.tensor([0, 1, 0, 1, 1, 1.0])
    camera = torch.tensor([[[0, 0], [0, 3], [0, 3], [2, 0], [9, 9], [9, 9.0]]])
    real = torch.tensor([[True] * 4 + [False] * 2])
    numbers = behaviour.of_data(buttons, camera, real, 20.0)
    assert float(numbers["press_rates"][0]) == 0.5
    assert float(numbers["flips_per_s"]) == 20.0
    # second differences of the real steps: (0, -3) and (2, -3)
    assert float(numbers["camera_jerk"]) == pytest.approx((3 + 5) / 2)


def test_behaviour_of_a_policy_that_is_sure_is_that_of_its_classes() -> None:
    from tendon.policies.rocket1 import behaviour
    from tendon.policies.rocket1.actions import CODEC
    from tendon.policies.rocket1.classes import ActionClasses

    arrays = window("sure")
    buttons, camera = torch.from_numpy(arrays["buttons"]).float(), torch.from_numpy(arrays["camera"])
    classes = ActionClasses(CODEC)
    targets = classes.encode(buttons, camera)
    sure = {
        head: torch.nn.functional.one_hot(targets[head], number).float().clamp(min=1e-12).log()
        for head, number in (("buttons", 8641), ("camera", 121))
    }
    real = torch.ones(2, 8, dtype=torch.bool)
    ours = behaviour.of_policy(sure, classes, real, 20.0, 1.0)
    theirs = behaviour.of_data(*classes.decode(targets["buttons"], targets["camera"]), real, 20.0)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("policy.num_heads=7", "policy.num_heads"),
        ("policy.camera_binsize=3", "camera_binsize"),
        ("policy.backbone=vit_base_patch16_224.dino policy.image_size=[224,225]", "policy.image_size"),
        ("policy.deterministic=true policy.nucleus_prob=0.5", "nucleus_prob"),
        ("policy.mask_channel_init=ones", "mask_channel_init"),
    ],
)
def test_wrong_keys_are_refused(overrides: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose(["policy=rocket1-seed", "data.uri=x", *overrides.split()])


def test_data_without_a_mask_is_refused_by_name() -> None:
    features = features_of_world((32, 32))
    del features[TARGET]
    with pytest.raises(ConfigError, match="rocket1 needs one mask"):
        make_policy(Rocket1Config("rocket1", **SMALL), features)
    features = features_of_world((32, 32)) | {"action.buttons": Feature("action.buttons", "action", (3,), "float32")}
    with pytest.raises(ConfigError, match="not buttons and a camera"):
        make_policy(Rocket1Config("rocket1", **SMALL), features)
