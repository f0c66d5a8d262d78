"""The vision-language-action policies: what learns, what changes no number, caches, sizes, prompts."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from tendon.config.compose import compose
from tendon.errors import ConfigError
from tendon.policies.registry import make_policy
from tests.policies.vla_cases import (
    FEATURES,
    FRONT,
    NAMES,
    STATE,
    STATS,
    TEXTS,
    batch_of,
    config_of,
    policy_of,
    seen_of,
)

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'tendon-robotics[vla]'")

MILLION = 1e6


def losses(policy: Any, batch: dict[str, torch.Tensor], count: int, rate: float = 1e-2) -> list[float]:
    optimizer = torch.optim.AdamW([one for one in policy.parameters() if one.requires_grad], rate)
    made = []
    for step in range(count):
        torch.manual_seed(step % 2)
        loss = policy.loss(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        made.append(float(loss.detach()))
    return made


@pytest.mark.parametrize(
    "name", ["pi0", *(pytest.param(name, marks=pytest.mark.long) for name in NAMES if name != "pi0")]
)
def test_a_tiny_one_learns_a_batch_and_acts(name: str) -> None:
    policy = policy_of(name, "policy.dropout=0.0" if "gr00t" in name else "policy.tune_llm=true")
    made = losses(policy, batch_of(policy, size=4), *((36, 3e-3) if "gr00t" in name else (20, 1e-2)))
    assert sum(made[-4:]) < (0.92 if "gr00t" in name else 0.8) * sum(made[:4]), made
    assert not [name for name, one in policy.named_parameters() if one.requires_grad and one.grad is None]
    policy.eval()
    actions, _ = policy.act(seen_of(policy, size=2), policy.start(7, 8))
    assert {key: tuple(value.shape) for key, value in actions.items()} == {
        "action.arm": (2, policy.config.chunk_size, 4),
        "action.gripper": (2, policy.config.chunk_size, 1),
    }
    alone, _ = policy.act({key: value[1:] for key, value in seen_of(policy, size=2).items()}, policy.start(8))
    torch.testing.assert_close(alone["action.arm"], actions["action.arm"][1:], rtol=1e-4, atol=1e-5)


def test_pi05_reads_the_state_as_text_and_learns() -> None:
    policy = policy_of("pi0", "policy.pi05=true", "policy.tokenizer_max_length=128")
    assert not hasattr(policy.net, "state_proj")
    made = losses(policy, batch_of(policy, size=4), 20)
    assert sum(made[-4:]) < 0.8 * sum(made[:4]), made
    policy.eval()
    seen = seen_of(policy, size=2)
    first, _ = policy.act(seen, policy.start(7, 8))
    other, _ = policy.act(seen | {STATE: -seen[STATE]}, policy.start(7, 8))
    assert not torch.equal(first["action.arm"], other["action.arm"])


@pytest.mark.parametrize("name", ["pi0", "gr00t_n1_5"])
def test_the_instruction_changes_the_actions_and_the_episodes_seed_too(name: str) -> None:
    policy = policy_of(name).eval()
    seen = seen_of(policy, size=1)
    base, _ = policy.act(seen, policy.start(1))
    again, _ = policy.act(seen, policy.start(1))
    other_text, _ = policy.act(seen | {"task": 1 - seen["task"]}, policy.start(1))
    other_seed, _ = policy.act(seen, policy.start(2))
    assert torch.equal(base["action.arm"], again["action.arm"])
    assert not torch.equal(base["action.arm"], other_text["action.arm"])
    assert not torch.equal(base["action.arm"], other_seed["action.arm"])


@torch.no_grad()
def test_what_fills_up_changes_no_loss() -> None:
    """Wider states and actions, longer prompts, padded steps."""
    made = []
    for more in ((), ("policy.tokenizer_max_length=90",)):
        policy = policy_of("pi0", *more).eval()
        batch = batch_of(policy)
        batch["action.arm_is_pad"][1, 3:] = True
        batch["action.arm"][1, 3:] = 5.0 if more else -5.0
        torch.manual_seed(1)
        made.append(policy.loss(batch).loss)
    assert made[0] != made[1]  # padded actions are seen beside the others, only their error is left out
    batch["action.arm"][1, 3:] = -5.0
    torch.manual_seed(1)
    torch.testing.assert_close(policy.loss(batch).loss, made[0], rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", ["gr00t_n1", "gr00t_n1_5"])
def test_the_prompts_padding_is_not_looked_at_unless_asked_for(name: str) -> None:
    def actions(length: int, *more: str) -> torch.Tensor:
        policy = policy_of(name, f"policy.tokenizer_max_length={length}", *more).eval()
        return policy.act(seen_of(policy, size=2), policy.start(1, 2))[0]["action.arm"]

    torch.testing.assert_close(actions(256), actions(280), rtol=1e-4, atol=1e-5)
    as_published = "policy.mask_text_padding=false"
    assert (actions(256, as_published) - actions(280, as_published)).abs().max() > 1e-4


@torch.no_grad()
def test_velocity_with_the_kept_prefix_is_that_of_one_pass() -> None:
    for more in ((), ("policy.pi05=true", "policy.tokenizer_max_length=128")):
        policy = policy_of("pi0", *more).eval()
        batch = policy.processing(batch_of(policy))
        seen, actions = policy.seen(batch), batch["joined.action"]
        noise, time = torch.randn_like(actions), torch.rand(len(actions))
        noisy = time[:, None, None] * noise + (1 - time[:, None, None]) * actions
        velocity = policy.net.velocity(policy.net.prefix(seen), seen.state, noisy, time)
        errors = policy.net.velocity_errors(seen, actions, noise, time)
        torch.testing.assert_close((velocity - (noise - actions)).square(), errors, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_tokens_written_one_by_one_are_those_of_one_pass() -> None:
    policy = policy_of("pi0fast").eval()
    batch = policy.processing(batch_of(policy))
    seen = policy.seen(batch)
    written, real = policy.written(batch["joined.action"])
    logits = policy.net(seen, written, real)
    state = policy.net.read(seen)
    for place in range(int(real.sum(1).min())):
        torch.testing.assert_close(state.logits, logits[:, place], rtol=1e-4, atol=1e-4)
        state = policy.net.write(state, written[:, place])


def test_the_exact_velocity_has_no_error_and_euler_on_a_line_is_exact() -> None:
    from tendon.policies.parts.flow_matching import between, euler

    noise, actions = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 5, 3, dtype=torch.float64)
    made = euler(lambda sample, time: actions - noise, noise, [i / 4 for i in range(4)], 1 / 4)
    torch.testing.assert_close(made, actions)
    torch.testing.assert_close(between(noise, actions, torch.tensor([0.0, 1.0]))[0], noise[0])


# ----------------------------------------------------------------------------------------------------------- what learns


@pytest.mark.parametrize("name", NAMES)
def test_every_combination_of_tune_flags_trains_what_it_says(name: str) -> None:
    parts = list(config_of(name).tuned())
    for chosen in itertools.product((False, True), repeat=len(parts)):
        flags = [f"policy.tune_{part}={str(on).lower()}" for part, on in zip(parts, chosen, strict=True)]
        if not any(chosen) and "gr00t" not in name:
            with pytest.raises(ConfigError, match="nothing of the policy learns"):
                config_of(name, *flags)
            continue
        policy = policy_of(name, *flags)
        learning = {row.part: row.num_learning for row in policy.table()}
        assert {part: learning[part] > 0 for part in parts} == dict(zip(parts, chosen, strict=True))
        policy.loss(batch_of(policy, size=2)).loss.backward()
        unused = [name for name, one in policy.named_parameters() if one.requires_grad and one.grad is None]
        assert not unused, (flags, unused)


@pytest.mark.parametrize("name", NAMES)
def test_with_lora_parts_learn_through_adapters_and_the_projector_whole(name: str) -> None:
    pytest.importorskip("peft", reason="peft is not installed: pip install 'tendon-robotics[lora]'")
    policy = policy_of(name, "policy.lora_rank=2", "policy.tune_llm=true", "policy.tune_visual=true")
    for part, names in policy.parts().items():
        for inner in names:
            learning = {n for n, one in policy.net.get_submodule(inner).named_parameters() if one.requires_grad}
            whole = part in ("projector", "always")
            assert all(("lora_" in one) != whole for one in learning), (part, inner)
    policy.loss(batch_of(policy, size=2)).loss.backward()
    assert not [n for n, one in policy.named_parameters() if one.requires_grad and one.grad is None]


@pytest.mark.parametrize("name", NAMES)
def test_merged_adapters_act_as_those_beside_their_layers(name: str) -> None:
    pytest.importorskip("peft", reason="peft is not installed: pip install 'tendon-robotics[lora]'")
    from tendon.weights.lora import merged_state, without_adapters

    overrides = ("policy.lora_rank=2", "policy.tune_llm=true")
    policy = policy_of(name, *overrides)
    for inner, parameter in policy.named_parameters():
        if "lora_B" in inner:
            torch.nn.init.normal_(parameter, std=0.05)
    with without_adapters():
        plain = policy_of(name, *overrides)
    before, _ = plain.eval().act(seen_of(plain), plain.start(1, 2, 3))
    plain.load_state_dict(merged_state(policy))
    beside, _ = policy.eval().act(seen_of(policy), policy.start(1, 2, 3))
    merged, _ = plain.act(seen_of(plain), plain.start(1, 2, 3))
    torch.testing.assert_close(merged["action.arm"], beside["action.arm"], rtol=1e-5, atol=1e-5)
    if name != "pi0fast":  # its actions are the likeliest tokens
        assert (before["action.arm"] - beside["action.arm"]).abs().max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_activations_that_are_computed_again_give_the_same_gradients(name: str) -> None:
    from tendon.train.loop.optimizer import recompute, training_mode

    flag, gradients = "policy.gradient_checkpointing=true", []
    for more in ((), (flag,)):
        policy = policy_of(name, *more, "policy.tune_visual=true")
        training_mode(policy)
        assert bool(policy.checkpointed_units()) == bool(more)
        recompute(policy.checkpointed_units())
        torch.manual_seed(3)
        policy.loss(batch_of(policy, size=2)).loss.backward()
        gradients.append([one.grad for one in policy.parameters() if one.grad is not None])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_the_table_of_parts_is_printed() -> None:
    text = policy_of("gr00t_n1_5").describe()
    assert [line.split()[0] for line in text.splitlines()] == [
        *("part", "llm", "visual", "diffusion_model", "projector", "always", "together")
    ]
    assert text.splitlines()[1].split()[2] == "0"


# --------------------------------------------------------------------------------------------------------------- sizes


def full(name: str) -> Any:
    with torch.device("meta"):
        return make_policy(compose(["data.uri=x", f"policy={name}"]).policy, FEATURES)


def count(*modules: Any) -> float:
    return sum(one.numel() for module in modules for one in module.parameters()) / MILLION


def test_pi0_of_full_size_has_the_published_parts() -> None:
    net = full("pi0").net
    language = [net.gemma.embed_tokens, net.gemma.prefix_norm, *(layer.prefix for layer in net.gemma.layers)]
    expert = [net.gemma.expert_norm, *(layer.expert for layer in net.gemma.layers)]
    counts = [count(net.vision), count(net.connector), count(*language), count(*expert)]
    assert counts == pytest.approx([412.4, 2.4, 2508.5, 311.5], abs=0.1)
    assert count(net) == pytest.approx(3240, rel=0.001)


@pytest.mark.parametrize(("name", "published"), [("gr00t_n1", 2190), ("gr00t_n1_5", 2400)])
def test_gr00t_of_full_size_has_as_many_parameters_as_published(name: str, published: float) -> None:
    """N1: the 2.19 B of its LoRA recipe. N1.5: the sum of the sizes of its parts."""
    net = full(name).net
    assert count(net) == pytest.approx(published, rel=0.02)
    if name == "gr00t_n1_5":
        head = net.head
        assert [count(head.model), count(head.vl_self_attention)] == pytest.approx([550, 200], rel=0.02)
        assert count(net.backbone.language) == pytest.approx(910, rel=0.02)
        assert count(net.backbone.vision) == pytest.approx(412.4, abs=0.1)


# ------------------------------------------------------------------------------------------------------------- prompts


def test_prompts_hold_text_state_and_places_for_pictures() -> None:
    from tendon.policies.processing.text import ByteTokenizer

    tokenizer = ByteTokenizer()
    fast = policy_of("pi0fast")
    batch = batch_of(fast, size=1)
    batch["task"][:] = 0
    batch[STATE][:] = torch.tensor([-2.0, 0.0, 1.99, 2.0, 9.0])
    batch["observation.gripper"][:] = 0.001
    seen = fast.processing(batch)
    ids = seen["tokens"][0, 0][seen["tokens_mask"][0, 0]].tolist()
    assert ids[0] == tokenizer.begin_id
    assert tokenizer.decode(ids) == "Task: push the block, State: 0 127 255 255 255 128;\n"

    gr00t = policy_of("gr00t_n1_5")
    seen = gr00t.processing(batch_of(gr00t, size=1) | {"task": torch.ones(1, 1, dtype=torch.int64)})
    ids = seen["tokens"][0, 0]
    assert int((ids == gr00t.config.image_token_id).sum()) == 2 * gr00t.config.camera_tokens
    assert not seen["tokens_mask"][0, 0, 0]  # padding stands in front
    words = [one for one in ids[seen["tokens_mask"][0, 0]].tolist() if one != gr00t.config.image_token_id]
    assert tokenizer.decode(words).endswith(f"</img>{TEXTS[1]}<|im_end|>\n<|im_start|>assistant\n")


def test_an_instruction_that_is_too_long_is_refused_by_name() -> None:
    policy = policy_of("pi0")
    with pytest.raises(ConfigError, match="there is room for 64") as caught:
        policy.set_texts(["long " * 40])
    assert caught.value.problems[0].fix == f"policy.tokenizer_max_length={1 + 199 + 1}"


@pytest.mark.parametrize("name", NAMES)
def test_without_instruction_or_state_it_works_too(name: str) -> None:
    features = {key: one for key, one in FEATURES.items() if one.kind in ("image", "action")}
    policy = policy_of(name, features=features)
    policy.loss(batch_of(policy, size=2)).loss.backward()
    policy.eval().act(seen_of(policy, size=2), policy.start(1, 2))


def test_what_cannot_be_read_is_told() -> None:
    numbers = {key: one for key, one in FEATURES.items() if one.kind != "image"}
    with pytest.raises(ConfigError, match="nothing to look at"):
        policy_of("pi0", features=numbers)
    with pytest.raises(ConfigError, match="together they have 6 numbers, the width is 4"):
        policy_of("pi0", "policy.max_state_dim=4")
    with pytest.raises(ConfigError, match="is number 31 of 20"):
        config_of("gr00t_n1", "policy.max_num_embodiments=20")
    with pytest.raises(ConfigError, match="has no sha256"):
        config_of("pi0", "policy.base_model_path=somewhere")


def test_the_embodiments_weights_are_its_own() -> None:
    gr1, fresh = (policy_of("gr00t_n1", f"policy.embodiment_tag={tag}") for tag in ("gr1", "new_embodiment"))
    for policy, number in ((gr1, 24), (fresh, 31)):
        policy.loss(batch_of(policy, size=2)).loss.backward()
        gradient = policy.net.head.state_encoder.layer1.W.grad.flatten(1).abs().sum(1)
        assert gradient.nonzero().flatten().tolist() == [number]


def test_augmentation_is_of_training_alone() -> None:
    policy = make_policy(compose(["data.uri=x", "policy=gr00t_n1_tiny"]).policy, FEATURES, STATS)
    policy.set_texts(TEXTS)
    assert policy.num_draws == 2 * 2 + 4  # a corner for each camera, four colours for both
    batch = batch_of(policy)
    draws = torch.rand(3, policy.num_draws)
    plain, changed = policy.processing(batch), policy.processing(batch | {"draws": draws})
    acting = policy.processing({key: batch[key] for key in policy.reads} | {"draws": draws}, "acting")
    assert not torch.equal(plain[FRONT], changed[FRONT])
    assert torch.equal(plain[FRONT], acting[FRONT])
    assert -1.01 < float(acting[FRONT].min()) < -0.5 < 0.5 < float(acting[FRONT].max()) < 1.01
    assert math.isclose(float(acting[FRONT].abs().max()), 1.0, rel_tol=0.3)
