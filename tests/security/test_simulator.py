"""A simulator that says something impossible has crashed; it knows none of this process's secrets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tendon import trust
from tendon.config.schema import EnvConfig
from tendon.evaluate.guest import Guest, GuestCrash

ADAPTER = """
import os
import numpy as np
from tendon_sim.adapters.reach import Adapter as Reach

class Adapter(Reach):
    def make(self, task, options, fps, cameras, size):
        self.says = options["says"]
        return super().make(task, {}, fps, cameras, size)

    def step(self, action):
        observation, reward, success, done = super().step(action)
        if self.says == "environment":
            raise RuntimeError("knows " + " ".join(sorted(os.environ)))
        scope = dict(observation=observation, reward=reward, success=success, done=done, np=np)
        exec(self.says, scope)
        return scope["observation"], scope["reward"], scope["success"], scope["done"]
"""
IMPOSSIBLE = {
    "success = 'False'": "neither true nor false",
    "success = None": "neither true nor false",
    "success = 0.5": "neither true nor false",
    "success = np.array([True, False])": "neither true nor false",
    "done = 'no'": "neither true nor false",
    "reward = float('nan')": "not one finite number",
    "reward = float('inf')": "not one finite number",
    "reward = '1.0'": "not one finite number",
    "reward = None": "not one finite number",
    "reward = np.zeros(3)": "not one finite number",
    "observation['agent_pos'] = np.array([np.nan, 0.0])": "not finite",
    "observation['agent_pos'] = np.array([np.inf, 0.0])": "not finite",
    "observation['agent_pos'] = np.zeros(3)": "has the shape",
    "observation['agent_pos'] = 'left'": "is no number",
    "observation.pop('target_pos')": "is missing",
}


@pytest.fixture
def saying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reach: EnvConfig) -> Callable[[str], EnvConfig]:
    from dataclasses import replace

    path = tmp_path / "saying.py"
    path.write_text(ADAPTER)
    monkeypatch.setenv(trust.VARIABLE, trust.sha256_of(path))
    return lambda says: replace(reach, name="saying", simulator=str(path), options={"says": says})


@pytest.fixture
def reach() -> EnvConfig:
    from tests.evaluate.conftest import REACH

    return REACH


@pytest.mark.parametrize("says", IMPOSSIBLE)
def test_what_is_impossible_is_a_crash(says: str, saying: Callable[[str], EnvConfig]) -> None:
    with Guest(saying(says)) as guest:
        guest.reset(1)
        with pytest.raises(GuestCrash) as crash:
            guest.step(np.zeros(2))
    assert IMPOSSIBLE[says] in str(crash.value)


@pytest.mark.parametrize("says", ["success = np.bool_(True)", "success = 1.0", "success = np.array([1])", "reward = 1"])
def test_what_simulators_usually_say_is_taken(says: str, saying: Callable[[str], EnvConfig]) -> None:
    with Guest(saying(says)) as guest:
        guest.reset(1)
        stepped = guest.step(np.zeros(2))
    assert stepped.success is True or stepped.reward == 1.0


def test_a_simulator_gets_no_credentials(saying: Callable[[str], EnvConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "HF_TOKEN", "MY_PASSWORD", "KFP_POD_NAME"):
        monkeypatch.setenv(name, "never")
    monkeypatch.setenv("HARMLESS", "1")
    with Guest(saying("environment")) as guest:
        guest.reset(1)
        with pytest.raises(GuestCrash) as crash:
            guest.step(np.zeros(2))
    told = str(crash.value)
    assert "HARMLESS" in told
    assert not [name for name in ("AWS_", "WANDB_", "HF_TOKEN", "PASSWORD", "KFP_") if name in told]


SEEDS = """
import numpy as np
from tendon_sim.adapters.reach import Adapter as Reach

class Adapter(Reach):
    def make(self, task, options, fps, cameras, size):
        self.says, self.num = options["says"], 0
        return super().make(task, {}, fps, cameras, size)

    def reset(self, seed):
        self.num += 1
        return super().reset({"ignores": self.num, "constant": 3}.get(self.says, seed))

    def step(self, action):
        observation, reward, success, done = super().step(action)
        return observation, reward + (self.num if self.says == "drifts" else 0), success, done
"""


@pytest.mark.parametrize(
    ("says", "note"),
    [
        ("obeys", ""),
        ("ignores", "the simulator ignores its seed"),
        ("constant", "all 3 seeds begin with the same observation"),
        ("drifts", "went another way from step 0"),
    ],
)
def test_a_guest_that_ignores_its_seed_is_found(
    says: str, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reach: EnvConfig
) -> None:
    from dataclasses import replace

    from tendon.config.schema import EvalConfig
    from tendon.evaluate.rollout import evaluate_policy
    from tendon.evaluate.seed_check import SeedCheck
    from tendon.evaluate.table import _seeds_note
    from tests.evaluate.test_rollout import Towards

    path = tmp_path / "seeds.py"
    path.write_text(SEEDS)
    monkeypatch.setenv(trust.VARIABLE, trust.sha256_of(path))
    env = replace(reach, name="seeds", simulator=str(path), options={"says": says})
    checks: list[SeedCheck] = []
    eval = EvalConfig(3, 2, 0, max_crashed=0.5, step_timeout_s=60, start_timeout_s=60)
    results = evaluate_policy(Towards(), env, eval, [11, 12, 13], seed_checked=checks.append)
    assert len(checks) == 1
    found = _seeds_note(results, checks)
    assert (note in found) if note else not found
