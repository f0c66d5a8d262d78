"""Recall and false alarms of the findings: ``python -m tests.benchmarks.planted.measure [seed [form] [kind ...]]`` prints the table.

Every set holds one kind in a tenth of its episodes, at one severity; what is named beside it is a false alarm.
"""

from __future__ import annotations

import re
import resource
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tendon.data.check import Facts, Finding, episode_problems
from tendon.data.episode import Camera, Episode, Schema
from tendon.data.features import column
from tendon.data.inspect import inspect_source
from tendon.data.quality import find_faults, trajectory_of
from tendon.data.sources import open_source
from tests.benchmarks.planted.clean import DT, Recording, record_many
from tests.benchmarks.planted.defects import DEFECTS, Defect, cut
from tests.benchmarks.planted.forms import CHUNK, FORMS, LACKS

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


def plant(
    defect: Defect, strong: bool, seed: int, episodes: int = EPISODES, form: str = ""
) -> tuple[list[Recording], set[str]]:
    """A set with the defect, and the names of the episodes that have it; ``form``: of a set that is written so."""
    rng = np.random.default_rng([seed, int(strong), sum(map(ord, defect.name))])
    tasks = 3 if defect.name == "wrong_text" else int(rng.integers(1, 4))
    joints, chunk = (3, CHUNK) if form == "lmdb" else (7, 1)
    recordings = record_many(int(rng.integers(1 << 30)), episodes, tasks, defect.images, joints, chunk)
    if form == "lmdb":  # it has no place for where the object is, and one camera
        recordings = [
            replace(
                each,
                state={key: values for key, values in each.state.items() if key != "object"},
                frames={name: frames for name, frames in each.frames.items() if name == "front"},
            )
            for each in recordings
        ]
    first = (
        episodes // 4 if "duplicate" in defect.name else 0
    )  # the later of two is named: there must be an earlier one
    some = first + rng.choice(episodes - first, episodes // SHARE, replace=False)
    if defect.name == "train_valid_overlap" and form in ("lerobot", "modality"):  # whose splits are ranges
        some = np.arange(episodes - episodes // SHARE, episodes)
    chosen = range(episodes) if defect.whole else some.tolist()
    clean = [each for i, each in enumerate(recordings) if i not in set(chosen)]
    for i in chosen:
        whole = recordings[i]
        recordings[i] = defect.change(rng, whole, strong, clean)
        if form == "lmdb" and defect.name in ("idle_tail", "dropped_frames"):  # only whole chunks are stored
            rest = recordings[i].length % CHUNK
            recordings[i] = defect.change(rng, cut(whole, 0, whole.length - rest), strong, clean)
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


def findings_of_files(uri: str, format: str, *, images: bool) -> list[Finding]:
    """What inspect says of files; a problem is one more kind of finding."""
    inspection = inspect_source(open_source(uri, format), images=images)
    return [*inspection.findings, *(Finding("problem", each.what, each.why) for each in inspection.problems)]


def findings_in(recordings: list[Recording], form: str) -> tuple[list[Finding], float]:
    """What inspect says of them when they lie in files of a form, under the recordings' names; and its CPU seconds."""
    with tempfile.TemporaryDirectory(prefix="tendon-planted-") as folder:
        uri = FORMS[form](recordings, Path(folder))
        format = {"hdf5": "robomimic", "lmdb": "minestudio"}.get(form, form)
        began = cpu_seconds()
        found = findings_of_files(uri, format, images=bool(recordings[0].frames))
        seconds = cpu_seconds() - began
    names = {str(number): each.name for number, each in enumerate(recordings)}
    return [replace(each, where=names.get(_number_in(each.where), each.where)) for each in found], seconds


def cpu_seconds() -> float:
    """Of this process and of its children that have ended: files are looked at in one first."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _number_in(text: str) -> str:
    """The number in the name of an episode."""
    found = re.search(r"(?:demo|episode)_(\d+)", text)
    return str(int(found.group(1))) if found else text


def measure(defect: Defect, strong: bool, seed: int, episodes: int = EPISODES, form: str = "") -> Outcome:
    """One row of the table: of episodes in memory, or of files of a form."""
    recordings, planted = plant(defect, strong, seed, episodes, form)
    began = cpu_seconds()
    if form:
        findings, seconds = findings_in(recordings, form)
    else:
        findings = findings_of(recordings)
        seconds = cpu_seconds() - began
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


def main(seed: int, names: list[str], form: str = "") -> None:
    """The table; ``names`` may begin with a form."""
    if names and names[0] in FORMS:
        form, *names = names
    total = alarms = 0
    for defect in DEFECTS:
        if (names and defect.name not in names) or defect.name in LACKS.get(form, ()):
            continue
        outcomes = [measure(defect, strong, seed, form=form) for strong in (True, False)]
        total += sum(each.clean for each in outcomes)
        alarms += sum(each.named for each in outcomes)
        cells = "   ".join(
            f"{each.found}/{each.planted} false {each.named}/{each.clean} {','.join(each.other)}" for each in outcomes
        )
        print(f"{defect.name:<22}{cells}", flush=True)
    print(f"clean episodes named: {alarms} of {total} = {alarms / max(total, 1):.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0, sys.argv[2:])
