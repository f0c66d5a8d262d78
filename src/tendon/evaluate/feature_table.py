"""Do a policy, its demonstrations and its simulator fit together: one table of features that shows what is missing where.

A pure function of configurations and names, without torch. Called by plan, for every trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tendon.config.feature_map import ACTION, GOAL, TASK, FeatureMap
from tendon.config.schema import EnvConfig, PolicyConfig
from tendon.data.features import Feature, is_action_part
from tendon.errors import Problem

Shape = tuple[int, ...]  # of one step
MISSING = "MISSING"
HEADER = ("feature", "policy", "demonstrations", "simulator")


@dataclass(frozen=True)
class FeatureRow:
    """One feature: what the policy does with it, and what the others have of it."""

    key: str
    policy: str  # reads, writes; MISSING: it does not write what the simulator takes
    demonstrations: str
    simulator: str

    @property
    def missing_in(self) -> tuple[str, ...]:
        """Who lacks it."""
        return tuple(name for name in ("policy", "demonstrations", "simulator") if getattr(self, name) == MISSING)


@dataclass(frozen=True)
class FeatureTable:
    """Every feature that a policy reads or writes."""

    rows: tuple[FeatureRow, ...]
    known: tuple[str, ...]  # what the demonstrations have
    given: Mapping[str, Feature] = field(
        default_factory=dict
    )  # what the policy is given, as far as demonstrations and feature map tell

    @property
    def text(self) -> str:
        """The table as it is shown."""
        lines = [HEADER, *((row.key, row.policy, row.demonstrations, row.simulator) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
        return "\n".join(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        """One problem with the whole table, where anything is missing."""
        missing = [row for row in self.rows if row.missing_in]
        if not missing:
            return ()
        ungiven = [row.key for row in missing if "policy" in row.missing_in]
        unseen = [row.key for row in missing if "demonstrations" in row.missing_in]
        untold = [row.key for row in missing if "simulator" in row.missing_in]
        parts = [f"the demonstrations have no {', '.join(unseen)}"] if unseen else []
        parts += [f"the simulator has no {', '.join(untold)}"] if untold else []
        parts += [f"the policy gives no {', '.join(ungiven)}"] if ungiven else []
        fixes = []
        if unseen:
            others = ", ".join(key for key in self.known if key not in {row.key for row in self.rows})
            fixes.append(
                "choose the env of the demonstrations" + (f", or name what else they have: {others}" if others else "")
            )
        if untold or ungiven:
            fixes.append("name it in env.observation, env.features or env.action, or choose another policy")
        return (
            Problem("; ".join(parts), "env.observation, env.features, env.action", f"\n{self.text}", "; ".join(fixes)),
        )


def feature_table(policy: PolicyConfig, env: EnvConfig, demonstrations: Mapping[str, Feature] | None) -> FeatureTable:
    """What ``policy`` reads and writes beside what the others have.

    Args:
        policy: of any family.
        env: the simulator's side, with its feature map.
        demonstrations: what they have, by key; None where the simulator's own expert makes them.
    """
    features = FeatureMap.of(env)
    known = demonstrations or {}
    offered: dict[str, str] = {}  # feature to what the simulator calls it
    for prefix, names in (("", env.observation), (GOAL, env.goal)):
        offered |= {prefix + features.stored_key(name, known): name for name in names}
    seen = {key: known.get(key.removeprefix(GOAL)) or _simulated(key, name, features) for key, name in offered.items()}
    recorded = {key: feature for key, feature in known.items() if feature.kind == "action"}
    chosen = [ACTION] if ACTION in recorded else [key for key in recorded if is_action_part(key)]
    taken = {key: Feature(key, "action", (1,), "float32") for key in features.action_keys}
    given = seen | ({key: recorded[key] for key in chosen} or taken)
    reads, writes = policy.reads(given), policy.writes(given)
    rows = [
        FeatureRow(key, "reads", _recorded(key, demonstrations), _observed(key, offered, features)) for key in reads
    ]
    rows += [FeatureRow(key, "writes", _recorded(key, demonstrations), _taken(key, features)) for key in writes]
    unwritten = [key for key in features.action_keys if key not in writes]
    rows += [FeatureRow(key, MISSING, _recorded(key, demonstrations), _taken(key, features)) for key in unwritten]
    return FeatureTable(tuple(rows), tuple(known), given)


def _simulated(key: str, observation: str, features: FeatureMap) -> Feature:
    """What the map says of an observation; the width of a vector is not known before the simulator starts."""
    drawn = _drawn(features, observation)
    kind: Any = "image" if drawn else features.kinds.get(observation, "state")
    return Feature(key, kind, drawn or (1,), "uint8" if drawn else "float32")


def _recorded(key: str, demonstrations: Mapping[str, Feature] | None) -> str:
    stored = key.removeprefix(GOAL)
    if demonstrations is None:
        return "recorded with it"
    if stored == TASK:
        return "text"
    return _size(demonstrations[stored].shape) if stored in demonstrations else MISSING


def _observed(key: str, offered: Mapping[str, str], features: FeatureMap) -> str:
    if key == TASK:
        return "what it says" if features.instruction is None else "env.instruction"
    if key not in offered:
        return MISSING
    drawn = _drawn(features, offered[key])
    return offered[key] + (f" {_size(drawn)}" if drawn else "")


def _taken(key: str, features: FeatureMap) -> str:
    if key not in features.action_keys:
        return MISSING
    width = features.action.get(key.partition(".")[2])
    return "what it takes" if width is None else _size((width,))


def _drawn(features: FeatureMap, observation: str) -> Shape | None:
    camera = features.camera_of(observation)
    return None if camera is None else (camera.height, camera.width, 3)


def _size(shape: Shape) -> str:
    return " x ".join(str(side) for side in shape) or "1"
