"""A configuration cannot read the environment, and cannot grow without end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tendon.commands import load_sweep
from tendon.config.compose import compose, from_dict, to_dict, to_yaml
from tendon.config.sweep import parse_sweep
from tendon.errors import ConfigError

SECRET = "the-secret-of-this-pod"
CALLS = [
    "${oc.env:POD_SECRET}",
    "${ oc.env : POD_SECRET }",
    "before ${oc.env:POD_SECRET} after",
    "${oc.decode:${oc.env:POD_SECRET}}",
    "${oc.env:POD_${env.name}}",
    "${env.${oc.env:POD_SECRET}}",
    "${oc.select:env.name}",
    "${oc.create:{a: 1}}",
    "${hydra:runtime.cwd}",
    "${now:%Y}",
    "${python_version:major}",
    "${anything:1}",
]


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_SECRET", SECRET)


@pytest.mark.parametrize("call", CALLS)
def test_an_override_calls_no_resolver(call: str) -> None:
    with pytest.raises(ConfigError, match="calls a resolver") as caught:
        compose(["experiment=lift_bc", "data.uri=x", f'env.options={{note: "{call}"}}'])
    assert SECRET not in str(caught.value)
    assert caught.value.exit_code == 2


def test_pointing_at_another_key_stays() -> None:
    config = compose(["experiment=lift_bc", "data.uri=x", 'env.options={note: "${data.split}"}'])
    assert config.env.options["note"] == config.data.split == "train"


@pytest.mark.parametrize("call", CALLS)
def test_a_saved_configuration_calls_no_resolver(call: str, tmp_path: Path) -> None:
    saved = to_yaml(compose(["experiment=lift_bc", "data.uri=x", "env.options={note: here}"]))
    (tmp_path / "config.yaml").write_text(saved.replace("note: here", f"note: {json.dumps(call)}"))
    with pytest.raises(ConfigError, match="calls a resolver") as caught:
        compose([], config_dir=str(tmp_path), config_name="config")
    assert "config.yaml:" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_configuration_of_a_bundle_resolves_nothing() -> None:
    tree = to_dict(compose(["experiment=lift_bc", "data.uri=x", "env.options={note: here}"]))
    tree["env"]["options"]["note"] = "${oc.env:POD_SECRET}"
    with pytest.raises(ConfigError) as caught:
        from_dict(tree)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "defaults:\n- /env: ${oc.env:POD_SECRET}\n",
        "data:\n  uri: ${oc.env:POD_SECRET}\n",
        "hydra:\n  run:\n    dir: ${oc.env:POD_SECRET}\n",
        "${oc.env:POD_SECRET}: 1\n",
    ],
)
def test_a_file_of_a_folder_calls_no_resolver(text: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\n" + text)
    with pytest.raises(ConfigError, match="calls a resolver") as caught:
        compose(["experiment=mine", "data.uri=x"], config_dir=str(tmp_path))
    assert "mine.yaml" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_sweep_calls_no_resolver(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="calls a resolver"):
        parse_sweep([{"key": "training.device", "values": ["cpu", "${oc.env:POD_SECRET}"]}])
    (tmp_path / "sweep.yaml").write_text("- {key: training.device, values: ['${oc.env:POD_SECRET}']}\n")
    with pytest.raises(ConfigError, match="calls a resolver"):
        parse_sweep(load_sweep(str(tmp_path / "sweep.yaml")))


LAUGHS = "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
BOMBS = {
    "aliases": LAUGHS,
    "mappings": "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}\n" for i in range(1, 40)),
    "itself": "a: &a [*a]\n",
    "depth": "a: " + "[" * 5000 + "]" * 5000 + "\n",
    "bytes": "a: " + "x" * (2 << 20) + "\n",
}


READERS: dict[str, Callable[[Path], object]] = {
    "saved": lambda folder: compose([], config_dir=str(folder), config_name="bomb"),
    "tree": lambda folder: compose(["env=bomb", "data.uri=x"], config_dir=str(folder)),
    "sweep": lambda folder: load_sweep(str(folder / "bomb.yaml")),
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("place", READERS)
def test_a_file_that_grows_without_end_is_refused(bomb: str, place: str, tmp_path: Path) -> None:
    began = time.monotonic()
    path = tmp_path / ("env/bomb.yaml" if place == "tree" else "bomb.yaml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(BOMBS[bomb])
    with pytest.raises(ConfigError, match="too large"):
        READERS[place](tmp_path)
    assert time.monotonic() - began < 20


def test_a_sweep_of_any_size_is_judged_before_it_is_built(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be drawn"):
        parse_sweep([{"key": "training.lr", "values": {"uniform": [0, 1], "count": 10**12}}])
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(ConfigError, match="too deep"):
        load_sweep(str(tmp_path / "deep.json"))
