"""The seed's example: its 8 configurations with exact names, order, JSON files and script; and what upstream lets pass."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tendon.config.compose import compose
from tendon.config.generator import ConfigGenerator
from tendon.config.sweep import expand, parse_sweep
from tendon.errors import ConfigError

BASE = Path(__file__).parent / "base.json"
NAMES = [
    f"bc_rnn_hyper_plr_{lr}_gmm_{gmm}_rnnd_{rnn}"
    for lr in ("0.001", "0.0001")
    for gmm in "tf"
    for rnn in ("400_mlp_1024", "1000_mlp_0")
]


def make_generator(config_file: Path, script_file: Path | None = None, **more: Any) -> ConfigGenerator:
    """The seed's function, word by word in its calls."""
    generator = ConfigGenerator(base_config_file=config_file, script_file=script_file, **more)
    generator.add_param(key="algo.rnn.enabled", name="", group=0, values=[True])
    generator.add_param(key="train.seq_length", name="", group=0, values=[10])
    generator.add_param(key="algo.rnn.horizon", name="", group=0, values=[10])
    generator.add_param(key="algo.optim_params.policy.learning_rate.initial", name="plr", group=1, values=[1e-3, 1e-4])
    generator.add_param(key="algo.gmm.enabled", name="gmm", group=2, values=[True, False], value_names=["t", "f"])
    generator.add_param(key="algo.rnn.hidden_dim", name="rnnd", group=3, values=[400, 1000])
    generator.add_param(
        key="algo.actor_layer_dims", name="mlp", group=3, values=[[1024, 1024], []], value_names=["1024", "0"]
    )
    return generator


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Path(shutil.copy(BASE, tmp_path / "base.json"))


def test_the_seeds_eight_experiments(base: Path, tmp_path: Path) -> None:
    paths = make_generator(base, tmp_path / "out.sh").generate()
    assert [path.name for path in paths] == [f"{name}.json" for name in NAMES]
    script = "#!/bin/bash\n\n" + "".join(f"python train.py --config {tmp_path}/{name}.json\n" for name in NAMES)
    assert (tmp_path / "out.sh").read_text() == script
    last = json.loads(paths[-1].read_text())
    assert last["experiment"]["name"] == NAMES[-1]
    assert last["meta"] == {
        "hp_base_config_file": str(base),
        "hp_keys": ["plr", "gmm", "rnnd", "mlp"],
        "hp_values": [0.0001, "f", 1000, "0"],
    }
    expected = json.loads(base.read_text())
    expected["experiment"]["name"], expected["meta"] = NAMES[-1], last["meta"]
    expected["train"]["seq_length"], expected["algo"]["actor_layer_dims"] = 10, []
    expected["algo"]["rnn"] |= {"enabled": True, "horizon": 10, "hidden_dim": 1000}
    expected["algo"]["optim_params"]["policy"]["learning_rate"]["initial"] = 1e-4
    assert last == expected
    assert list(last)[:4] == list(json.loads(base.read_text()))
    assert '    "algo_name": "bc",' in paths[-1].read_text().splitlines()


def test_the_generator_is_what_the_pipelines_sweep_takes(base: Path) -> None:
    generator = make_generator(base)
    assert [trial.name for trial in expand(parse_sweep(generator), "bc_rnn_hyper")] == NAMES
    run = generator.pipeline()
    trials = expand(parse_sweep(run["policy_sweep"]), "")
    assert [trial.name for trial in trials] == NAMES
    configs = [compose([*run["policy_config"].split(" "), "data.uri=x", *trial.overrides]) for trial in trials]
    assert [c.training.lr for c in configs] == [1e-3] * 4 + [1e-4] * 4
    heads = [getattr(c.policy, "head") for c in configs]  # noqa: B009
    assert heads == ["gmm", "gmm", "deterministic", "deterministic"] * 2
    assert [getattr(c.policy, "hidden_dim") for c in configs] == [400, 1000] * 4  # noqa: B009
    assert [getattr(c.policy, "hidden_dims") for c in configs] == [(1024, 1024), ()] * 4  # noqa: B009
    assert {c.policy.name for c in configs} == {"bc_rnn"}


def test_prepend_and_hidename(base: Path) -> None:
    generator = ConfigGenerator(base, base_exp_name="x")
    generator.add_param("train.seed", "seed", 1, [1, 2])
    generator.add_param("train.batch_size", "bs", 2, [8, 16], prepend=True)
    generator.add_param("train.num_epochs", "ep", 3, [5], hidename=True)
    made = generator.experiments()
    assert [one.name for one in made] == ["x_bs_8_seed_1", "x_bs_8_seed_2", "x_bs_16_seed_1", "x_bs_16_seed_2"]
    assert made[0].config["meta"]["hp_keys"] == ["bs", "seed", "ep"]


def test_a_budget_and_drawn_values(base: Path) -> None:
    generator = make_generator(base)
    generator.limit(3, seed=4)
    names = [one.name for one in generator.experiments()]
    assert len(names) == 3
    assert [name for name in NAMES if name in names] == names
    drawn = [{"key": "training.lr", "values": {"log_uniform": [1e-5, 1e-3], "count": 6, "seed": 1}}]
    values = parse_sweep(drawn)[0].values
    assert values == parse_sweep(drawn)[0].values
    assert len(set(values)) == 6
    assert all(1e-5 <= value <= 1e-3 for value in values)
    assert sum(value < 1e-4 for value in values) in range(1, 6)
    many = parse_sweep([{"key": "seed", "values": list(range(1000))}, {"budget": 5, "seed": 2}])
    assert len(expand(many, "")) == 5


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([("algo.gmm.enabled", "", 0, [True, False])], "2 trials are called"),
        ([("train.batch_size", "bs", 0, ["8", "16"])], 'batch_size is "8"'),
        ([("algo.rnn.enabled", "", 0, [True])], "algo.rnn.horizon is 10, train.seq_length 1"),
        ([("algo.gmm.enable", "gmm", 0, [True])], "unknown key algo.gmm.enable"),
        ([("train.data", "data", 0, ["/tmp/a.hdf5"])], "cannot name a trial"),
    ],
)
def test_what_upstream_lets_pass_is_refused(base: Path, calls: list[Any], words: str) -> None:
    generator = ConfigGenerator(base)
    for key, name, group, values in calls:
        generator.add_param(key, name, group, values)
    with pytest.raises(ConfigError, match=words):
        generator.generate()


def test_keys_and_values_are_judged_when_added(base: Path) -> None:
    generator = ConfigGenerator(base)
    with pytest.raises(ConfigError, match="no section alg"):
        generator.add_param("alg.gmm.enabled", "gmm", 0, [True])
    with pytest.raises(ConfigError, match="a list with at least one value"):
        generator.add_param("algo.gmm.enabled", "gmm", 0, [])
    with pytest.raises(ConfigError, match="nothing to vary"):
        generator.generate()
