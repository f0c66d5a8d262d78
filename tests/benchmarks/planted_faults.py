"""``make faults``, planted defects: recall at both severities, and clean episodes that are named.

In memory every kind with two seeds; as files of every form (HDF5, LeRobot, LMDB, modality.json) with one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from tests.benchmarks.planted.defects import DEFECTS, Defect
from tests.benchmarks.planted.forms import FORMS, LACKS
from tests.benchmarks.planted.measure import Outcome, cpu_seconds, findings_in, measure, plant
from tests.benchmarks.rows import row

SEEDS, FORM_SEED = (11, 12), 13
EPISODES = 120  # of a set in memory; a tenth of them has the defect
FORM_EPISODES = {True: 200, False: 80}  # of a set in files, by whether it is the strong severity
LARGER = 7  # times the side of a frame, to 224 pixels


def kinds_of(form: str) -> list[Defect]:
    """What a form has a place for; of a set in memory, everything."""
    return [each for each in DEFECTS if each.name not in LACKS.get(form, ())]


@cache
def outcomes(form: str = "") -> tuple[Outcome, ...]:
    """Every kind at both severities."""
    measured: list[Outcome] = []
    for defect in kinds_of(form):
        of_kind = [
            measure(defect, strong, seed, FORM_EPISODES[strong] if form else EPISODES, form)
            for strong in (True, False)
            for seed in ((FORM_SEED,) if form else SEEDS)
        ]
        measured += of_kind
        shown = "  ".join(f"{word} {recall(of_kind, defect.name, word == 'strong'):.2f}" for word in ("strong", "weak"))
        false = sorted({kind for each in of_kind for kind in each.other})
        alarms = f"false {sum(each.named for each in of_kind)} of {sum(each.clean for each in of_kind)}"
        print(f"{form or 'memory':<9}{defect.name:<22}{shown}  {alarms} {' '.join(false)}", flush=True)
    return tuple(measured)


def recall(measured: Sequence[Outcome], name: str, strong: bool) -> float:
    """Share of the planted episodes of a kind that are found."""
    of_kind = [each for each in measured if (each.name, each.strong) == (name, strong)]
    return sum(each.found for each in of_kind) / sum(each.planted for each in of_kind)


def lowest(form: str, strong: bool) -> float:
    """The worst kind counts."""
    return min(recall(outcomes(form), defect.name, strong) for defect in kinds_of(form))


def false_alarms(form: str) -> float:
    """Of all sets together."""
    return sum(each.named for each in outcomes(form)) / sum(each.clean for each in outcomes(form))


def _register(form: str) -> None:
    num, where = len(kinds_of(form)), f"in {form} files" if form else "in memory"
    name = f"planted-{form}-" if form else "planted-"
    what = f"lowest recall of {num} kinds of planted defects {where}, at"
    row("faults", f"{name}strong", f"{what} strong severity", ">= 0.95")(partial(lowest, form, True))
    row("faults", f"{name}weak", f"{what} weak severity", ">= 0.7")(partial(lowest, form, False))
    told = f"share of clean episodes {where} that any finding names, over all those sets"
    row("faults", f"{name}false", told, "<= 0.02")(partial(false_alarms, form))


for _form in ("", *FORMS):
    _register(_form)


@row("faults", "planted-seconds", "CPU seconds to look at an HDF5 file of 1,000 low-dimensional episodes", "<= 60 s")
def seconds() -> float:
    """From opening the file to the findings."""
    action_shift = next(each for each in DEFECTS if each.name == "action_shift")
    return measure(action_shift, True, 3, 1000, "hdf5").seconds


@row(
    "faults",
    "planted-cameras",
    "CPU time to look at 60 episodes with two cameras of video of 224 pixels, over that to decode the videos",
    "<= 4 x",
)
def with_cameras() -> float:
    """Everything that inspect does, beside the decoding alone."""
    from tendon.data.sources import open_source
    from tendon.data.video import decoded_frames

    defect = next(each for each in DEFECTS if each.name == "frozen_frames")
    recordings, _ = plant(defect, True, 4, 60)
    for each in recordings:
        each.frames.update(
            {name: np.repeat(np.repeat(frames, LARGER, 1), LARGER, 2) for name, frames in each.frames.items()}
        )
    with tempfile.TemporaryDirectory(prefix="tendon-planted-") as folder:
        source = open_source(FORMS["modality"](recordings, Path(folder)), "modality")
        info = source.describe()
        began = cpu_seconds()
        for episode in info.episodes:
            images = source.read(episode.episode_id).images
            for camera in info.schema.cameras:
                decoded_frames(images[camera.name], camera)
        decoding = cpu_seconds() - began
    _, looking = findings_in(recordings, "modality")
    print(f"decoding {decoding:.1f} s, looking {looking:.1f} s")
    return looking / decoding


@row(
    "faults",
    "planted-linters",
    "kinds of planted defects that lerobot-doctor 0.2.0 or robovet 0.2.2 notices in LeRobot files and inspect does not",
    "== 0",
)
def linters() -> float:
    """The same sets with and without the defect, and one table."""
    from tests.benchmarks.planted.linters import TOOLS, table

    lines = table()
    ours, *others = TOOLS
    for name in TOOLS:
        print(f"{name:<16} notices {sum(each.by[name] for each in lines)} of {len(lines)} kinds")
    return sum(any(each.by[name] for name in others) and not each.by[ours] for each in lines)
