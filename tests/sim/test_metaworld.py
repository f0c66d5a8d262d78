"""The real simulator: `tendon sims install metaworld` first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tendon.config.compose import compose
from tendon.errors import ConfigError
from tendon.evaluate import sims
from tendon.evaluate.demo_episodes import expert_episodes
from tendon.evaluate.experts import ExpertSettings
from tendon.evaluate.guest import Guest

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(not sims.installed("metaworld"), reason="metaworld is missing: tendon sims install metaworld"),
]


def env_of(*overrides: str) -> Any:
    return compose(["env=metaworld", "data.uri=x", *overrides]).env


def trajectory(guest: Guest, seed: int, actions: np.ndarray) -> np.ndarray:
    seen = [guest.reset(seed), *(guest.step(action).observation for action in actions)]
    return np.stack([np.concatenate([one["agent_pos"], one["environment_state"]]) for one in seen])


def test_a_seed_is_one_episode_whatever_ran_before() -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 4))
    with Guest(env_of()) as guest:
        first = trajectory(guest, 100_003, actions)
        assert first.shape == (21, 39)
        assert guest.instruction == "faucet close"  # 100 003 modulo 5 tasks is 3
        trajectory(guest, 100_004, actions[::-1])
        trajectory(guest, 100_008, actions)
        assert trajectory(guest, 100_003, actions).tobytes() == first.tobytes()
    with Guest(env_of()) as fresh:
        assert trajectory(fresh, 100_003, actions).tobytes() == first.tobytes()


def test_the_goal_is_seen_and_other_words_may_be_said() -> None:
    with Guest(env_of("env.task=reach-v3", "env.options.instructions={reach-v3: touch the dot}")) as guest:
        goals = [guest.reset(seed)["environment_state"][-3:] for seed in (1, 2)]
        assert guest.instruction == "touch the dot"
        assert np.abs(goals[0]).min() > 0
        assert np.abs(goals[0] - goals[1]).max() > 0.01
        stepped = guest.step(np.zeros(4)).observation["environment_state"][-3:]
    assert np.array_equal(stepped, goals[1])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("env.task=reech-v3", "no task 'reech-v3'"),
        ("env.fps=20", "80 steps a second"),
        ("env.options.instructions={push-wall-v3: x}", "no task here"),
        ("env.options.speed=2", "no option 'speed'"),
    ],
)
def test_what_it_does_not_have_is_refused(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words), Guest(env_of(override)):
        pass


def test_its_experts_demonstrate_every_task_with_its_words() -> None:
    settings = ExpertSettings(env_of(), episodes=5, seed=5, noise=0.0)
    with expert_episodes(settings, "demo://metaworld", "x") as source:
        tasks = {source.read(one.episode_id, images=False).task for one in source.describe().episodes}
        columns = {each.key: each.dim for each in source.describe().schema.columns if each.kind != "reward"}
    assert tasks == {"reach", "push", "faucet open", "faucet close", "button press topdown"}
    assert columns["observation.state"] == 4
    assert columns["observation.environment_state"] == 35


def test_fifty_tasks() -> None:
    with Guest(env_of("env.task=MT50")) as guest:
        told = []
        for seed in (0, 49):
            guest.reset(seed)
            told.append(guest.instruction)
    assert len(set(told)) == 2
