"""Adapters: what learns, killed and resumed to the bit, merged into a bundle that needs neither peft nor base."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tendon.errors import ConfigError, DataError, MissingDependency
from tendon.export.bundle import bundle_digest, export_bundle, find_bundle, load_policy
from tendon.export.parity import compare, fixed_inputs
from tendon.storage import open_store
from tendon.train.state.checkpoint import complete
from tendon.weights.lora import Lora, add_lora, merged_state, without_adapters
from tests.train.killed_trial import start_trial
from tests.train.small_trial import run
from tests.train.test_resume import outcome
from tests.weights.base_policy import base_module, on_base, save_base

peft_reason = "peft is not installed: pip install 'tendon-robotics[lora]'"


@pytest.fixture(scope="module", autouse=True)
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("published") / "base.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    pytest.importorskip("peft", reason=peft_reason)
    store = tmp_path_factory.mktemp("store")
    run(store / "trials/whole", policy=on_base(base, "WithLora"))
    return store / "trials/whole"


@pytest.fixture(scope="module")
def exportable(tmp_path_factory: pytest.TempPathFactory, base: Path, hooks_installed: None) -> Path:
    """The same, of a policy that a fresh process finds by its name."""
    pytest.importorskip("peft", reason=peft_reason)
    store = tmp_path_factory.mktemp("store")
    run(store / "trials/whole", policy=on_base(base, "WithLora", "hooks"))
    return store / "trials/whole"


def test_without_peft_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependency, match=r"pip install 'tendon-robotics\[lora\]'"):
        add_lora(base_module(), Lora(targets=("0",)))


def test_only_adapters_learn_and_a_wrong_target_lists_the_layers() -> None:
    pytest.importorskip("peft", reason=peft_reason)
    module = base_module()
    add_lora(module, Lora(rank=2, targets=("0",)))
    learning = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert learning == {"0.lora_A.lora.weight", "0.lora_B.lora.weight"}
    with pytest.raises(ConfigError, match="no layer is called nowhere") as caught:
        add_lora(base_module(), Lora(targets=("nowhere",)))
    assert "0, 2" in caught.value.problems[0].fix


def test_adapters_of_a_base_on_the_meta_device_have_their_usual_start() -> None:
    pytest.importorskip("peft", reason=peft_reason)
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(4, 4))
    add_lora(module, Lora(rank=2, targets=("0",)))
    values = dict(module.named_parameters())
    assert values["0.lora_A.lora.weight"].abs().sum() > 0
    assert not values["0.lora_B.lora.weight"].any()
    assert values["0.base_layer.weight"].is_meta


def test_adapters_learn_and_a_checkpoint_holds_them_alone(trained: Path) -> None:
    saved = load_file(trained / "checkpoints/000040/pretrained_model/model.safetensors")
    adapters = {f"base.{layer}.lora_{half}.lora.weight" for layer in (0, 2) for half in "AB"}
    assert set(saved) == adapters | {"first.weight", "first.bias", "second.weight", "second.bias"}
    assert saved["base.0.lora_B.lora.weight"].any()


@pytest.mark.long
def test_killed_with_adapters_it_ends_with_the_same_bytes(tmp_path: Path, base: Path, trained: Path) -> None:
    config, uri = on_base(base, "WithLora"), tmp_path / "trials/cut"
    for event, number in (("batch", 19), ("batch", 37)):
        process, _ = start_trial(uri, event, number, policy=config)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    newest = int(complete(open_store(str(uri)))[0])
    assert newest >= 10
    assert run(uri, policy=config).resumed_from == newest
    assert outcome(uri) == outcome(trained)


def test_a_bundle_names_its_base_and_acts_alike(exportable: Path, tmp_path: Path) -> None:
    checkpoint = str(exportable / "checkpoints/000040")
    bundle = export_bundle(checkpoint, str(exportable / "bundle"))
    assert bundle.parity["max_abs_difference"] == 0
    spec = json.loads((exportable / "bundle/weights.json").read_text())
    assert list(spec["base"]) == ["base"]
    assert bundle_digest(checkpoint) == bundle.digest
    elsewhere = export_bundle(checkpoint, str(tmp_path / "away/bundle"))  # its base goes along
    assert (tmp_path / "away/weights" / spec["base"]["base"]["sha256"]).is_dir()
    assert elsewhere.digest == bundle.digest


def test_a_self_contained_bundle_needs_neither_base_nor_peft(
    exportable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = str(exportable / "checkpoints/000040")
    policy, info = load_policy(checkpoint)
    bundle = export_bundle(checkpoint, str(tmp_path / "bundle"), self_contained=True)
    assert 0 <= bundle.parity["max_abs_difference"] <= bundle.parity["tolerance"] == 1e-4
    assert find_bundle(bundle.uri, checkpoint, self_contained=True) == bundle
    assert find_bundle(bundle.uri, checkpoint) is None  # not the one that names its base
    assert not (tmp_path / "weights").exists()
    monkeypatch.setitem(sys.modules, "peft", None)
    merged, same = load_policy(bundle.uri)
    assert same == info
    inputs = fixed_inputs(policy, info.features)
    assert compare("merged", policy, merged, inputs, 1e-4).holds
    assert not any("lora" in name or "base_layer" in name for name in merged.state_dict())


def test_whole_weights_with_adapters_merged_as_shards(exportable: Path, tmp_path: Path) -> None:
    from tendon.export.foreign import export_weights
    from tendon.weights.load import read_tensors

    record = export_weights(str(exportable / "checkpoints/000040"), str(tmp_path / "out"), "safetensors")
    assert record.tolerance == 1e-4
    names = {name for name, _ in read_tensors(tmp_path / "out")}
    assert {"base.0.weight", "base.1.running_mean", "first.weight"} <= names
    assert not any("lora" in name for name in names)


def test_a_base_that_is_gone_is_told(exportable: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(exportable / "checkpoints/000040", tmp_path / "store/trials/x/checkpoints/000040")
    file = copied / "pretrained_model/weights.json"
    changed: dict[str, Any] = json.loads(file.read_text())
    changed["base"]["base"]["uri"] = str(tmp_path / "nowhere.safetensors")
    from tendon.export.bundle import read_policy

    file.write_text(json.dumps(changed))
    with pytest.raises(DataError, match="no such weights"):
        read_policy(copied / "pretrained_model", str(copied))


def test_merging_is_what_peft_computes() -> None:
    pytest.importorskip("peft", reason=peft_reason)
    module = base_module()
    add_lora(module, Lora(rank=2, alpha=6, targets=("0", "2")))
    for name, parameter in module.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
    with without_adapters():
        plain = base_module()
        add_lora(plain, Lora(targets=("0",)))  # does nothing
    plain.load_state_dict(merged_state(module))
    seen = torch.randn(8, 4)
    torch.testing.assert_close(plain(seen), module(seen))
