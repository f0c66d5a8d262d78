"""Several actions in one message are what the same actions are one by one, whatever happens on the way."""

from dataclasses import replace

import numpy as np
import pytest

from tendon import trust
from tendon.errors import ConfigError
from tendon.evaluate.guest import Guest, GuestCrash

ACTIONS = [np.array([0.5, -0.2 * number]) for number in range(8)]
CHANGING = """
import time
import numpy as np
from tendon_sim.adapters.reach import Adapter as Reach

class Adapter(Reach):
    def make(self, task, options, fps, cameras, size):
        self.slow_s, self.at = options.get("slow_s", 0.0), options.get("at", 99)
        self.seen = np.zeros(2)
        return super().make(task, {}, fps, cameras, size) | {"instruction": "go left"}

    def reset(self, seed):
        self.t = 0
        return super().reset(seed)

    def step(self, action):
        time.sleep(self.slow_s)
        self.t += 1
        observation, reward, success, done = super().step(action)
        self.seen[:] = observation["agent_pos"]  # one array for all steps
        told = ("go right",) if self.t >= self.at else ()
        return observation | {"agent_pos": self.seen}, reward, success, done, *told
"""


@pytest.fixture
def changing(tmp_path, monkeypatch, reach):
    path = tmp_path / "changing.py"
    path.write_text(CHANGING)
    monkeypatch.setenv(trust.VARIABLE, trust.sha256_of(path))
    return lambda **options: replace(reach, name="changing", simulator=str(path), options=options)


@pytest.mark.parametrize("keep", [1, 3, 8, 20])
def test_together_or_one_by_one_is_the_same(reach, keep):
    env = replace(reach, observation=("agent_pos", "top_image"), options={"image_size": 20})
    with Guest(env) as guest:
        guest.reset(3)
        alone = [guest.step(action) for action in ACTIONS]
        guest.reset(3)
        together = guest.steps(ACTIONS, keep)
    assert [one.reward for one in together] == [one.reward for one in alone]
    for one, other in list(zip(together, alone, strict=True))[-keep:]:
        assert one.observation.keys() == other.observation.keys()
        assert all(np.array_equal(one.observation[name], other.observation[name]) for name in one.observation)
    assert all(not one.observation for one in together[:-keep])


DRAWING = """
from tendon_sim.adapters.reach import Adapter as Reach

class Adapter(Reach):
    def make(self, task, options, fps, cameras, size):
        self.at, self.log = options.get("at", 99), options["log"]
        return super().make(task, {}, fps, cameras, size) | {"instruction": "go left"}

    def reset(self, seed):
        self.t = 0
        return super().reset(seed)

    def step(self, action):
        self.t += 1
        return *super().step(action), *(("go right",) if self.t >= self.at else ())

    def render(self, *view):
        with open(self.log, "a") as file:
            file.write(".")
        return super().render(*view)
"""


@pytest.fixture
def drawing(tmp_path, monkeypatch, reach):
    path = tmp_path / "drawing.py"
    path.write_text(DRAWING)
    monkeypatch.setenv(trust.VARIABLE, trust.sha256_of(path))
    more = {"log": str(tmp_path / "drawn")}
    return lambda **options: replace(
        reach, name="drawing", simulator=str(path), options=more | options, observation=("agent_pos", "top_image")
    )


@pytest.mark.parametrize(("keep", "drawn"), [(1, 2), (3, 4), (8, 9), (20, 9)])
def test_pictures_that_nobody_looks_at_are_not_drawn(drawing, tmp_path, keep, drawn):
    with Guest(drawing()) as guest:
        guest.reset(3)
        guest.steps(ACTIONS, keep)
        assert len((tmp_path / "drawn").read_text()) == drawn, "the first one, and those that are kept"
        assert "top_image" in guest.step(ACTIONS[0]).observation


def test_an_end_before_the_last_actions_needs_no_pictures(drawing):
    with Guest(drawing()) as guest:
        target = guest.reset(3)["target_pos"]
        towards = []
        while not towards or not towards[-1].success:
            towards += guest.steps([5 * (target - towards[-1].observation["agent_pos"]) if towards else target] * 4, 2)
        assert "agent_pos" in towards[-1].observation
        assert guest.reset(4)["top_image"].any()


def test_who_leaves_out_pictures_changes_no_instruction(drawing):
    with Guest(drawing(at=5)) as guest:
        guest.reset(3)
        with pytest.raises(ConfigError, match="changes what the robot is told at a step whose pictures were left out"):
            guest.steps(ACTIONS)
        assert len(guest.steps(ACTIONS, 8)) == 8, "all pictures are there"


def test_a_simulator_may_write_all_observations_into_one_array(changing):
    with Guest(changing()) as guest:
        guest.reset(3)
        together = guest.steps(ACTIONS, len(ACTIONS))
    positions = np.array([one.observation["agent_pos"] for one in together])
    assert len(np.unique(positions, axis=0)) == len(ACTIONS)


def test_what_comes_after_an_end_or_after_new_words_is_not_executed(reach, changing):
    with Guest(reach) as guest:
        target = guest.reset(3)["target_pos"]
        towards = []
        while not towards or not towards[-1].success:
            towards += guest.steps([5 * (target - towards[-1].observation["agent_pos"]) if towards else target] * 4)
        assert [one.success for one in towards].index(True) == len(towards) - 1
    with Guest(changing(at=5)) as guest:
        guest.reset(3)
        assert len(guest.steps(ACTIONS)) == 5
        assert guest.instruction == "go right"
        assert len(guest.steps(ACTIONS)) == 8


def test_a_crash_says_what_was_executed_before(troubled):
    with Guest(troubled({"7": "raise"})) as guest:
        guest.reset(7)
        with pytest.raises(GuestCrash, match="joint 3 exploded") as crash:
            guest.steps(ACTIONS)
    assert len(crash.value.rewards) == 2


def test_the_limit_is_that_of_one_step(changing):
    with Guest(changing(slow_s=0.15), step_timeout_s=0.5) as guest:
        guest.reset(3)
        assert len(guest.steps(ACTIONS)) == 8  # in 1.2 s


def test_a_hang_is_found_as_soon_as_in_one_step(troubled):
    with Guest(troubled({"7": "hang"}), step_timeout_s=0.5) as guest:
        guest.reset(7)
        with pytest.raises(GuestCrash, match=r"no answer within 0\.5 s"):
            guest.steps(ACTIONS)
