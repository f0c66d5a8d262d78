"""Episodes of a dataset as a Rerun recording (.rrd): a timeline per episode, numbers as series, frames as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tendon.errors import MissingDependency
from tendon.view.episodes import DatasetView

FIRST_EPISODES = 4  # when none is named


def write_recording(view: DatasetView, ids: Sequence[str], path: str) -> int:
    """Write some episodes (the first ones where none is named); how many.

    Raises:
        MissingDependency: rerun-sdk is not installed.
    """
    try:
        import rerun as rr
    except ImportError:
        raise MissingDependency(
            "a Rerun recording needs rerun-sdk",
            where="tendon view --rrd",
            why="it is not installed in this environment",
            fix="pip install 'tendon-robotics[rerun]'",
        ) from None
    dataset = view.dataset
    numbers = view.numbers_of(ids) if ids else list(range(min(FIRST_EPISODES, len(dataset.rows))))
    recording: Any = rr.RecordingStream(f"tendon {dataset.name}")
    recording.save(path)
    for number in numbers:
        row = dataset.rows[number]
        steps = dataset.lowdim(row)
        seconds = np.arange(row.length) / (dataset.schema.fps or 1.0)
        place = f"episode_{row.episode_id}"
        times = [
            rr.TimeColumn("step", sequence=np.arange(row.length)),
            rr.TimeColumn("time", duration=seconds),
        ]
        recording.log(f"{place}/task", rr.TextDocument(row.task), static=True)
        for feature in dataset.schema.columns:
            if feature.kind == "text":
                continue
            values = np.asarray(steps[feature.key], np.float64).reshape(row.length, -1)
            names = list(feature.names) or [f"[{d}]" for d in range(values.shape[1])]
            recording.log(f"{place}/{feature.key}", rr.SeriesLines(names=names), static=True)
            recording.send_columns(f"{place}/{feature.key}", times, rr.Scalars.columns(scalars=values))
        for name in view.frames.names:
            jpegs = [view.frames.jpeg(row, name, step) for step in range(row.length)]
            columns = rr.EncodedImage.columns(blob=jpegs, media_type=["image/jpeg"] * row.length)
            recording.send_columns(f"{place}/{name}", times, columns)
    recording.flush()
    recording.disconnect()
    return len(numbers)
