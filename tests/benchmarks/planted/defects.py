"""The defects. Each changes recordings in place of clean ones, at one of two severities, and says which findings name it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np

from tests.benchmarks.planted.clean import DT, TASKS, Recording

Change = Callable[[np.random.Generator, Recording, bool, list[Recording]], Recording]


@dataclass(frozen=True)
class Defect:
    """``kinds``: findings that name it. ``strong`` and ``weak`` say what is done. ``whole``: it is one of the set."""

    name: str
    change: Change
    kinds: tuple[str, ...]
    strong: str
    weak: str
    images: bool = False
    whole: bool = False


def _lagged(values: np.ndarray, lag: int) -> np.ndarray:
    return values[np.clip(np.arange(len(values)) - lag, 0, len(values) - 1)]


def action_shift(rng, r, strong, clean):
    return replace(r, action=_lagged(r.action, int(rng.choice([-1, 1])) * (2 if strong else 1)))


def camera_shift(rng, r, strong, clean):
    lag = int(rng.choice([-1, 1])) * (3 if strong else 1)
    frames = dict(r.frames)
    name = str(rng.choice(sorted(frames)))
    frames[name] = _lagged(frames[name], lag)
    return replace(r, frames=frames)


def _scaled(r, key, dims, factor):
    state = dict(r.state)
    state[key] = state[key].copy()
    state[key][:, dims] *= factor
    return replace(r, state=state)


def degrees(rng, r, strong, clean):
    return _scaled(
        r, "joint_pos", slice(None) if strong else [int(rng.integers(r.state["joint_pos"].shape[1]))], 180 / np.pi
    )


def unit_change(rng, r, strong, clean):
    key = str(rng.choice([each for each in ("eef_pos", "object") if each in r.state]))
    return _scaled(r, key, slice(None), float(rng.choice([1000.0, 0.001])) if strong else 100.0)


def sign_flip(rng, r, strong, clean):
    action = r.action.copy()
    dims = slice(0, 3) if strong else [int(rng.integers(3))]
    action[:, dims] *= -1
    return replace(r, action=action)


def spike(rng, r, strong, clean):
    state = deepcopy(r.state)
    key = str(rng.choice(["eef_pos", "joint_pos"]))
    dim, at = int(rng.integers(state[key].shape[1])), int(rng.integers(5, r.length - 5))
    state[key][at, dim] += float(rng.choice([-1, 1])) * (10 if strong else 1) * state[key][:, dim].std()
    return replace(r, state=state)


def stuck_joint(rng, r, strong, clean):
    state = deepcopy(r.state)
    dim = int(rng.integers(state["joint_pos"].shape[1]))
    begin = 0 if strong else r.length // 2
    state["joint_pos"][begin:, dim] = state["joint_pos"][begin, dim]
    return replace(r, state=state)


def static_robot(rng, r, strong, clean):
    begin = 0 if strong else r.length // 2
    return replace(r, state={key: np.concatenate([each[:begin], np.repeat(each[begin : begin + 1], r.length - begin, 0)])
                             for key, each in r.state.items()})  # fmt: skip


def late_gripper(rng, r, strong, clean):
    action = r.action.copy()
    action[:, 6] = _lagged(action[:, 6], -10 if strong else -5)
    return replace(r, action=action)


def inverted_gripper(rng, r, strong, clean):
    action = r.action.copy()
    action[:, 6] = (
        -action[:, 6] if strong else np.where(np.arange(r.length) > r.length // 3, -action[:, 6], action[:, 6])
    )
    return replace(r, action=action)


def swapped_cameras(rng, r, strong, clean):
    front, side = r.frames["front"], r.frames["side"]
    if strong:
        return replace(r, frames={"front": side, "side": front})
    half = np.arange(r.length)[:, None, None, None] > r.length * 0.25
    return replace(r, frames={"front": np.where(half, side, front), "side": np.where(half, front, side)})


def _in_frames(rng, r, num, change, starts=None):
    name = str(rng.choice(sorted(r.frames)))
    frames, at = (
        r.frames[name].copy(),
        int(rng.integers(2, r.length - num - 2) if starts is None else rng.choice(starts)),
    )
    frames[at : at + num] = change(frames[at : at + num], frames[at])
    return replace(r, frames=r.frames | {name: frames})


def frozen_frames(rng, r, strong, clean):
    num = r.length // 2 if strong else 10
    starts = np.arange(2, r.length - num - 2)
    moved = np.linalg.norm(r.state["eef_pos"][starts + num - 1] - r.state["eef_pos"][starts], axis=1)
    starts = starts[moved >= np.median(moved)]  # the picture of a still robot stays by itself
    return _in_frames(rng, r, num, lambda part, first: np.broadcast_to(first, part.shape), starts)


def black_frames(rng, r, strong, clean):
    return _in_frames(rng, r, r.length // 2 if strong else 4, lambda part, first: part // 40)


def overexposed_frames(rng, r, strong, clean):
    return _in_frames(rng, r, r.length // 2 if strong else 4, lambda part, first: 255 - (255 - part) // 20)


def _earlier(rng, r, clean):
    """The later of two equal episodes is the one that is named."""
    before = [each for each in clean if each.name < r.name] or clean
    return before[int(rng.integers(len(before)))]


def near_duplicate(rng, r, strong, clean):
    other = deepcopy(_earlier(rng, r, clean))
    size = 0.005 if strong else 0.02
    state = {key: each + rng.normal(0, size * each.std(0), each.shape) for key, each in other.state.items()}
    return replace(other, name=r.name, state=state)


def exact_duplicate(rng, r, strong, clean):
    return replace(deepcopy(_earlier(rng, r, clean)), name=r.name)


def cut(r: Recording, begin: int, end: int) -> Recording:
    """Its steps ``[begin, end)``, in time from zero."""
    return replace(r, state={key: each[begin:end] for key, each in r.state.items()}, action=r.action[begin:end],
                   frames={key: each[begin:end] for key, each in r.frames.items()}, timestamp=r.timestamp[: end - begin])  # fmt: skip


def cut_short(rng, r, strong, clean):
    return cut(r, 0, int(r.length * (0.4 if strong else 0.75)))


def empty_text(rng, r, strong, clean):
    return replace(r, task="" if strong else "  ")


def wrong_text(rng, r, strong, clean):
    return replace(r, task=str(rng.choice([each for each in TASKS if each != r.task])))


def dropped_frames(rng, r, strong, clean):
    speed = np.linalg.norm(np.diff(r.state["eef_pos"], axis=0), axis=1)
    moving = np.flatnonzero(speed[3:-12] > np.median(speed)) + 3  # nobody can see a missing frame of a still robot
    at, num = int(rng.choice(moving)), 6 if strong else 2
    keep = np.r_[0:at, at + num : r.length]
    return replace(r, state={key: each[keep] for key, each in r.state.items()}, action=r.action[keep],
                   frames={key: each[keep] for key, each in r.frames.items()}, timestamp=np.arange(len(keep)) * DT)  # fmt: skip


def wrong_fps(rng, r, strong, clean):
    return replace(r, timestamp=r.timestamp * (2.0 if strong else 1.05))


def timestamp_gap(rng, r, strong, clean):
    times = r.timestamp.copy()
    times[int(rng.integers(3, r.length - 3)) :] += 1.0 if strong else 0.05
    return replace(r, timestamp=times)


def _with_value(rng, r, value, strong):
    state = deepcopy(r.state)
    rows = slice(None) if strong else [int(rng.integers(r.length))]
    state["eef_pos"][rows, int(rng.integers(3))] = value
    return replace(r, state=state)


def nan(rng, r, strong, clean):
    return _with_value(rng, r, np.nan, strong)


def infinite(rng, r, strong, clean):
    return _with_value(rng, r, np.inf, strong)


def out_of_range(rng, r, strong, clean):
    action = r.action.copy()
    action[:, int(rng.integers(6))] += 20.0 if strong else 4.0
    return replace(r, action=action)


def _held(r, num, head):
    at = np.r_[np.zeros(num, int), 0 : r.length] if head else np.r_[0 : r.length, np.full(num, r.length - 1)]
    action = r.action[at].copy()
    action[:num, :6] = 0.0 if head else action[:num, :6]
    if not head:
        action[-num:, :6] = 0.0
    return replace(r, state={key: each[at] for key, each in r.state.items()}, action=action,
                   frames={key: each[at] for key, each in r.frames.items()}, timestamp=np.arange(len(at)) * DT)  # fmt: skip


def idle_head(rng, r, strong, clean):
    return _held(r, 60 if strong else 20, True)


def idle_tail(rng, r, strong, clean):
    return _held(r, 60 if strong else 20, False)


def constant_feature(rng, r, strong, clean):
    return replace(r, state=r.state | {"gripper": np.full_like(r.state["gripper"], 0.04)})


def label_leak(rng, r, strong, clean):
    return replace(r, state=r.state | {"previous_command": r.action[:, :3] * (1.0 if strong else 0.5)})


def overlap(rng, r, strong, clean):
    return replace(r, split="train valid")


DEFECTS = (
    Defect("action_shift", action_shift, ("action_shift", "action_late"), "2 steps", "1 step"),
    Defect("camera_shift", camera_shift, ("camera_shift",), "3 frames", "1 frame", images=True),
    Defect("degrees", degrees, ("scale", "range"), "all joints", "one joint"),
    Defect("unit_change", unit_change, ("scale", "range"), "x1000 or /1000", "x100"),
    Defect("sign_flip", sign_flip, ("action_sign", "action_shift"), "three numbers", "one number"),
    Defect("spike", spike, ("spike",), "10 deviations", "1 deviation"),
    Defect("stuck_joint", stuck_joint, ("stuck",), "all of it", "second half"),
    Defect("static_robot", static_robot, ("static", "idle_head", "idle_tail"), "all of it", "second half"),
    Defect("late_gripper", late_gripper, ("action_late",), "10 steps", "5 steps"),
    Defect("inverted_gripper", inverted_gripper, ("action_sign",), "all of it", "last two thirds"),
    Defect("swapped_cameras", swapped_cameras, ("swapped_cameras",), "all of it", "last three quarters", images=True),
    Defect("frozen_frames", frozen_frames, ("frozen",), "half of them", "10 frames", images=True),
    Defect("black_frames", black_frames, ("black",), "half of them", "4 frames", images=True),
    Defect("overexposed_frames", overexposed_frames, ("overexposed",), "half of them", "4 frames", images=True),
    Defect("near_duplicate", near_duplicate, ("near_duplicate",), "noise of 0.5 %", "noise of 2 %"),
    Defect("exact_duplicate", exact_duplicate, ("duplicate",), "equal", "equal"),
    Defect("cut_short", cut_short, ("cut_short", "length"), "at 40 %", "at 75 %"),
    Defect("empty_text", empty_text, ("task",), "empty", "spaces"),
    Defect("wrong_text", wrong_text, ("wrong_text",), "of another task", "of another task"),
    Defect("dropped_frames", dropped_frames, ("dropped_frames",), "6 frames", "2 frames"),
    Defect("wrong_fps", wrong_fps, ("fps",), "twice as slow", "5 % slower"),
    Defect("timestamp_gap", timestamp_gap, ("timestamp_gap",), "1 s", "one step"),
    Defect("nan", nan, ("problem",), "a whole column", "one value"),
    Defect("inf", infinite, ("problem",), "a whole column", "one value"),
    Defect("out_of_range", out_of_range, ("range", "scale"), "20 added", "4 added"),
    Defect("idle_head", idle_head, ("idle_head", "stuck", "static"), "60 steps", "20 steps"),
    Defect("idle_tail", idle_tail, ("idle_tail", "stuck", "static"), "60 steps", "20 steps"),
    Defect("constant_feature", constant_feature, ("constant",), "all episodes", "all episodes", whole=True),
    Defect("label_leak", label_leak, ("label_leak",), "equal", "scaled", whole=True),
    Defect("train_valid_overlap", overlap, ("split_overlap",), "a tenth", "a tenth"),
)
UNSEEN = {
    "a video that freezes while the robot rests": "little changes in clean video of rest too: uncompressed frames tell, by their noise",
    "a text that is wrong everywhere": "nothing in the data contradicts it: the simulator's FeatureMap or the card does",
    "degrees for radians everywhere": "every episode agrees: env's FeatureMap states the unit",
    "a sign that is turned everywhere": "the model of actions learns the turned sign: a rollout of the demonstrations shows it",
    "cameras swapped everywhere": "both names are only names: env's FeatureMap and a picture of the simulator tell",
    "fps that is wrong everywhere without timestamps": "steps have no seconds: the video's own rate tells, where there is one",
}
