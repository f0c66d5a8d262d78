"""Sizes, codecs, machines that share a plan, strict mode: what may be asked of a conversion."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tendon.data.convert import ConversionOptions, convert, dataset_uri, plan_digest, rebuild_index
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.images import resized
from tendon.data.sources import open_source
from tendon.data.verify import find_damage
from tendon.errors import ConfigError, DataError

Maker = Callable[..., Path]
CAMERA = "observation.images.agentview_image"


def converted(path: Path, store: str, **options: object) -> Dataset:
    chosen = ConversionOptions(shard_bytes=20_000, **options)  # type: ignore[arg-type]
    manifest = convert(open_source(str(path)), store, "lift", chosen)
    return open_dataset(dataset_uri(store, "lift", manifest.plan))


def test_raw_frames_are_equal(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5(images=True)
    dataset = converted(path, str(tmp_path / "s"), codec="npy")
    assert {camera.codec for camera in dataset.manifest.schema.cameras} == {"npy"}
    with h5py.File(path) as file:
        for row in dataset.rows:
            frames = file[f"data/{row.episode_id}/obs/agentview_image"][()]
            assert np.array_equal(dataset.frames(row, CAMERA), frames)
            assert np.array_equal(dataset.frames(row, CAMERA, [3, 0]), frames[[3, 0]])
    assert rebuild_index(dataset.store, dataset.manifest) == dataset.store.read(dataset.manifest.index.key)
    assert list(find_damage(dataset)) == []


def test_resized_frames(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5(images=True, size=48)
    small = converted(path, str(tmp_path / "s"), resize=(24, 16), codec="npy")
    camera = small.manifest.schema.cameras[0]
    assert (camera.height, camera.width) == (24, 16)
    with h5py.File(path) as file:
        frames = file["data/demo_0/obs/agentview_image"][()]
    wanted = frames.reshape(len(frames), 24, 2, 16, 3, 3).mean((2, 4))
    got = small.frames(small.rows[0], CAMERA)
    assert got.shape[1:] == (24, 16, 3)
    assert np.abs(got - wanted).mean() < 3
    jpeg = converted(path, str(tmp_path / "s"), resize=(24, 16))
    assert jpeg.frames(jpeg.rows[0], CAMERA).shape == got.shape
    assert jpeg.uri != small.uri
    with pytest.raises(ConfigError, match="raw frames are too large"):
        converted(path, str(tmp_path / "s"), resize=(96, 96), codec="npy")


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_resizing_keeps_flat_colours(h: int, w: int, height: int, width: int) -> None:
    frames = np.full((1, h, w, 3), (7, 130, 255), np.uint8)
    assert np.array_equal(resized(frames, height, width), np.full((1, height, width, 3), (7, 130, 255), np.uint8))


def test_options_at_their_defaults_leave_the_digest() -> None:
    assert plan_digest("x", ConversionOptions()) == plan_digest("x")
    changed = [ConversionOptions(jpeg_quality=80), ConversionOptions(codec="npy"), ConversionOptions(resize=(8, 9))]
    assert len({plan_digest("x"), *(plan_digest("x", each) for each in changed)}) == 4


@pytest.mark.parametrize("at_once", [True, False])
def test_machines_share_a_plan(lift_like_hdf5: Maker, tmp_path: Path, at_once: bool) -> None:
    path = lift_like_hdf5(episodes=12)
    options = ConversionOptions(shard_bytes=6000)
    whole = convert(open_source(str(path)), str(tmp_path / "one"), "lift", options)

    def machine(w: int) -> object:
        return convert(open_source(str(path)), str(tmp_path / "three"), "lift", options, worker=w, of=3)

    with ThreadPoolExecutor(3 if at_once else 1) as pool:
        assert list(pool.map(machine, range(3))) == [whole] * 3
    with pytest.raises(ConfigError, match="no such worker"):
        machine(3)


def test_strict_makes_findings_errors(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    path = lift_like_hdf5()
    source = open_source(str(path))
    manifest = convert(source, str(tmp_path / "s"), "lift")
    assert convert(open_source(str(path)), str(tmp_path / "s"), "lift", strict=True) == manifest
    path = lift_like_hdf5("odd.hdf5")
    with h5py.File(path, "a") as file:
        file["data/demo_2/actions"][3, 6] = 1.5
        file["data/demo_3/obs/object"][:, 0] = 2.0
        file.copy("data/demo_0", "data/demo_9")
    with pytest.raises(DataError) as error:
        convert(open_source(str(path)), str(tmp_path / "t"), "lift", strict=True)
    text = str(error.value)
    for part in ("dimension 6 leaves [-1, 1]", "1 of 7 episodes (demo_2)", "demo_9", "same values as demo_0", "strict"):
        assert part in text
    assert not (tmp_path / "t").exists()


class ShortOfFrames:
    """A source whose video lacks a frame."""

    def __init__(self, path: Path) -> None:
        self.source, self.uri = open_source(str(path)), str(path)

    def describe(self) -> object:
        return self.source.describe()

    def read(self, episode_id: str, images: bool = True) -> object:
        episode = self.source.read(episode_id, images)
        return replace(episode, images={name: frames[:-1] for name, frames in episode.images.items()})


def test_a_missing_frame_is_named(lift_like_hdf5: Maker, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 8 frames in demo_0, its table has 9 steps"):
        convert(ShortOfFrames(lift_like_hdf5(images=True, episodes=1)), str(tmp_path), "x")  # type: ignore[arg-type]
