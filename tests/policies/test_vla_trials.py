"""Runs of tiny vision-language-action policies: what a checkpoint holds, killed and resumed, two processes, a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tendon.export.bundle import export_bundle, load_policy
from tests.benchmarks.train_faults import ended
from tests.policies.vla_trials import LORA, STEPS, make_dataset, on_base, run, run_killed, run_ranks, save_base

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'tendon-robotics[vla]'")
pytest.importorskip("peft", reason="peft is not installed: pip install 'tendon-robotics[lora]'")

LAST = f"checkpoints/{STEPS:06d}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vla")


@pytest.fixture(scope="module")
def dataset(folder: Path) -> str:
    return make_dataset(folder)


@pytest.fixture(scope="module")
def overrides(folder: Path) -> tuple[str, ...]:
    return (*LORA, *on_base(save_base(folder / "base.safetensors", "pi0")), "policy.base_dtype=bfloat16")


@pytest.fixture(scope="module")
def trained(folder: Path, dataset: str, overrides: tuple[str, ...]) -> Path:
    run(dataset, folder / "trials/whole", "pi0", *overrides)
    return folder / "trials/whole"


def test_a_checkpoint_holds_what_learns_and_the_base_is_kept_once(folder: Path, trained: Path) -> None:
    saved = load_file(trained / LAST / "pretrained_model/model.safetensors")
    assert any("lora_A" in name for name in saved)
    whole = [name for name in saved if name.startswith("net.") and "lora_" not in name]
    parts = ("state_proj", "action_in_proj", "action_out_proj", "action_time_mlp_in", "action_time_mlp_out")
    assert {name.split(".")[1] for name in whole} == set(parts)
    assert all(tensor.dtype == torch.float32 for name, tensor in saved.items() if name.startswith("net."))
    (kept,) = (folder / "weights").glob("*/model.safetensors")
    assert kept.stat().st_size > 0


@pytest.mark.parametrize("at", [pytest.param(0, marks=pytest.mark.long), 3, pytest.param(6, marks=pytest.mark.long)])
def test_killed_at_any_update_a_run_with_adapters_ends_with_the_same_bytes(
    at: int, tmp_path: Path, dataset: str, trained: Path, overrides: tuple[str, ...]
) -> None:
    assert run_killed(dataset, tmp_path / "trials/cut", "pi0", *overrides, at=at) == -9
    assert run(dataset, tmp_path / "trials/cut", "pi0", *overrides).step == STEPS
    assert ended(tmp_path / "trials/cut", STEPS) == ended(trained, STEPS)


@pytest.mark.long
def test_a_bundle_acts_alike_and_merged_too(trained: Path, tmp_path: Path) -> None:
    checkpoint = str(trained / LAST)
    bundle = export_bundle(checkpoint, str(trained.parent / "bundle"))
    assert bundle.parity["max_abs_difference"] == 0
    policy, info = load_policy(bundle.uri)
    assert list(info.texts[:2]) == policy.processing.texts[:2]  # type: ignore[union-attr]
    merged = export_bundle(checkpoint, str(tmp_path / "merged"), self_contained=True)
    assert merged.parity["max_abs_difference"] <= 5e-2  # the base is held in bfloat16


def test_fast_is_fitted_before_the_first_update_and_travels_with_the_weights(dataset: str, tmp_path: Path) -> None:
    first = run(dataset, tmp_path / "trials/one", "pi0fast")
    saved = load_file(tmp_path / "trials/one" / LAST / "pretrained_model/model.safetensors")
    assert int(saved["fast.limits"][1]) > int(saved["fast.limits"][0])
    policy, _ = load_policy(first.checkpoint_uri)
    assert policy.fast.num_tokens > 0  # type: ignore[union-attr]
    assert run_killed(dataset, tmp_path / "trials/cut", "pi0fast", at=4) == -9
    run(dataset, tmp_path / "trials/cut", "pi0fast")
    assert ended(tmp_path / "trials/cut", STEPS) == ended(tmp_path / "trials/one", STEPS)


@pytest.mark.long
def test_two_processes_train_it_as_one_does_whole_and_sharded(
    dataset: str, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    steps = ("training.offline_steps=2", "training.valid_freq=2", "policy.lora_dropout=0.0")
    trials = [
        (str(tmp_path / "trials/ddp"), "pi0fast", steps[:2]),
        (str(tmp_path / "trials/fsdp"), "pi0", (*overrides, *steps, "training.sharding=fsdp")),
        (str(tmp_path / "trials/gr00t"), "gr00t_n1_5", (*steps[:2], "training.sharding=fsdp")),
    ]
    assert run_ranks(dataset, trials) == [0, 0]
    saved = load_file(tmp_path / "trials/fsdp/checkpoints/000002/pretrained_model/model.safetensors")
    assert saved["net.gemma.layers.0.expert.self_attn.q_proj.lora_B.lora.weight"].abs().sum() > 0
