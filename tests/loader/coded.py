"""A source whose frames and values say which episode and step they are, in every codec."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.episode import Camera, Episode, Schema
from tendon.data.features import column
from tendon.data.sources.source import EpisodeInfo, SourceInfo
from tendon.data.video import encode_chunks

BITS, COLUMNS = 24, 6
STATE, JPEG, VIDEO = "observation.state", "observation.images.jpeg", "observation.images.video"


@dataclass(frozen=True)
class Coded:
    """``episodes`` episodes of ``length + i % 3`` steps; frames of ``size`` pixels with the codecs named."""

    episodes: int = 6
    length: int = 20
    size: int = 24
    codecs: tuple[str, ...] = ("jpeg", "video")
    dim: int = 4
    noise: int = 0
    chunk: int = 8
    uri: str = "coded"

    def describe(self) -> SourceInfo:
        cameras = {
            "jpeg": Camera(JPEG, "jpeg", self.size, self.size, 3),
            "video": Camera(VIDEO, "video", self.size, self.size, 3, "mp4", "h264", 10.0, self.chunk),
        }
        features = (column(STATE, "float32", (self.dim,)), column("action", "float32", (2,)))
        schema = Schema(features, tuple(cameras[codec] for codec in self.codecs), 10.0)
        valid = max(1, self.episodes // 10)
        infos = tuple(
            EpisodeInfo(f"e{i}", self.length + i % 3, ("valid" if i < valid else "train",))
            for i in range(self.episodes)
        )
        return SourceInfo("coded", self.uri, "0" * 64, 1, schema, infos)

    def read(self, episode_id: str, images: bool = True) -> Episode:
        i = int(episode_id[1:])
        T = self.length + i % 3
        state = np.random.default_rng(i).normal(size=(T, self.dim)).astype(np.float32)
        state[:, 0], state[:, 1] = i, np.arange(T)
        found: dict[str, object] = {}
        frames = coded_frames(i, T, self.size, self.noise) if images and self.codecs else np.zeros(0)
        if "jpeg" in self.codecs:
            found[JPEG] = frames
        if "video" in self.codecs and images:
            chunks = encode_chunks(frames[1:] if i % 2 == 0 else frames, 10, self.chunk)
            if i % 2 == 0:  # cut at a key frame before the episode begins: its first frame must be skipped
                early = encode_chunks(np.concatenate([frames[:1] * 0, frames]), 10, self.chunk)
                first = replace(early[0], num_frames=early[0].num_frames - 1, skip=1)
                chunks = (first, *(replace(each, first_frame=each.first_frame - 1) for each in early[1:]))
            found[VIDEO] = chunks
        return Episode(episode_id, T, {STATE: state, "action": state[:, :2]}, found if images else {})  # type: ignore[arg-type]


def coded_frames(episode: int, num: int, size: int, noise: int = 0) -> np.ndarray:
    """Frames ``uint8 [num, size, size, 3]`` with the episode and their number as light and dark fields."""
    numbers = (episode << 12) + np.arange(num)
    bits = (numbers[:, None] >> np.arange(BITS)) & 1
    block = size // COLUMNS
    fields = bits.reshape(num, BITS // COLUMNS, COLUMNS).repeat(block, 1).repeat(block, 2)
    frames = np.full((num, size, size), 128, np.int16)
    frames[:, : fields.shape[1], : fields.shape[2]] = 40 + 175 * fields
    if noise:
        rng = np.random.default_rng(episode)
        frames = frames + rng.integers(-noise, noise + 1, frames.shape)
    return np.clip(frames, 0, 255).astype(np.uint8)[..., None].repeat(3, -1)


def numbers_in(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Episode and number of frames ``[..., H, W, 3]``."""
    block = frames.shape[-2] // COLUMNS
    rows = BITS // COLUMNS
    grey = frames[..., : rows * block, : COLUMNS * block, 1].astype(float)
    shape = (*grey.shape[:-2], rows, block, COLUMNS, block)
    bits = grey.reshape(shape).mean((-3, -1)) > 128
    numbers = (bits.reshape(*bits.shape[:-2], BITS) << np.arange(BITS)).sum(-1)
    return numbers >> 12, numbers & 4095


def coded_dataset(store: Path | str, source: Coded, name: str = "coded") -> Dataset:
    """The source, converted."""
    manifest = convert(source, str(store), name)
    return open_dataset(dataset_uri(str(store), name, manifest.plan))
