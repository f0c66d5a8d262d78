"""``make bench ROWS=loader-7-window``: random windows of LeRobot's videos, no frame kept decoded, beside LeRobot's reader,
beside decoding alone, and from S3. All rates are windows per second of CPU time."""

from __future__ import annotations

import functools
import io
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.episode import VideoChunk
from tendon.data.sources import open_source
from tendon.data.video import decode_mp4
from tendon.loader import Loader, LoaderResources
from tendon.loader.video_decoder import ChunkTable, chunk_table
from tests.benchmarks import peers
from tests.benchmarks.loader_sets import ROUNDS, far, folder, per_cpu_s, taking
from tests.benchmarks.rows import row
from tests.data.lerobot_sets import encoded
from tests.loader.slow_store import Trouble

CAMERAS = ("observation.images.Top", "observation.images.wrist")
LONG, ACTIONS = (-1, 0), tuple(range(16))
LENGTHS, GROUP = (60, 50, 40), 50  # steps of the episodes; frames from key frame to key frame of the H.264
BATCH, BATCHES = 8, 8
FAR = Trouble(latency_s=0.03, connection_mb_s=40.0)


@functools.cache
def lerobot_set(kind: str) -> Path:
    """A dataset that LeRobot wrote, ``av1`` (g = 2); ``h264`` is the same one with its videos in long groups with B-frames."""
    root = Path(folder().name) / f"windows-{kind}"
    if kind == "av1":
        peers.ask(peers.lerobot(), "lerobot_data.py", "make", str(root), "large", *map(str, LENGTHS))
        return root
    shutil.copytree(lerobot_set("av1"), root)
    for path in root.rglob("*.mp4"):
        path.write_bytes(encoded(decode_mp4(path.read_bytes()), g=GROUP))
    return root


@functools.cache
def converted(kind: str) -> Dataset:
    """The same in shards, videos remuxed."""
    manifest = convert(open_source(str(lerobot_set(kind))), folder().name, f"windows-{kind}")
    return open_dataset(dataset_uri(folder().name, f"windows-{kind}", manifest.plan))


def opened(dataset: Dataset) -> Loader:
    """A loader of random windows that keeps no frame decoded."""
    windows: dict[str, tuple[int, ...]] = dict.fromkeys(CAMERAS, LONG) | {"action": ACTIONS}
    resources = LoaderResources(tier="window", threads=1, ahead=0)
    return Loader(dataset, "all", windows, BATCH, 1, resources=resources)


@dataclass(frozen=True)
class Group:
    """What is decoded for some frames of a window: the samples from the key frame to the last of them."""

    samples: list[tuple[int, bytes]]  # and the frame, by number in order of display, that each becomes
    shown: frozenset[int]


class Decoding:
    """The decoding that windows need and nothing else, by one decoder in one thread."""

    def __init__(self, dataset: Dataset) -> None:
        self.chunks = {
            (row.index, camera): [
                (chunk, chunk_table(memoryview(chunk.content))) for chunk in dataset.video_chunks(row, camera)
            ]
            for row in dataset.rows
            for camera in CAMERAS
        }
        self.container = av.open(io.BytesIO(self.all_chunks()[0].content))
        stream: Any = self.container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        self.context: Any = stream.codec_context

    def all_chunks(self) -> list[VideoChunk]:
        """Those of all episodes and cameras."""
        return [chunk for chunks in self.chunks.values() for chunk, _ in chunks]

    def samples_per_window(self) -> float:
        """How many samples the cameras of a window need, on average."""
        tables = [table for chunks in self.chunks.values() for _, table in chunks if table is not None]
        return len(CAMERAS) * statistics.mean(table.samples_per_window(np.array(LONG)) for table in tables)

    def in_sequence(self) -> int:
        """Decode some chunks from end to end, without colours; the number of their frames."""
        count = 0
        for chunk in self.all_chunks()[:4]:
            with av.open(io.BytesIO(chunk.content)) as container:
                stream: Any = container.streams.video[0]
                stream.thread_type, stream.thread_count = "NONE", 1
                count += sum(1 for _ in container.decode(stream))
        return count

    def groups(self, episode: int, step: int) -> Iterator[Group]:
        """What the window at ``step`` needs."""
        steps = sorted({max(step + delta, 0) for delta in LONG})
        for camera in CAMERAS:
            by_begin: dict[tuple[int, int], list[int]] = {}
            for each in steps:
                k = max(i for i, (chunk, _) in enumerate(self.chunks[episode, camera]) if chunk.first_frame <= each)
                chunk, table = self.chunks[episode, camera][k]
                assert table is not None
                frame = each - chunk.first_frame + chunk.skip
                by_begin.setdefault((k, int(table.cuts[table.cuts <= frame].max())), []).append(frame)
            for (k, begin), frames in by_begin.items():
                chunk, table = self.chunks[episode, camera][k]
                assert table is not None
                yield Group(_samples(chunk, table, begin, frames[-1]), frozenset(frames))

    def of(self, windows: list[list[Group]], colours: bool) -> Callable[[], int]:
        """Work that decodes what ``windows`` need, some of them at a time."""
        reformatter, at = VideoReformatter(), [0]

        def decode() -> int:
            begin = at[0] = (at[0] + BATCH) % len(windows)
            for group in (group for window in windows[begin : begin + BATCH] for group in window):
                self.context.flush_buffers()
                for frame in self._frames(group):
                    if colours and frame.pts in group.shown:
                        reformatter.reformat(frame, format="rgb24", threads=1)
            return BATCH

        return decode

    def _frames(self, group: Group) -> Iterator[Any]:
        for number, sample in group.samples:
            packet: Any = av.Packet(sample)
            packet.pts = number
            yield from self.context.decode(packet)
        yield from self.context.decode(None)


def _samples(chunk: VideoChunk, table: ChunkTable, begin: int, frame: int) -> list[tuple[int, bytes]]:
    columns = (table.begins, table.ends, table.numbers)
    places = zip(*(each[begin : int(table.until[frame])].tolist() for each in columns), strict=True)
    return [(number, chunk.content[first:stop]) for first, stop, number in places]


@functools.cache
def random_windows(kind: str) -> dict[str, float]:
    """Windows per CPU second: ours, LeRobot's, and what decoding alone would allow, counted in three ways."""
    root, dataset = lerobot_set(kind), converted(kind)
    times = {camera: [step / 10 for step in LONG] for camera in CAMERAS} | {"action": [step / 10 for step in ACTIONS]}
    theirs = float(peers.ask(peers.lerobot(), "lerobot_windows.py", "rate", str(root), json.dumps(times))["per_cpu_s"])
    loader, decoding = opened(dataset), Decoding(dataset)
    places: list[tuple[int, int]] = []
    for _ in range(BATCHES):
        batch = next(loader)
        places += zip(batch["episode_index"].tolist(), batch["frame_index"].tolist(), strict=True)
    windows, needed = [list(decoding.groups(*place)) for place in places], decoding.samples_per_window()
    works = {
        "ours": taking(loader, 2),
        "decoding": decoding.of(windows, colours=False),
        "decoding, colours": decoding.of(windows, colours=True),
        "in sequence": decoding.in_sequence,
    }
    rounds = [{name: per_cpu_s(work) for name, work in works.items()} for _ in range(2 * ROUNDS - 1)]
    rates = {name: statistics.median(each[name] for each in rounds) for name in works} | {"LeRobot": theirs}
    rates["in sequence"] /= needed
    print(f"  {kind}: {needed:.2f} samples a window, { ({k: round(v, 1) for k, v in rates.items()}) }", file=sys.stderr)
    return rates


@functools.cache
def from_far(kind: str) -> float:
    """The first windows of a loader over S3 beside those of one over a folder, both begun with nothing; CPU time."""
    near = converted(kind)

    def rate(dataset: Dataset) -> float:
        began = time.process_time()
        loader = opened(dataset)
        taking(loader, BATCHES)()
        loader.close()
        return BATCH * BATCHES / (time.process_time() - began)

    with far(near, FAR) as remote:
        rates = [(rate(remote), rate(near)) for _ in range(ROUNDS + 1)][1:]
    ours, bound = (float(statistics.median(each)) for each in zip(*rates, strict=True))
    print(f"  {kind}: {ours:.4g} from S3, {bound:.4g} from a folder, per CPU second", file=sys.stderr)
    return ours / bound


@row(
    "bench",
    "loader-7-window",
    "random windows of 2 frames of 2 cameras of 640x480 and 16 actions, AV1 (g = 2) as LeRobot wrote it, beside its reader",
    ">= 1.5 x",
)
def windows_beside_lerobot() -> float:
    """The same windows with the same full frames on both sides; nothing stays decoded."""
    rates = random_windows("av1")
    return rates["ours"] / rates["LeRobot"]


@row(
    "bench", "loader-7-window-bound", "the same beside decoding what they need in sequence, without colours", ">= 0.8 x"
)
def windows_beside_sequence() -> float:
    """Unequal work: each sample counts as the average of the video, and windows need more key frames than it has."""
    rates = random_windows("av1")
    return rates["ours"] / rates["in sequence"]


@row(
    "bench",
    "loader-7-window-decoding",
    "the same beside decoding the samples of the same windows, from key frame to frame, without colours",
    ">= 0.8 x",
)
def windows_beside_decoding() -> float:
    """Equal work but for colours and copies, which are ours to pay."""
    rates = random_windows("av1")
    return rates["ours"] / rates["decoding"]


@row(
    "bench",
    "loader-7-window-s3",
    "the same, the first 64 windows from S3 with 30 ms beside those from a folder, both begun with nothing in memory",
    ">= 0.8 x",
)
def windows_from_far() -> float:
    """CPU time; what the network makes everybody wait for is not in it."""
    return from_far("av1")


@row(
    "bench",
    "loader-7-window-h264",
    "the same windows of H.264 in groups of 50 frames with B-frames, beside LeRobot's reader",
    ">= 1.5 x",
)
def long_groups_beside_lerobot() -> float:
    """Its dataset with its videos encoded again."""
    rates = random_windows("h264")
    return rates["ours"] / rates["LeRobot"]


@row(
    "bench",
    "loader-7-window-h264-decoding",
    "the same beside decoding the samples of the same windows, from key frame to frame, without colours",
    ">= 0.8 x",
)
def long_groups_beside_decoding() -> float:
    """Frames that no other one refers to are left out by ours, so that it may be above 1."""
    rates = random_windows("h264")
    return rates["ours"] / rates["decoding"]


@row(
    "bench",
    "loader-7-window-h264-s3",
    "the same, the first 64 windows from S3 with 30 ms beside those from a folder, both begun with nothing in memory",
    ">= 0.8 x",
)
def long_groups_from_far() -> float:
    """CPU time, as for AV1."""
    return from_far("h264")
