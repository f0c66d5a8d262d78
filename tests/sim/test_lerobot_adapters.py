"""The adapters of LeRobot's simulators, as far as they go without the simulators."""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
from math import hypot
from typing import Any

import numpy as np
import pytest

from tendon.config.compose import compose
from tendon.config.feature_map import FeatureMap
from tendon.sim.experts import aloha, pusht
from tendon.sim.experts.xarm_lift import XarmLiftExpert
from tendon.sim.protocol import Refused

TASKS = {"pusht": ("PushT-v0", 10), "aloha": ("AlohaInsertion-v0", 50), "xarm_corrected": ("XarmLiftCorrected", 25)}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(
    ("change", "why", "fix"),
    [
        ({"task": "XarmLift-v0"}, "no task 'XarmLift-v0'", "env.task="),
        ({"options": {"obs_type": "state"}}, "no options, given: obs_type", "env.options={}"),
        ({"fps": 7.0}, "steps a second, asked for 7", "env.fps="),
        ({"cameras": ("wrist",)}, "no camera 'wrist'", "top|camera0"),
    ],
)
def test_what_they_do_not_have_is_refused_before_anything_is_imported(
    name: str, change: dict[str, Any], why: str, fix: str
) -> None:
    task, fps = TASKS[name]
    adapter = import_module(f"tendon.sim.adapters.{name}").Adapter()
    asked = {"task": task, "options": {}, "fps": float(fps), "cameras": (), "size": (84, 84), "sizes": {}}
    with pytest.raises(Refused, match=why) as refused:
        adapter.make(**{**asked, **change})
    assert any(word in refused.value.fix for word in fix.split("|"))


def test_lerobots_xarm_is_refused_with_the_reason() -> None:
    adapter = import_module("tendon.sim.adapters.xarm_corrected").Adapter()
    with pytest.raises(Refused, match="as shipped it cannot be solved"):
        adapter.make("XarmLift-v0", {}, 25.0, (), (84, 84), {})


STATE, WORLD = "observation.state", "observation.environment_state"


@pytest.mark.parametrize(
    ("env", "keys"),
    [
        ("pusht", {"observation.image": (96, 96), STATE: None}),
        ("pusht_keypoints", {WORLD: None, STATE: None}),
        ("pusht_state", {STATE: None}),
        ("aloha", {"observation.images.top": (480, 640), STATE: None}),
        ("aloha_state", {WORLD: None, STATE: None}),
        ("aloha_insertion", {"observation.images.top": (480, 640), STATE: None}),
        ("aloha_insertion_state", {WORLD: None, STATE: None}),
        ("xarm_corrected", {"observation.image": (84, 84), STATE: None}),
        ("xarm_corrected_state", {WORLD: None, STATE: None}),
    ],
)
def test_observations_become_lerobots_features(env: str, keys: dict[str, tuple[int, int] | None]) -> None:
    config = compose([f"env={env}", "data.uri=x"]).env
    features = FeatureMap.of(config)
    cameras = {camera.key: camera.size for camera in features.read_cameras}
    assert {features.key_of(name): cameras.get(features.key_of(name)) for name in config.observation} == keys
    assert config.name == env


def test_a_target_goes_round_corners_at_its_speed_and_waits_at_the_end() -> None:
    plan = [(30.0, 0.0), (30.0, 25.0)]
    targets = pusht._targets((0.0, 0.0), plan)
    assert targets[0].tolist() == [20.0, 0.0]
    assert targets[1].tolist() == [30.0, 10.0]  # 10 along the first side, 10 along the second
    assert targets[2:].tolist() == [[30.0, 25.0]] * (1 + pusht.SETTLE)
    assert plan == [(30.0, 0.0), (30.0, 25.0)]
    endless = pusht._targets((0.0, 0.0), [(500.0 * (i % 2), 0.0) for i in range(1, 9)])
    assert len(endless) == pusht.MAX_STEPS + pusht.SETTLE
    assert all(hypot(*(b - a)) <= pusht.SPEED + 1e-9 for a, b in pairwise(endless))


def test_hands_are_between_their_waypoints() -> None:
    points = [
        aloha.Waypoint(10, aloha.xyz(0, 0, 0), ("y", 0.0), 0.0),
        aloha.Waypoint(20, aloha.xyz(0.1, 0, 0.2), ("y", 90.0), 1.0),
    ]
    assert aloha._at(points, 0)[:3].tolist() == [0, 0, 0]
    middle = aloha._at(points, 15)
    assert middle == pytest.approx([0.05, 0, 0.1, np.cos(np.pi / 8), 0, np.sin(np.pi / 8), 0, 0.5])
    assert aloha._at(points, 400) == pytest.approx([0.1, 0, 0.2, np.sqrt(0.5), 0, np.sqrt(0.5), 0, 1])


def test_the_xarm_expert_rises_only_with_the_cube_in_its_fingers() -> None:
    expert, here = XarmLiftExpert(1, 0.0), np.zeros(3)
    apart = expert.act(np.array([0.3, -0.3, -0.1]), here, 0.0)
    assert apart.tolist() == [1, -1, pytest.approx(-0.24), -1]  # it stays above until it is aligned
    assert expert.act(np.array([0.01, 0, -0.01]), here, 0.0)[2:].tolist() == [pytest.approx(-0.12), 1]
    assert expert.act(np.array([0.01, 0, -0.01]), here, 0.3)[2:].tolist() == [0.5, 1]
    noisy = [XarmLiftExpert(seed, 0.1).act(np.zeros(3), here, 0.0).tolist() for seed in (1, 1, 2)]
    assert noisy[0] == noisy[1] != noisy[2]
