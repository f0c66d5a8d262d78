"""What is recorded of shaped rewards, and the card that says who made the demonstrations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tendon import trust
from tendon.cli import main
from tendon.config.compose import compose
from tendon.data.sources import open_source
from tendon.evaluate.demo_card import demo_card
from tendon.evaluate.experts import ExpertSettings

SHAPED = """
from tendon_sim.adapters.reach import Adapter as Reach

class Adapter(Reach):
    def step(self, action):
        observation, reward, success, done = super().step(action)
        return observation, 1.0 + reward, success, done
"""


@pytest.mark.parametrize(("format", "card"), [("robomimic", "demos.md"), ("lerobot", "demos/README.md")])
def test_demonstrations_say_that_they_are_scripted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, card: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo-data", "env=reach", "--episodes", "2", "--seed", "7", "--format", format, "-o", "demos"]) == 0
    text = (tmp_path / card).read_text()
    assert "**Scripted.**" in text
    assert "simulator `reach` for task `Reach`" in text
    assert "| episodes | 2, the successful ones from seed 7 on" in text
    assert "| left out | none that did not succeed" in text


def test_a_card_of_xarm_says_what_is_corrected_and_names_failed_seeds() -> None:
    env = compose(["env=xarm_corrected", "data.uri=x"]).env
    text = demo_card(ExpertSettings(env, 50, 1), failed=[3, 9], crashed=[])
    assert "two corrections, without which no episode of it succeeds" in text
    assert "Numbers of FOWM or TD-MPC on xArm are of another environment" in text
    assert "2 (seeds 3, 9) that did not succeed, none in which the simulator crashed" in text
    assert "gym-xarm==0.1.1, mujoco==2.3.7" in text


def test_lerobots_dataset_says_success_and_done_once_whatever_the_rewards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shaped.py").write_text(SHAPED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(trust.VARIABLE, trust.sha256_of(tmp_path / "shaped.py"))
    arguments = ["env=reach", "env.simulator=shaped.py", "--episodes", "2", "--format", "lerobot", "-o", "demos"]
    assert main(["demo-data", *arguments]) == 0
    source = open_source(str(tmp_path / "demos"))
    episode = source.read(source.describe().episodes[0].episode_id)
    assert (episode.features["next.reward"] >= 1).all()
    for key in ("next.done", "next.success"):
        assert np.flatnonzero(episode.features[key]).tolist() == [episode.length - 1]
    assert episode.success
