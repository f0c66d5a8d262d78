from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tendon.config.compose import compose
from tendon.errors import DataError
from tendon.export import bundle as bundle_module
from tendon.export.bundle import bundle_digest, export_bundle, find_bundle, load_policy
from tendon.export.fresh import act_in_fresh_process
from tendon.export.parity import compare, demand, fixed_inputs
from tendon.policies.registry import make_policy
from tendon.policies.spec import PolicySpec
from tests.policies.features_of import features_of
from tests.train.small_trial import run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run(tmp_path_factory.mktemp("trial")).checkpoint_uri


def test_bundle_files_and_record(checkpoint: str, tmp_path: Path) -> None:
    bundle = export_bundle(checkpoint, str(tmp_path))
    names = {
        ".complete.json",
        "card.md",
        "config.yaml",
        "model.safetensors",
        "parity.json",
        "policy.json",
        "stats.json",
    }
    assert {path.name for path in tmp_path.iterdir()} == names
    record = json.loads((tmp_path / "parity.json").read_text())
    assert record == dict(bundle.parity)
    assert (record["max_abs_difference"], record["tolerance"], record["holds"]) == (0.0, 0.0, True)
    assert len(record["inputs"]) == 64
    assert record["what"].startswith("bundle in a fresh process")
    assert record["sha256"] == {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "config.yaml", "stats.json", "policy.json")
    }
    assert "`observation.a_agent` (2)" in (tmp_path / "card.md").read_text()
    described = json.loads((tmp_path / "policy.json").read_text())
    assert {key: (one["kind"], one["shape"]) for key, one in described["features"].items()} == {
        "observation.b_target": ("state", [2]),
        "observation.a_agent": ("state", [2]),
        "action": ("action", [2]),
    }
    assert list(described["windows"]["acting"]) == ["observation.a_agent", "observation.b_target"]


def test_bundle_and_checkpoint_act_alike(checkpoint: str, tmp_path: Path) -> None:
    bundle = export_bundle(checkpoint, str(tmp_path))
    trained, info = load_policy(checkpoint)
    exported, same_info = load_policy(bundle.uri)
    assert info == same_info
    assert not exported.training
    inputs = fixed_inputs(trained, info.features)
    assert compare("x", trained, exported, inputs).max_abs_difference == 0.0
    assert bundle_digest(checkpoint) == bundle_digest(bundle.uri) == bundle.digest


def test_the_card_tells_the_truth(checkpoint: str, tmp_path: Path) -> None:
    policy, info = load_policy(export_bundle(checkpoint, str(tmp_path)).uri)
    action, _ = policy.act({key: torch.zeros(1, 1, info.features[key].dim) for key in policy.reads})
    assert action["action"].shape == (1, 1, 2)
    assert "to {action: [1, 1, 2]}" in (tmp_path / "card.md").read_text()


def test_made_once(checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = export_bundle(checkpoint, str(tmp_path))
    monkeypatch.setattr(bundle_module, "_fetch", None)  # nothing is read again
    assert export_bundle(checkpoint, str(tmp_path)) == first
    assert find_bundle(str(tmp_path), "another/checkpoint") is None
    (tmp_path / "policy.json").write_bytes(b"{")
    assert find_bundle(str(tmp_path), checkpoint) is None


def test_the_checkpoint_may_be_pruned_later(checkpoint: str, tmp_path: Path) -> None:
    gone = tmp_path / "trial/checkpoints/000040"
    shutil.copytree(checkpoint, gone)
    bundle = export_bundle(str(gone), str(tmp_path / "bundle"))
    shutil.rmtree(gone)
    assert find_bundle(bundle.uri, str(gone)) == bundle


def test_a_policy_that_acts_otherwise_is_refused(checkpoint: str) -> None:
    trained, info = load_policy(checkpoint)
    other, _ = load_policy(checkpoint)
    with torch.no_grad():
        next(iter(other.parameters())).add_(1e-3)
    record = compare("bundle", trained, other, fixed_inputs(trained, info.features))
    assert not record.holds
    with pytest.raises(DataError, match="does not act as"):
        demand(record, "here")
    with torch.no_grad():
        next(iter(other.parameters())).fill_(float("nan"))
    assert not compare("bundle", trained, other, fixed_inputs(trained, info.features), tolerance=1e9).holds


def test_the_bundle_is_asked_in_a_process_of_its_own(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that acts differently at work than its files say, in this process: two copies of a file would agree."""
    from tendon.policies.bc.model import Bc

    plain = Bc.act

    def act(self: Bc, *arguments: Any) -> tuple[dict[str, torch.Tensor], Any]:
        actions, memory = plain(self, *arguments)
        return {key: action + 1e-3 for key, action in actions.items()}, memory

    monkeypatch.setattr(Bc, "act", act)
    with pytest.raises(DataError, match=r"fresh process .* does not act as") as caught:
        export_bundle(checkpoint, str(tmp_path))
    assert "the largest difference of an action is 0.00" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_memory_that_is_lost_late_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a recurrent policy that is not carried from its sixth step on."""
    from tendon.policies.bc_rnn.model import BcRnn

    small = {"policy.hidden_dim": 8, "policy.hidden_dims": "[]", "policy.horizon": 10, "policy.seq_length": 10}
    config = compose(["policy=bc_rnn", "data.uri=x", *(f"{key}={value}" for key, value in small.items())])
    features = features_of({"observation.a_agent": 2, "action": 2})
    policy = make_policy(config.policy, features).eval()
    inputs = fixed_inputs(policy, features)
    folder = tmp_path / "policy"
    folder.mkdir()
    save_file(policy.state_dict(), folder / "model.safetensors")
    info = PolicySpec(config.policy, features, policy.windows)
    (folder / "policy.json").write_text(json.dumps(info.to_json()))
    actions = act_in_fresh_process(folder, inputs, "here")
    assert compare("bundle", policy, actions, inputs).holds
    assert len({action["action"].numpy().tobytes() for action in actions}) == len(inputs)
    plain = BcRnn.act

    def forgetful(self: BcRnn, observation: Any, memory: Any = None) -> tuple[dict[str, torch.Tensor], Any]:
        if memory["step"][0] == 6:
            memory = memory | {"state": torch.zeros_like(memory["state"])}
        return plain(self, observation, memory)

    monkeypatch.setattr(BcRnn, "act", forgetful)
    assert not compare("bundle", policy, actions, inputs).holds


def test_a_bundle_that_cannot_act_alone_says_why(checkpoint: str, tmp_path: Path) -> None:
    policy, info = load_policy(checkpoint)
    (tmp_path / "policy.json").write_text("{}")
    with pytest.raises(DataError, match="in a process of its own") as caught:
        act_in_fresh_process(tmp_path, fixed_inputs(policy, info.features), "s3://bucket/bundle")
    assert caught.value.problems[0].where == "s3://bucket/bundle"
    assert "cannot be read" in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "stats.json"])
def test_a_copy_is_proven_by_its_sha256(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also of a file that no action depends on."""
    plain = shutil.copyfile

    def copy(source: Path, target: Path) -> None:
        plain(source, target)
        if Path(target).name == name:
            data = bytearray(Path(target).read_bytes())
            data[-3] ^= 1
            Path(target).write_bytes(data)

    monkeypatch.setattr(shutil, "copyfile", copy)
    with pytest.raises(DataError, match=f"{name} of the bundle is not the checkpoint's"):
        export_bundle(checkpoint, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing or incomplete"):
        load_policy(str(tmp_path))
    with pytest.raises(DataError, match="missing or incomplete"):
        export_bundle(str(tmp_path / "a"), str(tmp_path / "b"))


def test_damaged_weights_are_named(checkpoint: str, tmp_path: Path) -> None:
    export_bundle(checkpoint, str(tmp_path))
    weights = tmp_path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DataError, match=r"model\.safetensors"):
        load_policy(str(tmp_path))
