"""Killed inside a phase, at its border or behind it, vqbet and tdmpc end with the bytes of the run that was left alone."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tendon.storage import open_store
from tendon.train.state.checkpoint import digests
from tests.policies.killed_policy import BORDER, STEPS, run, run_killed, run_ranks

MOMENTS = {"vqbet": (2, 5, BORDER - 1, BORDER, BORDER + 2, 14), "tdmpc": (2, 5, 9, 13, 15)}


def outcome(uri: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Digests of the last checkpoint's tensors and the metrics without clocks."""
    files = digests(open_store(f"{uri}/checkpoints/{STEPS:06d}"))
    lines = [json.loads(line) for line in (uri / "metrics.jsonl").read_text().splitlines()]
    timeless = [{key: value for key, value in line.items() if not key.endswith("_s")} for line in lines]
    return {name: sha for name, sha in files.items() if not name.endswith("training_step.json")}, timeless


@pytest.fixture(scope="module", params=["vqbet", "tdmpc"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    uri = tmp_path_factory.mktemp(request.param)
    run(uri, request.param)
    return request.param, outcome(uri), uri


def test_killed_again_and_again_a_trial_ends_with_the_same_bytes(whole: tuple[str, Any, Path], tmp_path: Path) -> None:
    policy, expected, _ = whole
    for moment in MOMENTS[policy]:
        assert run_killed(tmp_path, policy, moment) == -signal.SIGKILL
    run(tmp_path, policy)
    assert outcome(tmp_path) == expected


def test_the_border_is_where_the_configuration_says(whole: tuple[str, Any, Path]) -> None:
    """The flag and the code books are saved with the weights; behind the border the books stand still."""
    policy, _, uri = whole
    if policy != "vqbet":
        pytest.skip("tdmpc has one phase")
    saved = {
        step: load_file(uri / f"checkpoints/{step:06d}/pretrained_model/model.safetensors") for step in (12, STEPS)
    }
    assert all(bool(one["rvq.discretized"]) for one in saved.values())
    lines = [json.loads(line) for line in (uri / "metrics.jsonl").read_text().splitlines()]
    first = {line["step"] for line in lines if "train/recon_l1_error" in line}
    second = {line["step"] for line in lines if "train/offset_loss" in line}
    assert max(first) <= BORDER < min(second)
    fixed = [name for name in saved[12] if name.startswith("rvq.")]
    assert len(fixed) > 10
    assert all(saved[12][name].equal(saved[STEPS][name]) for name in fixed)
    assert any(not saved[12][name].equal(saved[STEPS][name]) for name in saved[12] if name.startswith("gpt."))


def test_the_target_is_saved_and_is_not_the_model(whole: tuple[str, Any, Path]) -> None:
    policy, _, uri = whole
    if policy != "tdmpc":
        pytest.skip("vqbet has no target")
    saved = load_file(uri / f"checkpoints/{STEPS:06d}/pretrained_model/model.safetensors")
    moving = [name for name in saved if name.startswith("online.") and not name.startswith("online.encode.state.3")]
    differing = [name for name in moving if not saved[name].equal(saved[name.replace("online.", "target.", 1)])]
    assert len(differing) > 0.9 * len(moving)


@pytest.mark.parametrize("policy", ["vqbet", "tdmpc"])
def test_a_trial_in_16_bits_ends_near_the_one_in_32(policy: str, tmp_path: Path) -> None:
    """The code books keep their 32 bits."""
    losses = []
    for precision in ("fp32", "bf16"):
        run(tmp_path / precision, policy, f"training.precision={precision}")
        losses.append([line["train/loss"] for line in outcome(tmp_path / precision)[1] if "train/loss" in line])
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


@pytest.mark.long
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    """Of vqbet: each phase's loss passes over half of the net, and the code books follow the vectors of both processes."""
    run(tmp_path / "one", "vqbet", "policy.dropout=0.0")
    assert run_ranks(tmp_path / "two", "vqbet", "policy.dropout=0.0") == [0, 0]
    one, two = (
        load_file(tmp_path / f"{name}/checkpoints/{STEPS:06d}/pretrained_model/model.safetensors")
        for name in ("one", "two")
    )
    for name, value in one.items():
        assert two[name].allclose(value, rtol=1e-3, atol=1e-4), name
