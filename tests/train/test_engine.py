from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tendon.errors import ConfigError
from tendon.train.loop.data_feeds import to_tensors
from tendon.train.loop.device import cpu_threads, pick_device
from tendon.train.loop.engine import Engine, select_features
from tendon.train.state.snapshot import random_state, restore_random_state
from tests.train.small_trial import MemoryLoader, make_config, make_stats, run


def engine_and_batch(**training: object) -> tuple[Engine, dict[str, torch.Tensor]]:
    engine = Engine(make_config(**training), make_stats().features)
    return engine, to_tensors(MemoryLoader(1, 8).batch(0), engine.policy.windows, engine.device)


def norm_of(engine: Engine) -> float:
    return math.sqrt(sum(p.grad.double().square().sum().item() for p in engine.parameters if p.grad is not None))


def test_gradient_norm_is_the_true_one_before_clipping() -> None:
    engine, batch = engine_and_batch()
    update = engine.update(batch, 0, measure=True)
    assert update.grad_norm is not None
    assert update.grad_norm.item() == pytest.approx(norm_of(engine), rel=1e-5)
    assert engine.update(batch, 1, measure=False).grad_norm is None
    clipped, batch = engine_and_batch(grad_clip_norm=0.01)
    again = clipped.update(batch, 0, measure=False)
    assert again.grad_norm is not None
    assert again.grad_norm.item() == pytest.approx(update.grad_norm.item(), rel=1e-6)
    assert norm_of(clipped) == pytest.approx(0.01, rel=1e-3)


def test_the_logged_rate_is_the_next_one_as_lerobot_logs_it() -> None:
    engine, batch = engine_and_batch(lr=1e-4, lr_warmup_steps=500, offline_steps=1000)
    assert engine.update(batch, 0, measure=True).numbers()["lr"] == pytest.approx(2e-7)


def test_validation_leaves_no_trace() -> None:
    engine, batch = engine_and_batch()
    before = random_state()
    numbers = engine.validate([batch, batch])
    assert numbers["loss"] == pytest.approx(engine.policy.loss(batch).loss.item())
    assert engine.policy.training
    assert all(torch.equal(value, before[key]) for key, value in random_state().items())


def test_tensors_share_the_loaders_memory() -> None:
    arrays = MemoryLoader(1, 8).batch(0)
    tensors = to_tensors(arrays, Engine(make_config(), make_stats().features).policy.windows, torch.device("cpu"))
    assert tensors["action"].data_ptr() == arrays["action"].ctypes.data
    assert set(tensors) == {"observation.a_agent", "observation.b_target", "action", "action_is_pad"}


def test_random_state_round_trip() -> None:
    random.gauss(0, 1)
    np.random.normal()
    saved = random_state()
    first = random.random(), random.gauss(0, 1), np.random.normal(size=3).tolist(), torch.randn(3).tolist()
    restore_random_state(saved)
    assert first == (random.random(), random.gauss(0, 1), np.random.normal(size=3).tolist(), torch.randn(3).tolist())


def test_seed_decides_the_weights(tmp_path: Path) -> None:
    one, other = (Engine(replace(make_config(), seed=seed), make_stats().features) for seed in (1, 2))
    same = Engine(replace(make_config(), seed=1), make_stats().features)
    weights = [engine.policy.state_dict()["trunk.0.weight"] for engine in (one, other, same)]
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_decays_the_gradient_and_adamw_the_weights(name: str) -> None:
    """Two steps by the formulas, in float64; their difference is far above the tolerance."""
    rate, decay, eps = 1e-2, 0.3, 1e-8
    options = {"lr": rate, "lr_warmup_steps": 0, "lr_scheduler": "constant", "grad_clip_norm": 0.0, "adam_eps": eps}
    engine, batch = engine_and_batch(optimizer=name, weight_decay=decay, adam_betas=(0.9, 0.99), **options)
    weights = engine.policy.get_parameter("trunk.0.weight")
    expected = weights.detach().double().clone()
    first, second = torch.zeros_like(expected), torch.zeros_like(expected)
    for step in (1, 2):
        engine.policy.zero_grad()
        engine.policy.loss(batch).loss.backward()
        assert weights.grad is not None
        gradient = weights.grad.double().clone()
        if name == "adam":
            gradient += decay * expected
        else:
            expected *= 1 - rate * decay
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient.square()
        expected -= rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.99**step)).sqrt() + eps)
        engine.update(batch, step - 1, measure=False)
        torch.testing.assert_close(weights.detach().double(), expected, rtol=1e-4, atol=2e-6)


def test_features_of_another_env_are_refused() -> None:
    config = make_config()
    config = replace(config, env=replace(config.env, observation=("a_agent", "nowhere")))
    with pytest.raises(ConfigError, match=r"observation\.nowhere"):
        select_features(config, make_stats().features)


def test_device_and_threads() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type in ("cpu", "cuda")
    if torch.cuda.device_count() < 8:
        with pytest.raises(ConfigError, match="device=auto"):
            pick_device("cuda:7")
    before = torch.get_num_threads()
    with cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_save_checkpoint_false_keeps_only_the_end(tmp_path: Path) -> None:
    run(tmp_path, save_checkpoint=False, keep_checkpoints=9)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["000040", "last"]


def test_the_lines_of_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="tendon")
    run(tmp_path)
    lines = [record.getMessage().splitlines()[0] for record in caplog.records]
    heads = [line.split("=")[0].split(" ")[0] for line in lines if not line.startswith(("valid ", "train: "))]
    assert heads[:13] == [
        "cfg:",
        "Logs",
        "Using",
        "Output",
        "cfg.env.task",
        "cfg.training.offline_steps",
        "cfg.training.online_steps",
        "offline_dataset.num_frames",
        "offline_dataset.num_episodes",
        "num_learnable_params",
        "num_total_params",
        "Start",
        "step:0",
    ]
    assert "cfg.training.offline_steps=40 (40)" in lines
    saved = lines.index("Checkpoint policy after step 10")
    assert lines[saved + 1] == "Resume training"
    assert lines[-1] == "End of training"
