"""What LeRobot's own files of the page's time say: default.yaml, env/*.yaml, policy/*.yaml. Facts, in our words.

A policy's own keys and its optimiser are in our preset of the same name; here is what those files say beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tendon.lerobot.request import Shape

STATE, ENVIRONMENT, IMAGE, TOP = (
    "observation.state",
    "observation.environment_state",
    "observation.image",
    "observation.images.top",
)
ALL_CHECKPOINTS = 100_000  # LeRobot deletes none


@dataclass(frozen=True)
class Preset:
    """One file of policy/."""

    dataset: str
    declared: Mapping[str, Shape]  # input_shapes and output_shapes; cameras with channels last
    settings: Mapping[str, Any]  # of ours
    statistics: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)  # override_dataset_stats


PUSHT = {IMAGE: (96, 96, 3), STATE: (2,), "action": (2,)}
PUSHT_KEYPOINTS = {ENVIRONMENT: (16,), STATE: (2,), "action": (2,)}
PUSHT_RANGES = {
    STATE: {"min": [13.456424, 32.938293], "max": [496.14618, 510.9579]},
    "action": {"min": [12.0, 25.0], "max": [511.0, 511.0]},
}


def _settings(seed: int, eval_freq: int, save_freq: int, log_freq: int = 200) -> Mapping[str, Any]:
    freqs = {"training.eval_freq": eval_freq, "training.save_freq": save_freq, "training.log_freq": log_freq}
    others = {"training.keep_checkpoints": ALL_CHECKPOINTS, "eval.n_episodes": 50, "wandb.project": "lerobot"}
    return {"seed": seed, **freqs, **others}


PRESETS: Mapping[str, Preset] = {
    "act": Preset(
        "lerobot/aloha_sim_insertion_human",
        {TOP: (480, 640, 3), STATE: (14,), "action": (14,)},
        _settings(1000, 20_000, 20_000),
    ),
    "act_pusht": Preset(  # where the advanced tutorial ends; tendon's own
        "lerobot/pusht", PUSHT, _settings(100_000, 10_000, 100_000, 200)
    ),
    "diffusion": Preset("lerobot/pusht", PUSHT, _settings(100_000, 25_000, 25_000), PUSHT_RANGES),
    "diffusion_pusht_keypoints": Preset(
        "lerobot/pusht_keypoints", PUSHT_KEYPOINTS, _settings(100_000, 5_000, 5_000, 250)
    ),
    "tdmpc": Preset(
        "lerobot/xarm_lift_medium",
        {IMAGE: (84, 84, 3), STATE: (4,), "action": (4,)},
        {**_settings(1, 5_000, 10_000, 100), "training.online_steps": 50_000},
    ),
    "tdmpc_pusht_keypoints": Preset(
        "lerobot/pusht_keypoints",
        PUSHT_KEYPOINTS,
        {**_settings(1, 10_000, 50_000, 500), "training.offline_steps": 0, "training.online_steps": 1_000_000},
    ),
    "vqbet": Preset("lerobot/pusht", PUSHT, _settings(100_000, 25_000, 25_000), PUSHT_RANGES),
}
POLICY, ENV = "diffusion", "pusht"  # of default.yaml
FOR_REAL_ROBOTS = ("act_aloha_real", "act_koch_real", "act_moss_real", "act_so100_real", "act_koch_real_mobile_aloha")

# env and task and what it shows, to our env
PIXELS, KEYPOINTS, NUMBERS = "pixels_agent_pos", "environment_state_agent_pos", "state"
ENVS: Mapping[tuple[str, str, str], str] = {
    ("pusht", "PushT-v0", PIXELS): "pusht",
    ("pusht", "PushT-v0", KEYPOINTS): "pusht_keypoints",
    ("pusht", "PushT-v0", NUMBERS): "pusht_state",
    ("aloha", "AlohaInsertion-v0", PIXELS): "aloha_insertion",
    ("aloha", "AlohaTransferCube-v0", PIXELS): "aloha",
}
TASKS: Mapping[str, tuple[str, ...]] = {
    "pusht": ("PushT-v0",),
    "aloha": ("AlohaInsertion-v0", "AlohaTransferCube-v0"),
}
XARM_WHY = (
    "as gym-xarm ships it, the task cannot be solved: the height of the cube is measured from the table and the goal from the "
    "floor, and it makes 2 of 20 steps of physics; the task with both mistakes corrected has another name, so that its numbers "
    "are not taken for those of FOWM and TD-MPC"
)
REAL_WHY = (
    "it records and drives a robot on this machine; tendon trains on what was recorded and rolls out in simulators"
)
