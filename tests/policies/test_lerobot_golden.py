"""The same weights, inputs and draws give LeRobot's losses, gradients and episodes (golden files of LeRobot 0.4.4)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tendon.policies.act.model import Act
from tendon.policies.diffusion.model import Diffusion
from tendon.policies.diffusion.noise_schedule import NoiseSchedule, denoise
from tendon.weights.formats.lerobot.folder import import_policy

GOLDEN = Path(__file__).parents[1] / "golden" / "lerobot_policies"
TOLERANCE = 1e-5
CASES = sorted(file.stem for file in GOLDEN.glob("*_*.npz"))


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """As golden/lerobot_policies/make.py fills the nets."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        return torch.from_numpy(np.abs(values) * 0.5 + 0.5)
    if len(shape) < 2:
        return torch.from_numpy(np.asarray(values * np.float32(0.3) + np.float32(name.endswith("weight"))))
    return torch.from_numpy(values / np.float32(np.sqrt(np.prod(shape[1:]))))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks wait for threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def policy_of(case: str) -> tuple[Any, Any, dict[str, Any]]:
    """The policy with LeRobot's weights; what the file holds; its description."""
    golden = np.load(GOLDEN / f"{case}.npz")
    meta = json.loads(bytes(golden["meta"]))
    weights: dict[str, torch.Tensor] = {}
    for name, size in zip(meta["names"], meta["sizes"], strict=True):
        if f"constant/{name}" in golden:
            weights[name] = torch.from_numpy(golden[f"constant/{name}"])
        elif name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(0)
        else:
            weights[name] = fill(name, tuple(size))
    statistics: dict[str, dict[str, torch.Tensor]] = {}
    for entry in golden:
        if entry.startswith("stat/"):
            _, key, name = entry.split("/")
            statistics.setdefault(key, {})[name] = torch.from_numpy(golden[entry])
    return import_policy(meta["config"], weights, statistics, case).policy, golden, meta


def tensors(golden: Any, prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): torch.from_numpy(golden[name]) for name in golden if name.startswith(prefix)}


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients(case: str) -> None:
    policy, golden, meta = policy_of(case)
    policy.train(meta["policy"] == "act" or not policy.cameras)
    torch.manual_seed(5)
    output = policy.loss(tensors(golden, "in/"))
    np.testing.assert_allclose(output.loss.item(), golden["out/loss"], rtol=TOLERANCE, atol=TOLERANCE)
    expected = {name.removeprefix("out/metric/") for name in golden if name.startswith("out/metric/")}
    assert expected == set(output.metrics)
    for name in expected:
        np.testing.assert_allclose(output.metrics[name], golden[f"out/metric/{name}"], rtol=TOLERANCE, atol=TOLERANCE)
    output.loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in policy.parameters() if p.grad is not None]).item()
    np.testing.assert_allclose(norm, golden["out/grad_norm"], rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_an_episode_of_actions(case: str) -> None:
    """LeRobot's queues refill every so many steps, and see the first observation twice at the beginning."""
    policy, golden, _ = policy_of(case)
    values, windows = tensors(golden, "episode/"), policy.windows
    expected = golden["out/actions"]
    memory = policy.start(*range(expected.shape[1]))
    for step in range(0, len(expected), windows.execute):
        observation = {
            key: torch.stack([values[key][max(0, step + delta)] for delta in span.deltas], 1)
            for key, span in windows.acting.items()
        }
        torch.manual_seed(100 + step)
        if isinstance(policy, Diffusion):
            seen = policy.processing(observation, "acting")
            shape = (expected.shape[1], policy.config.horizon, policy.action_dim)
            noise = torch.stack([torch.randn(shape) for _ in range(policy.num_noises)], 1)
            with torch.no_grad():
                chunk = policy.sample(seen, noise)[:, policy.config.n_obs_steps - 1 :]
            actions = policy.processing.inverse({"action": chunk}, seen)["action"]
        else:
            assert isinstance(policy, Act)
            given, memory = policy.act(observation, memory)
            actions = given["action"]
        for later in range(min(windows.execute, len(expected) - step)):
            np.testing.assert_allclose(
                actions[:, later],
                expected[step + later],
                atol=TOLERANCE,
                rtol=TOLERANCE,
                err_msg=f"step {step + later}",
            )


def test_schedules_are_those_of_diffusers() -> None:
    golden = np.load(GOLDEN / "schedules.npz")
    for name in golden:
        if name.startswith("kept/"):
            schedule = NoiseSchedule(100, name.removeprefix("kept/"), 1e-4, 0.02)  # type: ignore[arg-type]
            np.testing.assert_allclose(schedule.kept(), golden[name], rtol=1e-6)
            continue
        kind, beta, prediction, count = name.split("/")
        steps = NoiseSchedule(100, beta, 1e-4, 0.02).steps(kind, int(count))  # type: ignore[arg-type]
        torch.manual_seed(int(count))
        noise = torch.stack([torch.randn(2, 4, 3) for _ in range(len(steps) if kind == "DDPM" else 1)], 1)

        def predict(sample: torch.Tensor, timestep: int) -> torch.Tensor:
            return torch.tanh(sample * 0.7 + timestep * 0.01)

        made = denoise(steps, predict, noise, predicts_noise=prediction == "epsilon", clip=1.0)
        np.testing.assert_allclose(made, golden[name], atol=TOLERANCE, err_msg=name)


def test_the_numbers_of_the_facts() -> None:
    """What diffusers was measured to give for Diffusion Policy's schedule."""
    schedule = NoiseSchedule(100, "squaredcos_cap_v2", 1e-4, 0.02)
    betas, kept = schedule.betas(), schedule.kept()
    np.testing.assert_allclose(betas[[0, 1, 2, 99]], [6.3128e-4, 1.11694e-3, 1.60290e-3, 0.999], rtol=1e-5)
    np.testing.assert_allclose(kept[[0, 50, 99]], [0.99936873, 0.47826457, 2.42854e-7], rtol=1e-5)
    assert [step.timestep for step in schedule.steps("DDIM", 10)] == [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]
    assert [step.timestep for step in schedule.steps("DDPM", 100)] == [*reversed(range(100))]
