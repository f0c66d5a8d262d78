"""A saved configuration: written so that every YAML reads it back, run again, and judged in full."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tendon.config.compose import compose, from_dict, to_dict, to_yaml
from tendon.config.yaml_text import dump_yaml, read_yaml
from tendon.errors import ConfigError, Problem


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    config = compose(
        ["experiment=lift_bc", "data.uri=s3://b/p", "training.lr=1e-5", "env.options={a:[1,x],b:{c:1e-7}}"]
    )
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    return tmp_path


def again(folder: Path, *overrides: str, name: str = "config"):  # type: ignore[no-untyped-def]
    return compose(list(overrides), config_dir=str(folder), config_name=name)


def mistakes(folder: Path, *overrides: str, name: str = "config") -> dict[str, Problem]:
    with pytest.raises(ConfigError) as caught:
        again(folder, *overrides, name=name)
    return {one.what: one for one in caught.value.problems}


def test_a_saved_configuration_runs_again(saved: Path) -> None:
    config = again(saved)
    assert to_yaml(config) == (saved / "config.yaml").read_text()
    assert (config.training.lr, config.env.options) == (1e-5, {"a": [1, "x"], "b": {"c": 1e-7}})
    assert again(saved, name="config.yaml") == config


def test_single_keys_can_be_changed(saved: Path) -> None:
    config = again(saved, "training.offline_steps=5", "policy={head:gmm}", "env.options.z=1")
    assert (config.training.offline_steps, config.policy.head, config.env.options["z"]) == (5, "gmm", 1)
    assert mistakes(saved, "training.offline_stps=5")["unknown key training.offline_stps"].where == "command line"


def test_groups_cannot_be_chosen_on_it(saved: Path) -> None:
    found = mistakes(saved, "policy=bc", "env=lift", "training.lr=x")
    assert set(found) == {"policy=bc cannot be chosen", "env=lift cannot be chosen", "training.lr is x"}
    assert "policy.<key>=<value>" in found["policy=bc cannot be chosen"].fix
    assert "leave --config-dir" in found["policy=bc cannot be chosen"].fix


def test_every_mistake_of_the_file_is_named_with_its_line(saved: Path) -> None:
    file = saved / "config.yaml"
    text = file.read_text().replace("batch_size: 100", "batch_sizes: 100").replace("device: auto", "device: tpu")
    text = text.replace("  head: deterministic\n", "  head: deterministic\n  head: gmm\n").replace(
        "lr: 1.0e-05", "lr: '0'"
    )
    file.write_text(text)
    lines = text.splitlines()
    found = mistakes(saved)
    assert set(found) == {
        "policy.head is given twice",
        "unknown key training.batch_sizes",
        "training.batch_size is missing",
        "device is tpu",
        "training.lr is 0",
    }
    assert found["device is tpu"].where == f"{file}:{lines.index('device: tpu') + 1}"
    assert found["training.lr is 0"].where.endswith(":" + str([line.strip() for line in lines].index("lr: '0'") + 1))
    assert found["training.batch_size is missing"].where.startswith(str(file))


def test_a_file_that_is_no_configuration(saved: Path) -> None:
    (saved / "config.yaml").write_text("- 1\n")
    assert "config.yaml is not a configuration" in mistakes(saved)
    (saved / "config.yaml").write_text("seed: [1\ndevice: 2\n")
    assert mistakes(saved)["this is not YAML"].where == f"{saved}/config.yaml:2"
    (saved / "config.yaml").write_text("seed: 1\npolicy: bc\n")
    assert "policy is bc" in mistakes(saved)
    (saved / "config.yaml").write_text("policy: {name: bcc}\n")
    assert mistakes(saved)["policy.name is bcc"].fix == "policy=bc"
    (saved / "config.yaml").write_bytes(b"\xff\xfe\x00")
    assert len(mistakes(saved)) == 1


def test_a_place_that_does_not_exist(saved: Path, tmp_path: Path) -> None:
    assert mistakes(saved, name="confg")["there is no configuration confg"].fix == "--config-name config"
    assert mistakes(saved / "nothing")[f"{saved}/nothing is not a folder"].why == "it does not exist"
    assert "--config-name config" in mistakes(saved / "config.yaml")[f"{saved}/config.yaml is not a folder"].fix
    with pytest.raises(ConfigError, match="copy the file"):
        compose([], config_dir="s3://b/c", config_name="config")
    with pytest.raises(ConfigError, match="--config-name config"):
        compose([], config_dir=str(saved))


def test_floats_stay_floats_for_every_yaml() -> None:
    config = compose(["data.uri=x", "training.lr=1e-05", "++policy.min_std=1e20", "training.weight_decay=2"])
    for tree in (yaml.safe_load(to_yaml(config)), OmegaConf.to_container(OmegaConf.create(to_yaml(config)))):
        assert from_dict(tree) == config
        assert [type(tree["training"][key]) for key in ("lr", "weight_decay")] == [float, float]
    assert "lr: 1.0e-05\n" in to_yaml(config)


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["yes", "on", "1e-5", "1_0", "0o7", "0x1", "1:30", "~", "2020-01-01", "null", "=", "<<", "NaN", ".5"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz_", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text("abcxyz_", min_size=1), TREES, max_size=3))
def test_what_is_dumped_reads_back_the_same(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]) -> None:
    text = dump_yaml(tree)
    path = tmp_path_factory.mktemp("yaml", numbered=True) / "x.yaml"
    path.write_text(text, encoding="utf-8")
    for read in (yaml.safe_load(text) or {}, read_yaml(path).tree or {}):
        assert read == tree
        assert repr(read) == repr(tree)  # 1 is not 1.0, True is not 1


def test_from_dict_reports_everything() -> None:
    tree = to_dict(compose(["data.uri=x"]))
    tree["seed"] = "many"
    del tree["eval"]
    tree["extra"] = 1
    with pytest.raises(ConfigError) as caught:
        from_dict(tree, where="the bundle")
    assert {one.what for one in caught.value.problems} == {"seed is many", "eval is missing", "unknown key extra"}
    assert {one.where for one in caught.value.problems} == {"the bundle"}
