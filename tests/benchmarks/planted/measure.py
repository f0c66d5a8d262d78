"""Recall and false alarms of the findings: ``python -m tests.benchmarks.planted.measure [seed]`` prints the table.

Every set holds one kind in a tenth of its episodes, at one severity; what is named beside it is a false alarm.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np

from tendon.data.check import Facts, Finding, episode_problems
from tendon.data.episode import Camera, Episode, Schema
from tendon.data.features import column
from tendon.data.quality import find_faults, trajectory_of
from tests.benchmarks.planted.clean import DT, Recording, record_many
from tests.benchmarks.planted.defects import DEFECTS, Defect

EPISODES = 80
SHARE = 10  # one in so many


@dataclass(frozen=True)
class Outcome:
    """Of one kind at one severity."""

    name: str
    strong: bool
    planted: int
    found: int
    clean: int
    named: int  # clean episodes that are named by any finding
    seconds: float
    other: tuple[str, ...] = ()


def plant(defect: Defect, strong: bool, seed: int, episodes: int = EPISODES) -> tuple[list[Recording], set[str]]:
    """A set with the defect, and the names of the episodes that have it."""
    rng = np.random.default_rng([seed, int(strong), sum(map(ord, defect.name))])
    tasks = 3 if defect.name == "wrong_text" else int(rng.integers(1, 4))
    recordings = record_many(int(rng.integers(1 << 30)), episodes, tasks, defect.images)
    first = (
        episodes // 4 if "duplicate" in defect.name else 0
    )  # the later of two is named: there must be an earlier one
    some = first + rng.choice(episodes - first, episodes // SHARE, replace=False)
    chosen = range(episodes) if defect.whole else some.tolist()
    clean = [each for i, each in enumerate(recordings) if i not in set(chosen)]
    for i in chosen:
        recordings[i] = defect.change(rng, recordings[i], strong, clean)
    return recordings, {recordings[i].name for i in chosen}


def schema_of(recording: Recording) -> Schema:
    """What the recordings of a set hold."""
    columns = [column(f"observation.{key}", "float64", each.shape[1:]) for key, each in recording.state.items()]
    columns += [column("action", "float64", (recording.action.shape[1],)), column("timestamp", "float64")]
    cameras = tuple(Camera(name, name, *each.shape[1:]) for name, each in recording.frames.items())
    return Schema(tuple(columns), cameras, 1 / DT)


def episode_of(recording: Recording) -> Episode:
    """In memory, as a source would give it."""
    features = {f"observation.{key}": each for key, each in recording.state.items()}
    features |= {"action": recording.action, "timestamp": recording.timestamp}
    return Episode(recording.name, recording.length, features, recording.frames, recording.task)


def findings_of(recordings: list[Recording]) -> list[Finding]:
    """Everything that inspect says of them."""
    schema, episodes = schema_of(recordings[0]), [episode_of(each) for each in recordings]
    problems = {each.episode_id: episode_problems(each, "memory") for each in episodes}
    findings = [Finding("problem", name, one.what) for name, each in problems.items() for one in each]
    usable = [each for each in episodes if not problems[each.episode_id]]
    splits: dict[str, list[str]] = {}
    for each in recordings:
        for split in each.split.split():
            splits.setdefault(split, []).append(each.name)
    findings += Facts.of(usable, schema.fps).findings(schema, splits)
    frames = [{name: np.asarray(each.images[name]) for name in each.images} for each in usable]
    trajectories = [
        trajectory_of(each.episode_id, each.task, each.features, schema, shown)
        for each, shown in zip(usable, frames, strict=True)
    ]
    return findings + find_faults(trajectories)


def measure(defect: Defect, strong: bool, seed: int, episodes: int = EPISODES) -> Outcome:
    """One row of the table."""
    recordings, planted = plant(defect, strong, seed, episodes)
    began = time.process_time()
    findings = findings_of(recordings)
    seconds = time.process_time() - began
    names = {each.name for each in recordings}
    if defect.whole or defect.name in ("empty_text", "train_valid_overlap"):  # one finding that lists them
        seen = any(each.kind in defect.kinds for each in findings)
        found = len(planted) if seen else 0
    else:
        found = len({each.where for each in findings if each.kind in defect.kinds} & planted)
    named = [each for each in findings if each.where in names - planted]
    return Outcome(
        defect.name, strong, len(planted), found, len(names - planted), len({each.where for each in named}), seconds,
        tuple(sorted({each.kind for each in named})),
    )  # fmt: skip


def main(seed: int, names: list[str]) -> None:
    """The table."""
    total = alarms = 0
    for defect in DEFECTS:
        if names and defect.name not in names:
            continue
        outcomes = [measure(defect, strong, seed) for strong in (True, False)]
        total += sum(each.clean for each in outcomes)
        alarms += sum(each.named for each in outcomes)
        cells = "   ".join(
            f"{each.found}/{each.planted} false {each.named}/{each.clean} {','.join(each.other)}" for each in outcomes
        )
        print(f"{defect.name:<22}{cells}", flush=True)
    print(f"clean episodes named: {alarms} of {total} = {alarms / max(total, 1):.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0, sys.argv[2:])
