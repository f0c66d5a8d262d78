"""The real simulator: `tendon sims install libero` first (0.5 GB)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tendon.config.compose import compose
from tendon.errors import ConfigError
from tendon.evaluate import sims
from tendon.evaluate.guest import Guest

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(not sims.installed("libero"), reason="libero is missing: tendon sims install libero"),
]
NUMBERS = "env.observation=[agent_pos,task]"


def env_of(*overrides: str) -> Any:
    return compose(["env=libero", "data.uri=x", *overrides]).env


def test_a_seed_is_one_task_and_one_start_whatever_ran_before() -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 7))

    def played(guest: Guest, seed: int) -> np.ndarray:
        first = guest.reset(seed)["agent_pos"]
        return np.stack([first, *(guest.step(action).observation["agent_pos"] for action in actions)])

    with Guest(env_of(NUMBERS)) as guest:
        first = played(guest, 100_003)
        assert first.shape == (6, 8)
        told = guest.instruction
        assert told.startswith("pick up the black bowl")
        played(guest, 100_013)  # the same task from its next start
        assert guest.instruction == told
        assert np.array_equal(played(guest, 100_003), first)
    with Guest(env_of(NUMBERS, "env.task=libero_spatial/3")) as one:
        assert np.array_equal(played(one, 10_000), first)  # start 0 of 50, as seed 100 003 of the suite
        assert one.instruction == told


def test_cameras_are_drawn_upright_and_as_the_published_data_has_them() -> None:
    small = "env.cameras.agentview={height: 64, width: 64, key: observation.images.image}"
    with Guest(env_of("env.task=libero_spatial/0", "env.observation=[agentview_image,agent_pos,task]", small)) as guest:
        seen = guest.reset(100_000)["agentview_image"]
        shown = guest.render(64, 64, "agentview")
    assert seen.shape == (64, 64, 3)
    assert seen.std() > 10
    assert np.abs(seen[:, ::-1].astype(int) - shown).mean() < 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("env.task=libero_spacial", "no suite 'libero_spacial'"),
        ("env.task=libero_spatial/10", "no task '10'"),
        ("env.fps=10", "20 steps a second"),
    ],
)
def test_what_it_does_not_have_is_refused(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words), Guest(env_of(NUMBERS, override)) as guest:
        guest.reset(1)
