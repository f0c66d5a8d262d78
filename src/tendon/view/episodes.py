"""The episodes of a dataset for the page: a light list of all, and of one the trajectories, frames and findings.

Bytes come by ranges from the store when an episode is opened; recent pictures stay in a small memory.
"""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from tendon.data.check import Finding
from tendon.data.dataset import Dataset, EpisodeRow, open_dataset
from tendon.data.episode import Camera
from tendon.data.tario import MP4
from tendon.errors import ConfigError, nearest
from tendon.storage.local import LocalStore
from tendon.view.curves import lines, stride_of
from tendon.view.shell import Embedded, NothingThere, Reply, as_json, shell

CACHE_BYTES = 64 << 20  # encoded frames of the episodes that were looked at last
COMPARED = {True: 4_000_000, False: 500_000}  # numbers read to compare episodes, by whether the store is this machine
MOST_COMPARED = 1_000  # episodes
FILE_BYTES = 24 << 20  # of a page in a file
FILE_FRAMES, FILE_EPISODES = 24, 12
JPEG_QUALITY = 85

Picture = NDArray[Any]


class DatasetView:
    """A dataset as a page."""

    def __init__(self, uri: str, dataset: Dataset | None = None) -> None:
        self.uri = uri
        self.dataset = dataset or open_dataset(uri)
        self.title = f"Data: {self.dataset.name}"
        self.frames = _FrameCache(self.dataset)
        self._lock = threading.Lock()

    def page(self, trail: Sequence[tuple[str, str]] = ()) -> str:
        """The page that asks the server."""
        return shell("dataset", self.title, self.uri, trail)

    def answer(self, path: str) -> Reply:
        """``api/dataset``, ``api/findings``, ``api/episode/N``, ``frame/N/CAMERA/T.jpg``."""
        parts = [unquote(part) for part in path.split("/")]
        if parts == ["api", "dataset"]:
            return as_json(self.describe())
        if parts == ["api", "findings"]:
            return as_json(self.findings)
        if parts[:2] == ["api", "episode"] and len(parts) == 3:
            return as_json(self.episode(self._row(parts[2])))
        if parts[0] == "frame" and len(parts) == 4 and parts[3].endswith(".jpg"):
            row, name = self._row(parts[1]), parts[2]
            step = parts[3].removesuffix(".jpg")
            if name not in self.frames.names or not step.isdigit() or int(step) >= row.length:
                raise NothingThere(f"episode {row.episode_id} has no frame {step} of {name}")
            return Reply(self.frames.jpeg(row, name, int(step)), "image/jpeg")
        raise NothingThere(path)

    def _row(self, text: str) -> EpisodeRow:
        if not text.isdigit() or int(text) >= len(self.dataset.rows):
            raise NothingThere(f"there is no episode {text}")
        return self.dataset.rows[int(text)]

    def describe(self, numbers: Sequence[int] | None = None) -> dict[str, Any]:
        """All that the list of episodes shows, as columns."""
        dataset, manifest = self.dataset, self.dataset.manifest
        rows = dataset.rows if numbers is None else dataset.rows.chosen(np.asarray(numbers, np.int64))
        success = [-1 if value is None else int(value) for value in rows.column("success").to_pylist()]
        place = {name: k for k, name in enumerate(dataset.splits)}
        texts = dataset.texts
        return {
            "facts": list(self._facts()),
            "fps": manifest.schema.fps or 1.0,
            "ids": rows.ids(),
            "lengths": rows.lengths.tolist(),
            "success": success,
            "task": dataset.task_numbers[rows.numbers].tolist(),
            "tasks": list(texts) or [""],
            "splits": list(dataset.splits),
            "splits_of": [
                [place[name] for name in names if name in place] for names in rows.column("splits").to_pylist()
            ],
            "cameras": [
                {"name": each.name, "height": each.height, "width": each.width} for each in manifest.schema.pictures
            ],
            "note": "",
        }

    def _facts(self) -> Iterator[tuple[str, str]]:
        manifest = self.dataset.manifest
        yield "episodes", f"{manifest.episodes:,}"
        yield "steps", f"{manifest.steps:,}"
        yield "size", f"{sum(shard.bytes for shard in manifest.shards) / 1e6:,.1f} MB"
        yield "rate", f"{manifest.schema.fps:g} a second"
        yield "splits", ", ".join(f"{name} {each.episodes:,}" for name, each in manifest.splits.items())
        yield "source", ", ".join(each.uri for each in manifest.sources)
        yield "digest", manifest.digest[:16]

    def episode(self, row: EpisodeRow) -> dict[str, Any]:
        """One episode: numbers over its steps, what the robot was told, and what lies with it."""
        dataset, schema = self.dataset, self.dataset.schema
        steps = dataset.lowdim(row)
        told = [[schema.texts[int(k)] for k in steps[key]] for key in schema.text_keys]
        columns = [each for each in schema.columns if each.kind != "text"]
        ordered = sorted(columns, key=lambda each: not each.key.startswith("action"))
        return {
            "id": row.episode_id,
            "length": row.length,
            "task": row.task,
            "success": row.success,
            "splits": row.splits,
            "shard": dataset.manifest.shards[row.shard].key,
            "stride": stride_of(row.length),
            "features": [lines(each.key, steps[each.key], each.names) for each in ordered],
            "texts": told or ([[row.task]] if row.task else []),
            "extras": sorted(dataset.extras(row)) if isinstance(dataset.store, LocalStore) else [],
            "frames": None,
        }

    @cached_property
    def findings(self) -> dict[str, Any]:
        """What ``tendon inspect`` finds, by episode; what concerns none in particular apart."""
        from tendon.data.stats import find_odd

        with self._lock:
            rows = self.dataset.rows
            found = [*find_odd(self.dataset, rows), *self._faults()]
        ids = set(rows.ids())
        by_episode: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for finding in found:
            if finding.where in ids:
                by_episode[finding.where].append(asdict(finding))
        return {"by_episode": by_episode, "general": [str(one) for one in found if one.where not in ids]}

    def _faults(self) -> list[Finding]:
        """Of episodes that are unlike the others, where there are few enough numbers to compare them all."""
        from tendon.data.quality import find_faults, trajectory_of

        dataset, rows = self.dataset, self.dataset.rows
        numbers = dataset.manifest.steps * sum(dataset.schema.dims.values())
        if len(rows) > MOST_COMPARED or numbers > COMPARED[isinstance(dataset.store, LocalStore)]:
            return []
        steps = zip(rows, dataset.lowdims(rows), strict=True)
        keys = dataset.schema.dims
        compared = [
            trajectory_of(row.episode_id, row.task, {key: each[key] for key in keys}, dataset.schema)
            for row, each in steps
        ]
        return find_faults(compared)

    def numbers_of(self, ids: Sequence[str]) -> list[int]:
        """The numbers of some episodes.

        Raises:
            ConfigError: there is no such episode.
        """
        place = {name: number for number, name in enumerate(self.dataset.rows.ids())}
        for name in ids:
            if name not in place:
                close = nearest(name, place)
                raise ConfigError(
                    f"the dataset has no episode {name}",
                    where=f"{self.uri}, --episodes",
                    why=f"it has {len(place):,}, {next(iter(place))} among them",
                    fix=f"write {close}" if close else "tendon view without --episodes lists them",
                )
        return [place[name] for name in ids]

    def written(self, ids: Sequence[str] = ()) -> str:
        """The page with some episodes inside: those that are named, else the first ones, while they fit."""
        wanted = self.numbers_of(ids) if ids else list(range(min(FILE_EPISODES, len(self.dataset.rows))))
        episodes: list[dict[str, Any]] = []
        media: dict[str, str] = {}
        kept: list[int] = []
        room = FILE_BYTES
        for number in wanted:
            row, at = self.dataset.rows[number], len(kept)
            episode = self.episode(row)
            shown = np.unique(np.linspace(0, row.length - 1, min(FILE_FRAMES, row.length)).round().astype(int)).tolist()
            pictures = {
                f"frame/{at}/{_in_a_path(name)}/{step}.jpg": self.frames.jpeg(row, name, step)
                for name in self.frames.names
                for step in shown
            }
            size = sum(len(each) for each in pictures.values()) * 4 // 3
            if kept and size > room:
                break
            room -= size
            kept.append(number)
            episodes.append(episode | {"frames": shown})
            media |= {path: _data_uri(content) for path, content in pictures.items()}
        note = ""
        if len(kept) < len(self.dataset.rows):
            note = f"This file holds {len(kept):,} of {len(self.dataset.rows):,} episodes and some of their frames; tendon view shows all."
        about = self.describe(kept) | {"note": note}
        answers: dict[str, Any] = {"api/dataset": about, "api/findings": self.findings}
        answers |= {f"api/episode/{at}": episode for at, episode in enumerate(episodes)}
        return shell("dataset", self.title, self.uri, embedded=Embedded(answers, media))


def _in_a_path(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="!~*'()")  # as encodeURIComponent of the page


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


class _FrameCache:
    """Frames as JPEG, a group of an episode at a time: a whole camera, or one chunk of a video."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._pictures = {each.name: each for each in dataset.schema.pictures}
        self._groups: OrderedDict[tuple[int, str, int], dict[int, bytes]] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[tuple[int, str, int], threading.Lock] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Cameras, then masks."""
        return tuple(self._pictures)

    def jpeg(self, row: EpisodeRow, name: str, step: int) -> bytes:
        """One frame; its group is read when none of it was asked for lately."""
        key = (row.index, name, self._group(row, name, step))
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                group = self._groups.get(key)
            if group is None:
                group = self._read(row, name, step)
                self._keep(key, group)
        return group[step]

    def _keep(self, key: tuple[int, str, int], group: dict[int, bytes]) -> None:
        with self._lock:
            self._groups[key] = group
            while len(self._groups) > 1 and sum(map(_size, self._groups.values())) > CACHE_BYTES:
                old, _ = self._groups.popitem(last=False)
                self._making.pop(old, None)

    def _group(self, row: EpisodeRow, name: str, step: int) -> int:
        of = self._pictures[name]
        if not isinstance(of, Camera) or of.codec != MP4:
            return 0
        firsts = self._dataset.table.column(f"{of.member}.{MP4}/first_frame")[row.index].as_py()
        return int(np.searchsorted(firsts, step, "right")) - 1

    def _read(self, row: EpisodeRow, name: str, step: int) -> dict[int, bytes]:
        of, dataset = self._pictures[name], self._dataset
        if not isinstance(of, Camera):
            return dict(enumerate(map(_encoded, dataset.masks(row, name) * np.uint8(255))))
        if of.codec == MP4:
            from tendon.data.video import decode_chunks

            (chunk,) = dataset.video_chunks(row, name, [step])
            steps = range(chunk.first_frame, chunk.first_frame + chunk.num_frames)
            return dict(zip(steps, map(_encoded, decode_chunks([chunk], steps)), strict=True))
        if of.codec == "mjpeg":
            return dict(enumerate(dataset.jpegs(row, name)))
        frames = dataset.frames(row, name)
        return dict(enumerate(map(_encoded, _grey(frames) if of.kind == "depth" else frames)))


def _grey(depth: Picture) -> Picture:
    """Metres as grey, the nearest dark; what is no number black."""
    finite = np.where(np.isfinite(depth), depth, 0.0)
    low, high = float(finite.min()), float(finite.max())
    return ((finite - low) * (255.0 / max(high - low, 1e-9))).astype(np.uint8)


def _encoded(frame: Picture) -> bytes:
    import simplejpeg

    picture = frame if frame.ndim == 3 else frame[:, :, None]
    space = "GRAY" if picture.shape[2] == 1 else "RGB"
    content: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(picture[:, :, :3]), JPEG_QUALITY, space)
    return content


def _size(group: dict[int, bytes]) -> int:
    return sum(map(len, group.values()))
