"""Keys without effect: ``without_effect`` names exactly the keys that change no number, and setting one is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from tendon.config.compose import compose, describe, from_dict, to_dict
from tendon.config.keys import fields_of
from tendon.config.policies import deciding_keys, policy_configs
from tendon.config.schema import PolicyConfig
from tendon.config.sweep import expand, parse_sweep
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError
from tendon.policies.behaviour_cloning.config import CloningConfig
from tendon.policies.registry import make_policy
from tendon.policies.windows import Span
from tests.policies.features_of import features_of

NUMBERS = {"observation.a": 3, "action": 2}
CAMERAS = NUMBERS | {"observation.images.front": (40, 48, 3)}
COLOURS = ("brightness", "contrast", "saturation", "hue")
SEES = ("vision_backbone", "num_keypoints", "feature_dim", "crop_size", "resize", *COLOURS)
FETCHED = "pretrained"  # weights of the net from the network: the one key that is not tried
SMALL = {
    "bc": ["policy.hidden_dims=[8]"],
    "bc_vae": ["policy.encoder_dims=[8]", "policy.decoder_dims=[8]", "policy.latent_clip=0.2"],
    "bc_rnn": ["policy.hidden_dims=[8]", "policy.hidden_dim=8", "policy.horizon=3", "policy.seq_length=3"],
    "bc_transformer": ["policy.embed_dim=8", "policy.num_heads=2", "policy.num_layers=1", "policy.context_length=3"],
}
CASES: dict[str, list[str]] = {
    "bc deterministic": ["policy=bc"],
    "bc with mean and std": ["policy=bc", "policy.action_normalization=mean_std"],
    "bc gaussian": ["policy=bc", "policy.head=gaussian"],
    "bc gaussian of fixed width": ["policy=bc", "policy.head=gaussian", "policy.fixed_std=true"],
    "bc gmm": ["policy=bc", "policy.head=gmm", "policy.low_noise_eval=false"],
    "bc_vae": ["policy=bc_vae"],
    "bc_vae with a net for its prior": ["policy=bc_vae", "policy.prior=learned_conditioned", "policy.prior_dims=[8]"],
    "bc_rnn": ["policy=bc_rnn"],
    "bc_rnn gmm": ["policy=bc_rnn", "policy.head=gmm"],
    "bc_transformer": ["policy=bc_transformer"],
    "bc_transformer, every step": ["policy=bc_transformer", "policy.supervise_all_steps=true"],
    "bc_transformer, future": [
        "policy=bc_transformer",
        "policy.supervise_all_steps=true",
        "policy.pred_future_acs=true",
    ],
}
OTHER: dict[str, Any] = {
    "hidden_dims": (9,),
    "encoder_dims": (9,),
    "decoder_dims": (9,),
    "prior_dims": (9,),
    "num_modes": 3,
    "min_std": 0.7,
    "init_std": 0.9,
    "l2_weight": 0.3,
    "l1_weight": 0.3,
    "cos_weight": 0.3,
    "latent_clip": 0.1,
    "kl_weight": 0.3,
    "crop_size": 34,
    "resize": (36, 36),
    "num_heads": 4,
    "embed_dim": 12,
}


def other(config: PolicyConfig, key: str) -> Any:
    """Another value that the key may have."""
    value = getattr(config, key)
    if key in OTHER and OTHER[key] != value:
        return OTHER[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        choices = {
            "head": "gmm" if value != "gmm" else "deterministic",
            "bounded": "always",
            "std_activation": "exp",
            "vision_backbone": "resnet34",
            "observation_normalization": "min_max",
            "action_normalization": "min_max" if value != "min_max" else "identity",
            "cell": "GRU",
            "prior": "learned" if value == "normal" else "normal",
            "activation": "geglu",
            "position": "sinusoidal",
            "future_attention": "causal",
        }
        return choices[key]
    return value + 1 if isinstance(value, int) else value * 0.5 + 0.25


def stats() -> dict[str, FeatureStats]:
    made = {}
    for key, dim in NUMBERS.items():
        mean, std, low, high = ((value,) * dim for value in (0.1, 0.5, -0.8, 0.9))
        made[key] = FeatureStats(10, mean, std, low, high, low, high)
    return made


def numbers(config: PolicyConfig, features: dict[str, Any]) -> list[torch.Tensor]:
    """All that a policy is: window, weights, loss and gradients of a padded batch, actions of some steps."""
    torch.manual_seed(0)
    policy = make_policy(config, features_of(features), stats())
    windows, generator = policy.windows, torch.Generator().manual_seed(1)

    def seen(spans: Mapping[str, Span]) -> dict[str, torch.Tensor]:
        made = {}
        for key in policy.reads:
            shape, times = features[key], len(spans[key].deltas)
            if isinstance(shape, int):
                made[key] = torch.randn(2, times, shape, generator=generator)
            else:
                made[key] = torch.randint(0, 256, (2, times, *shape), generator=generator, dtype=torch.uint8)
        return made

    targets = windows.training["action"].deltas
    steps = len(targets)
    batch = seen(windows.training)
    batch["action"] = torch.rand(2, steps, 2, generator=generator) * 1.6 - 0.8
    batch["action_is_pad"] = torch.tensor([delta != 0 for delta in targets]).expand(2, -1)
    if policy.num_draws:
        batch["draws"] = torch.rand(2, policy.num_draws, generator=generator)
    torch.manual_seed(2)
    loss = policy.loss(batch).loss
    loss.backward()
    made = [loss.detach(), *(p for p in policy.parameters()), *(b for b in policy.buffers())]
    made += [torch.zeros(0) if p.grad is None else p.grad for p in policy.parameters()]
    policy.eval()
    memory = policy.start(1, 2)
    for _ in range(5):
        action, memory = policy.act(seen(windows.acting), memory)
        made.append(action["action"])
    return [*made, torch.tensor([*windows.training[policy.reads[0]].deltas, 99, *targets, windows.execute])]


def same(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> bool:
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def small(case: str) -> PolicyConfig:
    name = CASES[case][0].partition("=")[2]
    return compose(["data.uri=x", *CASES[case], *SMALL[name]]).policy


@pytest.mark.parametrize("case", list(CASES))
def test_exactly_the_named_keys_change_no_number(case: str) -> None:
    config = small(case)
    idle = config.without_effect()
    expected = numbers(config, NUMBERS)
    assert same(expected, numbers(config, NUMBERS))
    wrong = {}
    for key in fields_of(type(config)):
        if key in ("name", "init_from", FETCHED, *SEES):  # init_from: which weights training begins with
            continue
        changed = replace(config, **{key: other(config, key)})
        has_effect = not same(expected, numbers(changed, NUMBERS))
        if has_effect == (key in idle):
            wrong[key] = "has an effect" if has_effect else "has none"
    assert not wrong


def test_keys_of_cameras_change_numbers_where_there_is_one() -> None:
    config = small("bc deterministic")
    expected = numbers(config, CAMERAS)
    assert isinstance(config, CloningConfig)
    idle = [key for key in SEES if same(expected, numbers(replace(config, **{key: other(config, key)}), CAMERAS))]
    assert not idle


@pytest.mark.parametrize("name", list(policy_configs()))
def test_every_key_without_effect_is_refused_by_name_even_at_its_default(name: str) -> None:
    config = compose(["data.uri=x", f"policy={name}"])
    rows = dict(line.split(None, 1) for line in describe(config).splitlines())
    for key in config.policy.without_effect():
        value = rows[f"++policy.{key}"].strip()
        with pytest.raises(ConfigError) as caught:
            compose(["data.uri=x", f"policy={name}", f"policy.{key}={value}"])
        (problem,) = caught.value.problems
        assert problem.what == f"policy.{key} has no effect"
        useful = problem.fix.partition(", or leave")[0]
        other_policy = [] if useful.startswith("policy=") else [f"policy={name}"]
        compose(["data.uri=x", *other_policy, useful, *_needed(useful)])
        assert compose(["data.uri=x", f"policy={name}", f"++policy.{key}={value}"]) == config


def _needed(useful: str) -> list[str]:
    needed = ["policy.supervise_all_steps=true"] if "pred_future" in useful else []
    return [*needed, "policy.tune_llm=true"] if "lora" in useful else needed


def test_the_issues_example_and_what_a_vae_inherits() -> None:
    with pytest.raises(ConfigError, match=r"policy\.num_modes has no effect"):
        compose(["data.uri=x", "policy=bc_vae", "policy.num_modes=5"])
    with pytest.raises(ConfigError, match=r"policy\.crop_size is 40"):
        compose(["data.uri=x", "policy=bc_vae", "policy.resize=[32,32]", "policy.crop_size=40"])


def test_a_saved_configuration_holds_them_and_an_experiment_may_not(tmp_path: Any) -> None:
    config = compose(["data.uri=x", "policy=bc_vae"])
    assert from_dict(to_dict(config)) == config
    assert to_dict(config)["policy"]["num_modes"] == 5
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /policy: bc_vae\npolicy:\n  num_modes: 7\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match="has no effect") as caught:
        compose(["data.uri=x", "experiment=mine"], config_dir=str(tmp_path))
    assert caught.value.problems[0].where.endswith("mine.yaml:5")
    assert (
        compose(["data.uri=x", "experiment=reach_bc", "policy=bc_vae"]).policy.name == "bc_vae"
    )  # it sets hidden_dims


def test_a_sweep_may_vary_a_key_together_with_what_gives_it_its_effect() -> None:
    sweep = [
        {"key": "policy.head", "name": "head", "group": 0, "values": ["deterministic", "gmm", "gmm"]},
        {"key": "policy.num_modes", "name": "modes", "group": 0, "values": [5, 5, 10]},
    ]
    trials = expand(parse_sweep(sweep), "")
    assert [compose(["data.uri=x", *trial.overrides]).policy.num_modes for trial in trials] == [5, 5, 10]  # type: ignore[attr-defined]
    alone = expand(parse_sweep([{"key": "policy.num_modes", "name": "modes", "values": [5, 10]}]), "")
    with pytest.raises(ConfigError, match="has no effect"):
        compose(["data.uri=x", *alone[0].overrides])


def test_the_deciding_keys_are_keys() -> None:
    keys = {f"policy.{key}" for one in policy_configs().values() for key in fields_of(one)}
    assert deciding_keys() <= keys
