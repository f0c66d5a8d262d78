"""A dataset as MineStudio LMDB 1.1 folders, which MineStudio 1.1 opens; ``write_dataset`` calls it.

A camera of mp4 chunks that have the chunk length leaves byte for byte; other frames are encoded as H.264, and the last
incomplete chunk is dropped, as MineStudio's own converter does. One LMDB per modality: ``image/part-0`` and so on.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tendon.data import tagged_json
from tendon.data.demonstrations import Demonstrations
from tendon.data.episode import Camera
from tendon.data.features import TASK, is_action_part
from tendon.data.rows import EpisodeRow
from tendon.data.sources.lmdb_folder import lmdb
from tendon.data.sources.minestudio import (
    AIM,
    BUTTONS,
    INTERACTION,
    INTERACTIONS,
    MASK_SIZE,
    META_NUMBERS,
    TARGET,
)
from tendon.data.writers import Progress
from tendon.errors import DataError

log = logging.getLogger(__name__)

CHUNK = 32
PROTOCOL = 4
MAP_BYTES = 1 << 40  # a bound on the size of an LMDB, not its size
# sync=False below: a transaction per episode would wait for the disk twice each; write_dataset syncs the whole files


def write(dataset: Demonstrations, target: Path, progress: Progress) -> None:
    """Make the folder ``target``.

    Raises:
        DataError: the dataset has no camera, or no actions of Minecraft.
    """
    _check(dataset)
    size = int(_known(dataset).get("chunk_size", CHUNK))
    modalities = [
        "image",
        "action",
        *(name for name in _known(dataset).get("modalities", []) if name in ("meta_info", "segmentation")),
    ]
    _warn_of_the_rest(dataset, modalities)
    writers = {name: _Part(target / name / "part-0", size) for name in modalities}
    events: list[tuple[str, int, str, Any, Any]] = []
    short = 0
    for done, row in enumerate(dataset.rows, 1):
        num = row.length // size
        short += row.length % size != 0
        if num:
            extras = dataset.extras(row)
            if "segmentation" in modalities and "segmentation.0000.json" not in extras:
                extras |= _segmentation(dataset, row, size)
            writers["image"].add(row.episode_id, _videos(dataset, row, size))
            writers["action"].add(row.episode_id, _actions(dataset, row, size))
            for name in modalities[2:]:
                chunks = [tagged_json.loads(extras[f"{name}.{k:04d}.json"]) for k in range(num)]
                chunks = _as_version_11(chunks) if name == "segmentation" else chunks
                writers[name].add(row.episode_id, map(_pickled, chunks))
            events += [(event, n, row.episode_id, frame, value) for event, n, frame, value in _events(extras)]
        progress(done, len(dataset.rows), "episodes written")
    if short:
        log.warning("export-data: %d episodes end in an incomplete chunk of %d frames, which is dropped", short, size)
    for each in writers.values():
        each.close()
    if events:
        _write_events(target / "event", sorted(events, key=lambda event: event[:2]))


class _Part:
    """One LMDB of one modality; the same episodes give the same values under the same keys."""

    def __init__(self, folder: Path, chunk_size: int) -> None:
        folder.mkdir(parents=True)
        self._chunk_size = chunk_size
        self._environment = lmdb().open(str(folder), map_size=MAP_BYTES, sync=False)
        self._infos: list[dict[str, Any]] = []

    def add(self, episode: str, chunks: Iterator[bytes]) -> None:
        number, frames = len(self._infos), 0
        with self._environment.begin(write=True) as transaction:
            for content in chunks:
                transaction.put(str((number, frames)).encode(), content)
                frames += self._chunk_size
        self._infos.append({"episode": episode, "episode_idx": number, "num_frames": frames})

    def close(self) -> None:
        values = {
            "__chunk_size__": self._chunk_size,
            "__chunk_infos__": self._infos,
            "__num_episodes__": len(self._infos),
            "__num_total_frames__": sum(info["num_frames"] for info in self._infos),
        }
        with self._environment.begin(write=True) as transaction:
            for key, value in values.items():
                transaction.put(key.encode(), _pickled(value))
        self._environment.close()


def _videos(dataset: Demonstrations, row: EpisodeRow, size: int) -> Iterator[bytes]:
    from tendon.data.video import encode_mp4

    camera = _camera(dataset)
    if camera.codec == "mp4":
        chunks = dataset.video_chunks(row, camera.name)
        whole = [chunk for chunk in chunks if chunk.num_frames == size and not chunk.skip]
        if len(whole) >= row.length // size and [c.first_frame for c in whole] == [k * size for k in range(len(whole))]:
            yield from (chunk.content for chunk in whole)
            return
    for start in range(0, row.length // size * size, size):
        frames = dataset.frames(row, camera.name, range(start, start + size))
        yield encode_mp4(frames, dataset.schema.fps, key_every=size)


def _actions(dataset: Demonstrations, row: EpisodeRow, size: int) -> Iterator[bytes]:
    rows = dataset.lowdim(row)
    known = _known(dataset)
    buttons = known["buttons"]
    for start in range(0, row.length // size * size, size):
        part = rows[start : start + size]
        chunk = {}
        for key, (dtype, _) in known["action"].items():
            values = part[BUTTONS][:, buttons.index(key)] if key in buttons else part[f"action.{key}"]
            chunk[key] = np.ascontiguousarray(values, dtype)
        yield _pickled(chunk)


def _events(extras: dict[str, bytes]) -> list[list[Any]]:
    events: list[list[Any]] = tagged_json.loads(extras["events.json"]) if "events.json" in extras else []
    return events


def _write_events(folder: Path, events: list[tuple[str, int, str, Any, Any]]) -> None:
    """The event LMDB: items are numbered anew, so that none is missing."""
    folder.mkdir(parents=True)
    environment = lmdb().open(str(folder), map_size=MAP_BYTES, sync=False)
    info: dict[str, dict[str, int]] = {}
    episodes: dict[str, set[str]] = {}
    with environment.begin(write=True) as transaction:
        for event, _, episode, frame, value in events:
            of = info.setdefault(event, {"__num_items__": 0, "__num_episodes__": 0})
            transaction.put(str((event, of["__num_items__"])).encode(), _pickled((episode, frame, value)))
            of["__num_items__"] += 1
            episodes.setdefault(event, set()).add(episode)
        for event, of in info.items():
            of["__num_episodes__"] = len(episodes[event])
        transaction.put(b"__event_info__", _pickled(info))
        transaction.put(b"__num__events__", _pickled(len(info)))
    environment.close()


def _pickled(value: object) -> bytes:
    return pickle.dumps(value, PROTOCOL)


def _camera(dataset: Demonstrations) -> Camera:
    """The one camera that the format has a place for."""
    return next(each for each in dataset.schema.cameras if each.kind == "image")


def _segmentation(dataset: Demonstrations, row: EpisodeRow, size: int) -> dict[str, bytes]:
    """Chunks of what is aimed at, from the mask and the kind of interaction; steps in a row are one interaction."""
    kinds, masks = dataset.lowdim(row)[INTERACTION], dataset.run_lengths(row, TARGET)
    drawn = next((mask.height, mask.width) for mask in dataset.schema.masks if mask.name == TARGET)
    if drawn != MASK_SIZE:
        masks = masks.resized(drawn, MASK_SIZE)
    borders = np.flatnonzero(np.diff(kinds.astype(np.int64), prepend=kinds[0], append=kinds[-1] + 1))
    frames: list[dict[Any, Any]] = []
    for step, kind in enumerate(kinds.tolist()):
        at = int(np.searchsorted(borders, step, "right"))
        frame_range = (int(borders[at - 1]) if at else 0, int(borders[at]) - 1)
        event = INTERACTIONS[kind] if kind >= 0 else ""
        entry = {"obj_id": kind, "rle_mask": masks.text(step), "event": event, "point": None, "frame_id": step}
        frames.append({(frame_range, event): entry | {"frame_range": frame_range}} if kind >= 0 else {})
    starts = range(0, row.length // size * size, size)
    return {
        f"segmentation.{k:04d}.json": tagged_json.dumps(frames[start : start + size]) for k, start in enumerate(starts)
    }


def _as_version_11(chunks: list[list[dict[Any, Any]]]) -> list[list[dict[Any, Any]]]:
    """Segments of MineStudio 1.0, ``{number: mask}`` in every frame, as 1.1 reads them; those of 1.1 as they are.

    1.0 knows no events: a stretch of frames with one number is one interaction, named by its kind.
    """
    frames = [frame for chunk in chunks for frame in chunk]
    if not any(isinstance(mask, str) for frame in frames for mask in frame.values()):
        return chunks
    begins: dict[Any, int] = {}
    ranges: list[dict[Any, list[int]]] = []
    for t, frame in enumerate(frames):
        begins = {number: begins.get(number, t) for number in frame}
        ranges.append({number: [begins[number], t] for number in frame})
    for t in reversed(range(len(frames) - 1)):  # a stretch ends where its number is missing next
        for number, ends in ranges[t].items():
            if number in ranges[t + 1]:
                ends[1] = ranges[t + 1][number][1]
    made = []
    for t, frame in enumerate(frames):
        entries = {}
        for number, mask in frame.items():
            event = INTERACTIONS[number] if 0 <= int(number) < len(INTERACTIONS) else str(number)
            span = (ranges[t][number][0], ranges[t][number][1])
            entry = {"obj_id": int(number), "rle_mask": mask, "event": event, "point": None, "frame_id": t}
            entries[(span, event)] = entry | {"frame_range": span}
        made.append(entries)
    size = len(chunks[0])
    return [made[at : at + size] for at in range(0, len(made), size)]


def _known(dataset: Demonstrations) -> dict[str, Any]:
    """What the source said of its chunks; of data from elsewhere, what its features say."""
    known: dict[str, Any] | None = dataset.metadata.get("minestudio")
    if known is not None:
        return known
    columns = {each.key: each for each in dataset.schema.columns}
    buttons = columns[BUTTONS].names if BUTTONS in columns and AIM in columns else ()
    if not buttons or len(buttons) != columns[BUTTONS].dim:
        return {}
    others = [each for each in dataset.schema.columns if is_action_part(each.key) and each.key != BUTTONS]
    action: dict[str, Any] = {key: ["<i8", []] for key in buttons}
    action |= {each.key.removeprefix("action."): [np.dtype(each.dtype).str, list(each.shape)] for each in others}
    targets = any(each.name == TARGET for each in dataset.schema.masks)
    modalities = ["segmentation"] if targets and INTERACTION in columns else []
    return {"buttons": list(buttons), "action": action, "modalities": modalities}


def _warn_of_the_rest(dataset: Demonstrations, modalities: Sequence[str]) -> None:
    """Say what the format has no place for."""
    held = {*(each.key for each in dataset.schema.columns if is_action_part(each.key)), _camera(dataset).name}
    held |= {TARGET, INTERACTION} if "segmentation" in modalities else set()
    if "meta_info" in modalities:
        held |= {f"observation.{key}" for key in META_NUMBERS}
    rest = [each.key for each in dataset.schema.features if each.key not in held]
    rest = [key for key in rest if key != TASK or any(dataset.texts)]
    if rest:
        log.warning("export-data: MineStudio's format has no place for %s: left out", ", ".join(rest))


def _check(dataset: Demonstrations) -> None:
    schema = dataset.schema
    why = "" if any(each.kind == "image" for each in schema.cameras) else "it has no camera"
    if not _known(dataset).get("action"):
        why = f"its features are {', '.join(each.key for each in schema.columns)[:200]}, not buttons and a camera angle"
    if why:
        raise DataError(
            "the dataset cannot be written as MineStudio's",
            where=dataset.uri,
            why=why,
            fix="choose another format: lerobot-v3.0 holds any dataset",
        )
