"""Data configurations of InternManip by name: which keys, in which order, and how each is normalised.

The order is that of a policy's vectors: a checkpoint means something only together with its configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tendon.errors import ConfigError, nearest
from tendon.plugins import OWN, Claim, claims
from tendon.trust import run_file, sha256_of

TASK = "annotation.human.action.task_description"
POSE, DELTA = ("ee_pos", "ee_rot"), ("delta_ee_pos", "delta_ee_rot", "gripper")
ARMS = ("left_joint", "left_gripper", "right_joint", "right_gripper")
ARM_DELTAS = ("left_joint_delta", "left_gripper", "right_joint_delta", "right_gripper")


@dataclass(frozen=True)
class DataConfig:
    """Keys of modality.json; ``normalization`` by ``state.<key>`` or ``action.<key>``, the rest has ``default``."""

    video: tuple[str, ...]
    state: tuple[str, ...]
    action: tuple[str, ...]
    default: str
    other: Mapping[str, str] = field(default_factory=dict)
    language: str = TASK

    @property
    def normalization(self) -> dict[str, str]:
        """The mode of every key."""
        names = [*(f"state.{key}" for key in self.state), *(f"action.{key}" for key in self.action)]
        return {name: self.other.get(name, self.default) for name in names}

    @staticmethod
    def of(described: Any) -> DataConfig:
        """From an object like InternManip's: ``modality_config()`` says the keys, ``transform()`` their order and scaling.

        The order is that of its last transform with ``state_concat_order``; keys that no transform scales stay as they are.
        """
        configs = described.modality_config()
        listed = described.transform()
        transforms = list(getattr(listed, "transforms", listed))
        modes: dict[str, str] = {}
        orders: dict[str, Sequence[str]] = {}
        for transform in transforms:
            modes |= dict(getattr(transform, "normalization_modes", None) or {})
            for kind in ("video", "state", "action"):
                orders[kind] = getattr(transform, f"{kind}_concat_order", None) or orders.get(kind, ())

        def keys(kind: str) -> tuple[str, ...]:
            named = orders.get(kind) or (configs[kind].modality_keys if kind in configs else ())
            return tuple(str(key).removeprefix(f"{kind}.") for key in named)

        language = configs["language"].modality_keys[0] if "language" in configs else TASK
        return DataConfig(keys("video"), keys("state"), keys("action"), "identity", modes, language)


def _binary(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "binary")


BOTH_GRIPPERS = _binary("state.gripper", "action.gripper")
ACTION_GRIPPERS = _binary("action.left_gripper", "action.right_gripper")

CONFIGS = {
    "sweep": DataConfig(("base_view", "ego_view"), POSE, DELTA, "mean_std", _binary("action.gripper")),
    "genmanip_v1": DataConfig(
        ("ego_view", "base_view", "base_2_view"),
        ("joints", "gripper", "joints_vel", "gripper_vel", *POSE),
        ("gripper", "delta_ee_pos", "delta_ee_rot"),
        "mean_std",
        BOTH_GRIPPERS | _binary("state.gripper_vel"),
    ),
    "bridgedata_v2": DataConfig(("image_0",), (*POSE, "gripper"), DELTA, "mean_std", BOTH_GRIPPERS),
    "bridgedata_v2_q99": DataConfig(("image_0",), (*POSE, "gripper"), DELTA, "q99", _binary("action.gripper")),
    "google_robot": DataConfig(("image",), (*POSE, "gripper"), DELTA, "mean_std", BOTH_GRIPPERS),
    "calvin_abc": DataConfig(("image_base", "image_wrist"), POSE, DELTA, "mean_std", _binary("action.gripper")),
    "calvin_abcd": DataConfig(("image_base", "image_wrist"), POSE, DELTA, "mean_std", _binary("action.gripper")),
    "so100": DataConfig(
        ("webcam",), ("single_arm", "gripper"), ("single_arm", "gripper"), "min_max",
        language="annotation.human.task_description",
    ),
    "aloha_v4": DataConfig(("hand_left", "hand_right", "head"), ARMS, ARM_DELTAS, "min_max", ACTION_GRIPPERS),
    "arx": DataConfig(
        ("head", "hand_left", "hand_right"), ARMS, ARM_DELTAS, "q99",
        dict.fromkeys(("state.left_gripper", "state.right_gripper", *ACTION_GRIPPERS), "mean_std"),
    ),
}  # fmt: skip


def find_data_config(name: str, where: str) -> tuple[str, DataConfig]:
    """A configuration, and what it is known by: its name, or the name and the content of the file that holds it.

    ``name`` is one of CONFIGS, one that an installed package brings, or a Python file with ``CONFIG = DataConfig(...)`` or
    one class like InternManip's (``tendon.internmanip.BaseDataConfig``).

    Raises:
        ConfigError: there is none of that name, or the file is not trusted or holds none.
    """
    if name.endswith(".py"):
        return _from_file(Path(name), where)
    known = claims("data_configs", [Claim(own, f"{__name__}:CONFIGS", OWN) for own in CONFIGS])
    name = name.replace("-", "_")
    claim = known.get(name)
    if claim is None:
        near = nearest(name, known, 0.4)
        raise ConfigError(
            f"there is no data configuration named {name}",
            where=where,
            why=f"the configurations are {', '.join(known)}",
            fix=f"write data_config={near}" if near else "choose one of them, or leave it away for named parts",
        )
    return name, CONFIGS[name] if claim.package == OWN else _checked(claim.load(), f"{claim.value} of {claim.package}")


def _from_file(path: Path, where: str) -> tuple[str, DataConfig]:
    if not path.is_file():
        raise ConfigError(
            f"there is no data configuration {path}", where=where, why="no such file", fix="give its right path"
        )
    config = _checked(_found(run_file(path, where, f"tendon_data_config_{path.stem}")), str(path))
    return f"{path.stem}-{sha256_of(path)[:16]}", config


def _found(module: Any) -> object:
    """``CONFIG``, or the one class of the file that describes itself as InternManip's do."""
    found = getattr(module, "CONFIG", None)
    if found is None:
        own = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
        kinds = [
            kind for kind in own if callable(getattr(kind, "modality_config", None)) and hasattr(kind, "transform")
        ]
        found = kinds[0]() if len(kinds) == 1 else None
    return DataConfig.of(found) if callable(getattr(found, "modality_config", None)) else found


def _checked(config: object, where: str) -> DataConfig:
    if isinstance(config, DataConfig):
        return config
    raise ConfigError(
        "this is no data configuration",
        where=where,
        why=f"it is a {type(config).__name__}",
        fix="CONFIG = tendon.data.sources.modality_configs.DataConfig(video, state, action, default), or one class like"
        " InternManip's",
    )
