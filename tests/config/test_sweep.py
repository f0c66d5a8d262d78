"""A sweep gives robomimic's names in robomimic's order, and refuses what robomimic lets pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tendon.config.compose import compose
from tendon.config.sweep import MAX_TRIALS, Parameter, Trial, expand, parse_sweep
from tendon.errors import ConfigError

SEED = [
    {"key": "algo.rnn.enabled", "name": "", "group": 0, "values": [True]},
    {"key": "train.seq_length", "name": "", "group": 0, "values": [10]},
    {"key": "algo.rnn.horizon", "name": "", "group": 0, "values": [10]},
    {"key": "algo.optim_params.policy.learning_rate.initial", "name": "plr", "group": 1, "values": [1e-3, 1e-4]},
    {"key": "algo.gmm.enabled", "name": "gmm", "group": 2, "values": [True, False], "value_names": ["t", "f"]},
    {"key": "algo.rnn.hidden_dim", "name": "rnnd", "group": 3, "values": [400, 1000]},
    {
        "key": "algo.actor_layer_dims",
        "name": "mlp",
        "group": 3,
        "values": [[1024, 1024], []],
        "value_names": ["1024", "0"],
    },
]
SEED_NAMES = [
    "bc_rnn_hyper_plr_0.001_gmm_t_rnnd_400_mlp_1024",
    "bc_rnn_hyper_plr_0.001_gmm_t_rnnd_1000_mlp_0",
    "bc_rnn_hyper_plr_0.001_gmm_f_rnnd_400_mlp_1024",
    "bc_rnn_hyper_plr_0.001_gmm_f_rnnd_1000_mlp_0",
    "bc_rnn_hyper_plr_0.0001_gmm_t_rnnd_400_mlp_1024",
    "bc_rnn_hyper_plr_0.0001_gmm_t_rnnd_1000_mlp_0",
    "bc_rnn_hyper_plr_0.0001_gmm_f_rnnd_400_mlp_1024",
    "bc_rnn_hyper_plr_0.0001_gmm_f_rnnd_1000_mlp_0",
]


def as_kfp_sends(value: Any) -> Any:
    """A protobuf Struct knows no int."""
    if isinstance(value, dict):
        return {key: as_kfp_sends(one) for key, one in value.items()}
    if isinstance(value, list):
        return [as_kfp_sends(one) for one in value]
    return float(value) if type(value) is int else value


def mistakes(sweep: Any, base: str = "base") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        expand(parse_sweep(sweep), base)
    return [one.what for one in caught.value.problems]


def one(key: str = "training.lr", **fields: Any) -> dict[str, Any]:
    return {"key": key, "name": "lr", "group": 1, "values": [0.1, 0.2]} | fields


@pytest.mark.parametrize("sent", [SEED, as_kfp_sends(SEED)], ids=["as written", "as KFP sends it"])
def test_the_eight_names_of_the_seed(sent: list[dict[str, Any]]) -> None:
    trials = expand(parse_sweep(sent), "bc_rnn_hyper")
    assert [trial.name for trial in trials] == SEED_NAMES
    assert trials[0].overrides == (
        "algo.rnn.enabled=true",
        "train.seq_length=10",
        "algo.rnn.horizon=10",
        "algo.optim_params.policy.learning_rate.initial=0.001",
        "algo.gmm.enabled=true",
        "algo.rnn.hidden_dim=400",
        "algo.actor_layer_dims=[1024,1024]",
    )
    assert trials[-1].overrides[-1] == "algo.actor_layer_dims=[]"


def test_no_sweep_is_one_trial() -> None:
    assert expand(parse_sweep([]), "base") == (Trial("base", ()),)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-3, "0.001"),
        (1e-4, "0.0001"),
        (1e-5, "1e-05"),
        (3e-4, "0.0003"),
        (1.0, "1.0"),
        (1e8, "100000000.0"),
        (1e16, "1e+16"),
        (None, "None"),
        (True, "True"),
        (False, "False"),
        ([1, 2], "1_2"),
        ((3, 4), "3_4"),
        ([], ""),
        ("", ""),
        ([[1, 2], [3]], "[1, 2]_[3]"),
        ({"a": 1}, "{'a': 1}"),
        ("a b", "a b"),
    ],
)
def test_value_text_is_robomimics(value: Any, text: str) -> None:
    assert Parameter("training.lr", "lr", 0, (value,)).text(0) == text


def test_names_leave_out_what_is_empty_or_hidden() -> None:
    sweep = [
        one("policy.hidden_dims", name="d", group="a", values=[[8], []]),
        one("training.lr", name="lr", group="b", values=[0.1], hidename=True),
        one("seed", name="", group="b", values=[3]),
        one("training.batch_size", name="b", group="c", values=[4], value_names=[10]),
    ]
    assert [trial.name for trial in expand(parse_sweep(sweep), "")] == ["d_8_b_10", "d_b_10"]


def test_groups_keep_the_order_of_first_appearance() -> None:
    sweep = [
        one("seed", name="s", group=9, values=[1, 2]),
        one("training.lr", name="lr", group=1, values=[0.1, 0.2]),
        one("training.batch_size", name="b", group=9, values=[4, 8]),
    ]
    names = [trial.name for trial in expand(parse_sweep(sweep), "x")]
    assert names == ["x_s_1_lr_0.1_b_4", "x_s_1_lr_0.2_b_4", "x_s_2_lr_0.1_b_8", "x_s_2_lr_0.2_b_8"]


def test_only_key_and_values_are_needed() -> None:
    trials = expand(parse_sweep([{"key": "training.lr", "values": [0.1]}, {"key": "seed", "values": [1, 2]}]), "")
    assert [trial.name for trial in trials] == ["lr_0.1_seed_1", "lr_0.1_seed_2"]


def test_overrides_compose_to_the_values_even_through_kfp() -> None:
    sweep = [
        one("training.batch_size", name="b", group=0, values=[8]),
        one("policy.hidden_dims", name="d", group=0, values=[[16, 32]]),
        one("data.skip_episodes", name="", group=0, values=[["it's", "a,b", "null"]]),
        one("env.options", name="", group=0, values=[{"size": 84, "path": "a b/c", "none": None, "on": True}]),
        one("policy", name="p", group=0, values=["bc"]),
        one("training/lr", name="lr", group=0, values=[1]),
    ]
    (trial,) = expand(parse_sweep(as_kfp_sends(sweep)), "x")
    assert trial.name == "x_b_8_d_16_32_p_bc_lr_1.0"
    config = compose(["data.uri=x", *trial.overrides])
    assert (config.training.batch_size, config.training.lr) == (8, 1.0)
    assert config.policy.hidden_dims == (16, 32)  # type: ignore[attr-defined]
    assert config.data.skip_episodes == ("it's", "a,b", "null")
    assert config.env.options == {"size": 84, "path": "a b/c", "none": None, "on": True}
    assert type(config.env.options["size"]) is int


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_sweep_is_read_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sweep{suffix}"
    path.write_text(json.dumps(SEED))
    assert parse_sweep(str(path)) == parse_sweep(SEED)
    path.write_text("- {key: training.lr, values: [1e-3, 1e-4]}\n" if suffix == ".yaml" else "[{")
    if suffix == ".yaml":
        assert [trial.name for trial in expand(parse_sweep(path), "x")] == ["x_lr_0.001", "x_lr_0.0001"]
    else:
        assert mistakes(path) == ["this is not JSON"]


def test_files_that_are_no_sweep(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("key: training.lr\n")
    assert mistakes(tmp_path / "sweep.yaml") == ["this is not a sweep"]
    assert mistakes(tmp_path / "sweeps.yaml") == ["there is no sweep file sweeps.yaml"]
    (tmp_path / "sweep.yaml").write_text("[1\n")
    assert mistakes(tmp_path / "sweep.yaml") == ["this is not YAML"]
    (tmp_path / "sweep.yaml").write_text("")
    assert parse_sweep(tmp_path / "sweep.yaml") == ()


def test_every_mistake_of_a_sweep_at_once() -> None:
    found = mistakes(
        [
            one(values=[]),
            one("seed", group=[1], valuess=3),
            one("a", value_names=["x"]),
            7,
            {"values": [1]},
            one("b", values=[float("nan"), 1]),
            one("c", name=3),
            one("d", hidename="yes"),
            one("e", values="abc"),
            one("g", group=5, values=[1]),
            one("h", group=5, values=[1, 2]),
            one("h", group=6, values=[1, 2]),
        ]
    )
    assert found == [
        "values of training.lr are []",
        "unknown field valuess",
        "group of seed is [1]",
        "value_names of a are ['x']",
        "7 is not a parameter",
        "a parameter has no key",
        "a value of b is nan",
        "name of c is 3",
        "hidename of d is 'yes'",
        "values of e are 'abc'",
        "h is varied twice",
        "group 5 has unequal numbers of values",
    ]


@pytest.mark.parametrize(
    ("sweep", "what"),
    [
        ([one(values=[[], ""])], "2 trials are called 'x_lr'"),
        ([one(hidename=True)], "2 trials are called 'x'"),
        ([one("data.split", values=["a/b"])], "'x_lr_a/b' cannot name a trial"),
        ([one("data.split", values=["a b"])], "'x_lr_a b' cannot name a trial"),
        ([one("data.split", values=["y" * 300])], f"'x_lr_{'y' * 300}' cannot name a trial"),
        ([one("policy.hidden_dims", values=[[[1, 2], [3]]])], "'x_lr_[1, 2]_[3]' cannot name a trial"),
        ([one(values=[1, 1.0])], "x_lr_1 and x_lr_1.0 are the same trial"),
        ([one(values=[1, 1], value_names=["a", "b"])], "x_lr_a and x_lr_b are the same trial"),
    ],
)
def test_names_that_would_go_wrong(sweep: list[dict[str, Any]], what: str) -> None:
    assert mistakes(sweep, "x") == [what]


def test_too_many_trials_show_the_way_out() -> None:
    sweep = [
        one("seed", name="s", values=list(range(76))),
        one("training.batch_size", name="b", group=2, values=[1, 2]),
    ]
    with pytest.raises(ConfigError) as caught:
        expand(parse_sweep(sweep), "x")
    (problem,) = caught.value.problems
    assert problem.what == "the sweep has 152 trials"
    assert problem.fix.startswith("2 or more runs")
    assert "seed" in problem.fix
    assert len(expand(parse_sweep([one("seed", values=list(range(MAX_TRIALS)))]), "x")) == MAX_TRIALS


def test_drawn_values_beside_their_key_are_told_where_they_belong() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_sweep([{"key": "training.lr", "log_uniform": [1e-4, 1e-2]}])
    (problem,) = caught.value.problems
    assert problem.what == "unknown field log_uniform"
    assert problem.fix == "values: {log_uniform: [0.0001, 0.01], count: 8, seed: 0}"
