"""LeRobot v2.1 out: one parquet file and one mp4 per camera for every episode, metadata in lines of JSON.

Called by write_dataset. Loads in LeRobot 0.2 and 0.3, and in 0.4 through LeRobot's own converter.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tendon.data import mp4
from tendon.data.demonstrations import Demonstrations
from tendon.data.episode import VideoChunk
from tendon.data.sources.lerobot_layout import DATA_V2, VIDEO_V2
from tendon.data.writers.lerobot_stats import Totals, camera_stats, mask_stats, stats_of
from tendon.data.writers.lerobot_table import Outgoing, hugging_face_features, nested
from tendon.data.writers.lerobot_video import pieces_of
from tendon.data.writers.modality_entries import has_modality, keep_modality

EPISODES_PER_CHUNK = 1000


def write(dataset: Demonstrations, target: Path, progress: Callable[[int, int, str], None]) -> None:
    """Make the folder ``target``; where it has a modality.json, with the statistics that GR00T's loader asks for."""
    write_folder(dataset, target, progress, with_totals=has_modality(dataset.metadata))


def write_folder(
    dataset: Demonstrations, target: Path, progress: Callable[[int, int, str], None], *, with_totals: bool
) -> None:
    """The same, with or without the statistics of all episodes together in meta/stats.json."""
    import pyarrow.parquet as pq

    out = Outgoing(dataset)
    totals = Totals([row.length for row in dataset.rows]) if with_totals else None
    steps = 0
    described = hugging_face_features(out.features) if out.pictures or out.schema.masks else None
    lines = _Lines(target)
    for row in dataset.rows:
        place = {"episode_chunk": row.index // EPISODES_PER_CHUNK, "episode_index": row.index}
        arrays = out.arrays(row, steps)
        path = target / DATA_V2.format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = out.table(row, arrays).replace_schema_metadata(described)
        pq.write_table(table, path, compression="snappy")
        for camera in out.videos:
            path = target / VIDEO_V2.format(video_key=camera.name, **place)
            path.parent.mkdir(parents=True, exist_ok=True)
            pieces, _, chunks = pieces_of(dataset, row, camera, may_skip=False)
            path.write_bytes(_content(pieces, chunks))
        lines.add("episodes", {"episode_index": row.index, "tasks": out.tasks_of(row, arrays), "length": row.length})
        of_episode = {name: stats_of(values, quantiles=False) for name, values in arrays.items()}
        of_episode |= {each.name: camera_stats(dataset, row, each, quantiles=False) for each in out.schema.cameras}
        of_episode |= {each.name: mask_stats(dataset, row, each, quantiles=False) for each in out.schema.masks}
        lines.add("episodes_stats", {"episode_index": row.index, "stats": nested(of_episode)})
        if totals is not None:
            totals.add(arrays, of_episode)
        steps += row.length
        progress(row.index + 1, len(dataset.rows), "episodes written")
    for number, task in enumerate(out.tasks):
        lines.add("tasks", {"task_index": number, "task": task})
    lines.close()
    if totals is not None:
        (target / "meta/stats.json").write_text(json.dumps(nested(totals.merged()), indent=4))
    _write_info(out, target, steps)
    keep_modality(out.schema, dataset.metadata, target)


def _content(pieces: list[mp4.Piece], chunks: list[VideoChunk]) -> bytes:
    """The video of an episode: byte for byte where it is one chunk whose frames are all shown equally long."""
    piece = pieces[0]
    is_whole = len(chunks) == 1 and piece.content is chunks[0].content
    if is_whole and (mp4.read_track(piece.content).durations == piece.track.durations).all():
        return chunks[0].content
    return mp4.join(pieces)


class _Lines:
    """Files of lines in the folder meta, an object in each line."""

    def __init__(self, target: Path) -> None:
        (target / "meta").mkdir(parents=True, exist_ok=True)
        names = ("episodes", "tasks", "episodes_stats")
        self._files = {name: (target / f"meta/{name}.jsonl").open("w", encoding="utf-8") for name in names}

    def add(self, name: str, line: dict[str, Any]) -> None:
        self._files[name].write(json.dumps(line, ensure_ascii=False) + "\n")

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def _write_info(out: Outgoing, target: Path, steps: int) -> None:
    info = {
        "codebase_version": "v2.1",
        "robot_type": out.source_metadata.get("robot_type"),
        "total_episodes": len(out.dataset.rows),
        "total_frames": steps,
        "total_tasks": len(out.tasks),
        "total_videos": len(out.dataset.rows) * len(out.videos),
        "total_chunks": -(-len(out.dataset.rows) // EPISODES_PER_CHUNK),
        "chunks_size": EPISODES_PER_CHUNK,
        "fps": out.fps,
        "splits": out.splits,
        "data_path": DATA_V2,
        "video_path": VIDEO_V2 if out.videos else None,
        "features": out.features,
    }
    (target / "meta/info.json").write_text(json.dumps(info, indent=4, ensure_ascii=False))
