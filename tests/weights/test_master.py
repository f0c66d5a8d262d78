"""Weights that learn in bfloat16: they and their moments are; what is judged and exported acts in float32."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tendon.config.compose import compose
from tendon.errors import ConfigError, Interrupted
from tendon.export.bundle import export_bundle, load_policy
from tendon.train.loop.engine import Engine
from tests.train.small_trial import make_config, make_stats, run
from tests.train.test_resume import outcome

LOW = {"precision": "bf16", "master_weights": "bf16"}


def test_matrices_and_their_moments_are_small_vectors_are_not(tmp_path: Path) -> None:
    checkpoint = Path(run(tmp_path, **LOW).checkpoint_uri)
    weights = load_file(checkpoint / "pretrained_model/model.safetensors")
    assert {str(value.dtype) for name, value in weights.items() if name.endswith("weight")} == {"torch.bfloat16"}
    assert {str(value.dtype) for name, value in weights.items() if name.endswith("bias")} == {"torch.float32"}
    moments = load_file(checkpoint / "training_state/optimizer_state.safetensors")
    kinds = {value.dtype for name, value in moments.items() if "exp_avg" in name and value.ndim == 2}
    assert kinds == {torch.bfloat16}


def test_the_average_keeps_its_digits_and_a_resumed_run_its_bytes(tmp_path: Path) -> None:
    settings: dict[str, Any] = LOW | {"ema": {"enable": True}}
    run(tmp_path / "a", **settings)
    with pytest.raises(Interrupted):
        run(tmp_path / "b", lambda k: k == 13 and signal.raise_signal(signal.SIGTERM), **settings)  # type: ignore[func-returns-value]
    run(tmp_path / "b", **settings)
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    averaged = load_file(tmp_path / "a/checkpoints/000040/pretrained_model/model.safetensors")
    assert {value.dtype for value in averaged.values() if value.is_floating_point()} == {torch.float32}


def test_what_is_judged_is_what_is_exported(tmp_path: Path) -> None:
    engine = Engine(make_config(**LOW), make_stats().features)
    seen = {key: torch.randn(5, 1, 2) for key in ("observation.a_agent", "observation.b_target")}
    with engine.judged() as policy:
        assert {parameter.dtype for parameter in policy.parameters()} == {torch.float32}
        policy.act(seen, policy.start(*range(5)))
    assert torch.bfloat16 in {parameter.dtype for parameter in engine.parameters}
    checkpoint = run(tmp_path / "trial", **LOW).checkpoint_uri
    assert export_bundle(checkpoint, str(tmp_path / "bundle")).parity["max_abs_difference"] == 0
    assert {parameter.dtype for parameter in load_policy(checkpoint)[0].parameters()} == {torch.float32}


@pytest.mark.parametrize("policy", ["bc_rnn_gmm", "bc_transformer", "bc_vae"])
def test_every_policy_takes_a_step(policy: str, tmp_path: Path) -> None:
    from dataclasses import replace

    small = ["policy.hidden_dim=8"] if "rnn" in policy else []
    small += ["policy.embed_dim=16", "policy.num_heads=2", "policy.num_layers=1"] if "transformer" in policy else []
    config = compose([f"policy={policy}", "data.uri=x", "policy.action_normalization=min_max", *small])
    base = make_config(lr_warmup_steps=0, lr_scheduler="constant", **LOW)
    engine = Engine(replace(base, policy=config.policy), make_stats().features)
    windows = engine.policy.windows
    times = {key: torch.randn(4, len(span.deltas), 2) for key, span in windows.acting.items()}
    steps = len(windows.training["action"].deltas)
    batch = times | {"action": torch.rand(4, steps, 2), "action_is_pad": torch.zeros(4, steps, dtype=torch.bool)}
    before = [parameter.detach().clone() for parameter in engine.parameters]
    engine.update(batch, 0, measure=True)
    assert any(not torch.equal(old, new) for old, new in zip(before, engine.parameters, strict=True))
    with engine.judged() as judged:
        judged.act(times, judged.start(*range(4)))


def test_it_needs_a_network_that_computes_so() -> None:
    with pytest.raises(ConfigError, match="master_weights=bf16 needs"):
        compose(["data.uri=x", "training.master_weights=bf16"])
