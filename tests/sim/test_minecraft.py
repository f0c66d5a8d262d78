"""The adapter of MineStudio's simulator against an imitation of it: the contract of its 1.1, never Minecraft itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tendon.config.compose import compose
from tendon.config.schema import EnvConfig
from tendon.errors import ConfigError, MissingDependency
from tendon.evaluate.guest import Guest
from tendon.sim.adapters.minecraft import BUTTONS
from tendon.sim.prompts import save_prompts

IMITATIONS = Path(__file__).parent / "imitations"


@pytest.fixture
def imitation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(IMITATIONS))
    return tmp_path


def env_of(*overrides: str) -> EnvConfig:
    return compose(["env=minecraft", "data.uri=x", *overrides]).env


def action_of(*pressed: str, pitch: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    return np.array([*(float(name in pressed) for name in BUTTONS), pitch, yaw])


def recorded(folder: Path) -> tuple[str, ...]:
    masks = np.zeros((2, 360, 640), np.uint8)
    masks[0, 100:200, 300:400], masks[1, 5, 6] = 1, 1
    save_prompts(folder / "masks.npz", {seed: masks for seed in (7, 8)})
    return "env.options.masks=recorded", f"+env.options.record={folder / 'masks.npz'}"


def test_a_counter_that_grows_is_a_success_and_an_earlier_kill_is_none(imitation: Path) -> None:
    with Guest(env_of(*recorded(imitation), "env.cameras.agent.height=36", "env.cameras.agent.width=64")) as guest:
        first = guest.reset(7)
        assert guest.instruction == "hunt the sheep"
        assert first["agent_image"].shape == (36, 64, 3)
        assert (first["agent_image"] == 7).all()
        assert first["interaction"] == 0
        assert first["target"].sum() == 100 * 100
        stepped = guest.step(action_of("forward", "drop"))  # the game has no drop
        assert (stepped.success, stepped.done, stepped.reward) == (False, False, 0.0)
        assert stepped.observation["target"].sum() == 1
        stepped = guest.step(action_of("attack"))
        assert (stepped.success, stepped.done, stepped.reward) == (True, True, 1.0)
        assert (guest.reset(8)["agent_image"] == 8).all()  # another seed is another world
        ends = [guest.step(action_of()) for _ in range(5)]
        assert [end.done for end in ends] == [False] * 4 + [True]
        assert not any(end.success for end in ends)


def test_the_camera_is_pitch_and_yaw_and_commands_reach_the_game(imitation: Path) -> None:
    env = env_of(*recorded(imitation), "env.options.commands=['/time set day']")
    with Guest(env, draws=True) as guest:
        guest.reset(7)
        guest.step(action_of(pitch=3.0, yaw=9.0))
        assert guest.render(640, 360)[0, 0].tolist() == [3, 9, 1]
        assert guest.render(64, 36).shape == (36, 64, 3)


def test_without_minestudio_the_error_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MissingDependency, match="minestudio"), Guest(env_of()):
        pass


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("env.fps=10", "20 steps a second"),
        ("+env.options.skill=1", "no option 'skill'"),
        ("env.options.interaction=eat", "no interaction 'eat'"),
        ("env.options.masks=labels", "no labels"),
    ],
)
def test_what_it_does_not_have_is_refused(imitation: Path, override: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why), Guest(env_of(override)) as guest:
        guest.reset(1)
