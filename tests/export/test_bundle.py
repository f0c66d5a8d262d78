from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tendon.errors import DataError
from tendon.export import bundle as bundle_module
from tendon.export.bundle import bundle_digest, export_bundle, find_bundle, load_policy
from tendon.export.parity import compare, demand, fixed_inputs
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
    assert "`observation.a_agent` (2)" in (tmp_path / "card.md").read_text()
    described = json.loads((tmp_path / "policy.json").read_text())
    assert described["features"] == {"observation.b_target": 2, "observation.a_agent": 2, "action": 2}
    assert described["window"]["observation_keys"] == ["observation.a_agent", "observation.b_target"]


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
    action, _ = policy.act({key: torch.zeros(1, 1, info.features[key]) for key in policy.window.observation_keys})
    assert action.shape == (1, 1, 2)
    assert "-> [1, 1, 2]" in (tmp_path / "card.md").read_text().replace("to [", "-> [")


def test_made_once(checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = export_bundle(checkpoint, str(tmp_path))
    monkeypatch.setattr(bundle_module, "_fetch", None)  # nothing is read again
    assert export_bundle(checkpoint, str(tmp_path)) == first
    assert find_bundle(str(tmp_path), "another/checkpoint") is None
    (tmp_path / "policy.json").write_bytes(b"{")
    assert find_bundle(str(tmp_path), checkpoint) is None


def test_the_checkpoint_may_be_pruned_later(checkpoint: str, tmp_path: Path) -> None:
    import shutil

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


def test_export_fails_when_parity_does(checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bundle_module.read_policy

    def other_weights(folder: Path, where: str, device: str = "cpu") -> object:
        policy, info = whole(folder, where, device)
        if where == str(tmp_path):
            with torch.no_grad():
                next(iter(policy.parameters())).add_(1e-3)
        return policy, info

    monkeypatch.setattr(bundle_module, "read_policy", other_weights)
    with pytest.raises(DataError, match="does not act as"):
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
