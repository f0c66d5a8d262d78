"""Every kind of feature in windows, bit for bit what the source has, in every tier and way of loading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.episode import Camera, Episode
from tendon.data.plan import ConversionOptions
from tendon.data.sources.episodes import EpisodesSource
from tendon.data.sources.minestudio import BUTTONS, INTERACTION, TARGET
from tendon.data.sources.source import Source, open_source
from tendon.data.writers import write_dataset
from tendon.errors import ConfigError, DataError
from tendon.loader import Loader, LoaderResources, MixedLoader, SamplingOrder, Windows
from tests.data.everything import AIM, FRONT, REWARD, STATE, TASK, TEXTS, WRIST, episode, schema, source, without_frames

DELTAS: dict[str, tuple[int, ...]] = {
    STATE: (-1, 0), INTERACTION: (0, 1), BUTTONS: (0, 1, 2), AIM: (0, 1, 2), REWARD: (0,), TASK: (-1, 0, 3),
    TARGET: (-2, 0), WRIST: (-1, 0), FRONT: (0,),
}  # fmt: skip
TIERS = [LoaderResources(tier="window"), LoaderResources(tier="block"), LoaderResources(tier="resident")]


def converted(origin: Source, folder: Path, name: str = "x") -> Dataset:
    manifest = convert(origin, str(folder / "store"), name)
    return open_dataset(dataset_uri(str(folder / "store"), name, manifest.plan))


@pytest.fixture(scope="module")
def origin() -> EpisodesSource:
    return source()


@pytest.fixture(scope="module")
def dataset(origin: EpisodesSource, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return converted(origin, tmp_path_factory.mktemp("everything"))


def values_of(dataset: Dataset, origin: Source) -> dict[int, Mapping[str, np.ndarray]]:
    """What the source has of every episode, by its number: what batches must hold. JPEGs are decoded by the plain way."""
    values: dict[int, Mapping[str, np.ndarray]] = {}
    for row in dataset.rows:
        truth = origin.read(row.episode_id)
        frames = {each.name: dataset.frames(row, each.name) for each in dataset.schema.cameras}
        masks = {each.name: dataset.masks(row, each.name) for each in dataset.schema.masks}
        numbers = {key: each.reshape(len(each), -1) for key, each in truth.features.items()}
        values[row.index] = numbers | frames | masks
    return values


def check(
    batch: Mapping[str, np.ndarray], values: Mapping[int, Mapping[str, np.ndarray]], deltas: Mapping[str, Any]
) -> None:
    for b, (number, t) in enumerate(zip(batch["episode_index"].tolist(), batch["frame_index"].tolist(), strict=True)):
        length = len(values[number][STATE])
        for key, of_key in deltas.items():
            if key == TASK and TASK not in values[number]:
                continue
            for w, delta in enumerate(of_key):
                step = min(max(t + delta, 0), length - 1)
                truth = values[number][key][step]
                assert np.array_equal(batch[key][b, w].reshape(truth.shape), truth.astype(batch[key].dtype)), (
                    key,
                    b,
                    w,
                )
                assert bool(batch[f"{key}_is_pad"][b, w]) == (step != t + delta)


@pytest.mark.parametrize("resources", TIERS, ids=lambda each: each.tier)
def test_windows_hold_what_the_source_has(dataset: Dataset, origin: EpisodesSource, resources: LoaderResources) -> None:
    loader = Loader(dataset, "all", DELTAS, 6, 3, resources=resources)
    values = values_of(dataset, origin)
    for _ in range(8):
        batch = next(loader)
        check(batch, values, DELTAS)
    shapes = {key: (batch[key].dtype.name, batch[key].shape) for key in DELTAS}
    assert shapes == {
        STATE: ("float32", (6, 2, 3)), INTERACTION: ("int64", (6, 2, 1)), BUTTONS: ("float32", (6, 3, 3)),
        AIM: ("float32", (6, 3, 2)), REWARD: ("float32", (6, 1, 1)), TASK: ("int64", (6, 3)),
        TARGET: ("uint8", (6, 2, 360, 640)), WRIST: ("uint8", (6, 2, 96, 128, 3)), FRONT: ("uint8", (6, 1, 480, 640, 3)),
    }  # fmt: skip
    assert loader.texts == TEXTS
    assert {each.name: each.shape[1:] for each in loader.fields} == {
        key: shape[1:] for key, (_, shape) in shapes.items()
    }
    assert set(np.unique(batch[TARGET])) == {0, 1}
    loader.close()


@pytest.mark.parametrize(
    "resources", [*TIERS, LoaderResources(processes=2, threads=1)], ids=["window", "block", "resident", "processes"]
)
def test_resumed_bit_for_bit(dataset: Dataset, resources: LoaderResources) -> None:
    deltas = {key: each for key, each in DELTAS.items() if key != FRONT}
    straight = Loader(dataset, "train", deltas, 4, 7)
    expected = [{key: each.tobytes() for key, each in straight.batch(k).items()} for k in range(9)]
    first = Loader(dataset, "train", deltas, 4, 7, resources=resources)
    made = [{key: each.tobytes() for key, each in next(first).items()} for _ in range(4)]
    state = json.loads(json.dumps(first.state))
    first.close()
    again = Loader(dataset, "train", deltas, 4, 7, resources=resources)
    again.load_state(state)
    made += [{key: each.tobytes() for key, each in next(again).items()} for _ in range(5)]
    again.close()
    assert made == expected


@pytest.mark.parametrize("resources", TIERS, ids=lambda each: each.tier)
def test_masks_that_are_stored_as_runs(tmp_path: Path, resources: LoaderResources) -> None:
    made = [replace(episode(i, n), images={}) for i, n in enumerate((6, 9, 7))]
    runs = replace(schema(mask_codec="rle"), cameras=())
    origin = EpisodesSource("demo://runs", runs, made, "runs")
    dataset = converted(origin, tmp_path)
    assert [each.codec for each in dataset.schema.masks] == ["rle"]
    deltas = {STATE: (0,), TARGET: (-1, 0, 2)}
    loader = Loader(dataset, "all", deltas, 5, 1, resources=resources)
    values = values_of(dataset, origin)
    assert all(np.array_equal(values[i][TARGET], each.masks[TARGET]) for i, each in enumerate(made))
    for _ in range(6):
        check(next(loader), values, deltas)


@pytest.mark.parametrize("through", ["a dataset", "robomimic"])
def test_depth(tmp_path: Path, through: str, caplog: pytest.LogCaptureFixture) -> None:
    """In metres, float32, as they are; LeRobot has no place for it and says so."""
    key = "observation.depth.wrist"
    camera = Camera(key, "wrist_depth", 12, 16, 1, "npy", kind="depth")
    depths = [np.random.default_rng(i).random((n, 12, 16, 1), np.float32) * 3 for i, n in enumerate((6, 9))]
    made = [replace(episode(i, len(each)), images={key: each}, masks={}) for i, each in enumerate(depths)]
    origin: Source = EpisodesSource("demo://depth", replace(schema(), cameras=(camera,), masks=()), made, "depth")
    if through == "robomimic":
        write_dataset(origin, str(tmp_path / "out.hdf5"), "robomimic")
        origin = open_source(str(tmp_path / "out.hdf5"))
    dataset = converted(origin, tmp_path)
    kinds = {each.key: (each.kind, each.dtype, each.shape) for each in dataset.schema.features}
    assert kinds[key] == ("depth", "float32", (12, 16, 1))
    values = {i: {STATE: each.features[STATE], key: depths[i]} for i, each in enumerate(made)}
    for resources in TIERS:
        loader = Loader(dataset, "all", {STATE: (0,), key: (-1, 0)}, 5, 1, resources=resources)
        for _ in range(3):
            batch = next(loader)
            assert batch[key].dtype == np.float32
            check(batch, values, {STATE: (0,), key: (-1, 0)})
        loader.close()
    write_dataset(dataset, str(tmp_path / "lerobot"), "lerobot-v3.0")
    assert f"no place for {key}" in caplog.text
    half = convert(origin, str(tmp_path / "half"), "x", ConversionOptions(resize=(6, 8)))
    small = open_dataset(dataset_uri(str(tmp_path / "half"), "x", half.plan))
    assert np.array_equal(small.frames(small.rows[0], key), depths[0][:, ::2, ::2])


def test_a_text_of_the_whole_episode_is_an_index_too(tmp_path: Path) -> None:
    """Also where format version 1 holds it: an old dataset needs no new conversion."""
    texts = ["push", "pull", "push"]
    made = [replace(episode(i, 5, False), task=text, images={}, masks={}) for i, text in enumerate(texts)]
    of_one_action = replace(schema(steps_have_texts=False), cameras=(), masks=())
    columns = tuple(each for each in of_one_action.columns if each.key in (STATE, REWARD))
    plain = replace(of_one_action, columns=columns)
    dataset = converted(EpisodesSource("demo://plain", plain, made, "plain"), tmp_path)
    assert dataset.manifest.format_version == 1
    for windows in ({STATE: (0,), TASK: (0, 1)}, {TASK: (0,)}):
        loader = Loader(dataset, "all", windows, 5, 1)
        for _ in range(9):
            batch = next(loader)
            said = [[loader.texts[number] for number in numbers] for numbers in batch[TASK]]
            assert said == [[texts[number]] * len(windows[TASK]) for number in batch["episode_index"]]
        loader.close()
    padded = Loader(dataset, "all", {TASK: (0, 4)}, 15, 1).batch(0)
    assert np.array_equal(padded["task_is_pad"], np.stack([np.zeros(15, bool), padded["frame_index"] > 0], 1))


def test_a_mixture_has_one_table_of_texts(tmp_path: Path) -> None:
    parts = []
    for name, texts in (("a", ["push", "pull"]), ("b", ["pull", "lift"])):
        made = [replace(episode(i, 6, False), task=text, images={}, masks={}) for i, text in enumerate(texts)]
        plain = replace(schema(steps_have_texts=False), cameras=(), masks=())
        dataset = converted(EpisodesSource(f"demo://{name}", plain, made, name), tmp_path, name)
        parts.append(Loader(dataset, "all", {STATE: (0,), TASK: (0,)}, 1, 4))
    mixed = MixedLoader(parts, [1, 1], 16, seed=1)
    assert mixed.texts == ("push", "pull", "lift")
    names = (("push", "pull"), ("pull", "lift"))
    for _ in range(4):
        batch = next(mixed)
        said = [mixed.texts[number] for number in batch[TASK][:, 0]]
        assert said == [names[d][e] for d, e in zip(batch["dataset_index"], batch["episode_index"], strict=True)]


def test_edges_of_masks_and_texts(dataset: Dataset) -> None:
    windows = Windows.of({TARGET: (-3, 0), STATE: (0,)}, {TARGET: "zero"})
    batch = Loader(dataset, "all", windows, 20, 2).batch(0)
    beyond = batch[f"{TARGET}_is_pad"]
    assert beyond.any()
    assert not batch[TARGET][beyond].any()


def test_rows_that_walk_through_episodes(dataset: Dataset, origin: EpisodesSource) -> None:
    windows = Windows.of({STATE: (0, 1), TARGET: (0, 1), TASK: (0, 1)}, stride=2)
    loader = Loader(dataset, "all", windows, 2, 2, ordering=SamplingOrder("slots"))
    values = values_of(dataset, origin)
    for k in range(9):
        check(loader.batch(k), values, {STATE: (0, 1), TARGET: (0, 1), TASK: (0, 1)})


def test_raw_frames_of_an_exact_copy(tmp_path: Path) -> None:
    """They could be converted and inspected, but not trained on: the loader looked for JPEGs."""
    origin = source((5, 6), codec="npy")
    dataset = converted(origin, tmp_path)
    values = values_of(dataset, origin)
    for resources in TIERS:
        loader = Loader(dataset, "all", {STATE: (0,), WRIST: (-1, 0)}, 4, 1, resources=resources)
        for k in range(3):
            check(loader.batch(k), values, {STATE: (0,), WRIST: (-1, 0)})


def test_a_damaged_mask_is_named_or_replaced(tmp_path: Path) -> None:
    lengths = (6, 6, 6, 6)
    dataset = converted(source(lengths), tmp_path)
    at = int(dataset.table.array("target.bits/offset")[2]) + 300
    shard = dataset.manifest.shards[int(dataset.table.array("shard")[2])]
    path = Path(dataset.uri) / shard.key
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"ep_00000002\.target\.bits"):
        Loader(dataset, "all", {TARGET: (0,)}, 24, 1).batch(0)
    kept = Loader(dataset, "all", {TARGET: (0,)}, 24, 1, on_bad_sample="substitute")
    assert 2 not in kept.batch(0)["episode_index"]
    assert kept.bad_episodes == ["demo_2"]
    assert kept.state["bad"] == [2]


@pytest.mark.parametrize("format", ["robomimic", "lerobot-v2.1", "lerobot-v3.0", "modality", "minestudio-v1.1"])
def test_from_every_format_that_can_hold_it(format: str, tmp_path: Path) -> None:
    """Frames are compared with what the foreign file holds, numbers and masks with what the Episodes held."""
    minestudio = format.startswith("minestudio")
    origin = source((32, 64) if minestudio else (5, 7), steps_have_texts=not minestudio)
    target = str(tmp_path / ("out.hdf5" if format == "robomimic" else "out"))
    if minestudio:
        pytest.importorskip("lmdb")
    write_dataset(origin, target, format)
    dataset = converted(open_source(target), tmp_path)
    renamed = {row.episode_id: f"demo_{row.index}" for row in dataset.rows}
    values = values_of(dataset, _Renamed(origin, renamed))
    keys = {each.key for each in dataset.schema.features} - {"timestamp", "observation.images.image"}
    assert keys == ({INTERACTION, BUTTONS, AIM, TARGET, TASK} if minestudio else set(DELTAS))
    deltas = {key: DELTAS[key] for key in keys if key != TASK or not minestudio}
    loader = Loader(dataset, "all", deltas, 5, 1)
    for _ in range(4):
        check(next(loader), values, deltas)


class _Renamed:
    """Episodes under the names that a format gives them."""

    uri = "demo://renamed"

    def __init__(self, origin: EpisodesSource, names: Mapping[str, str]) -> None:
        self._origin, self._names = origin, names

    def describe(self) -> Any:
        return self._origin.describe()

    def read(self, episode_id: str, images: bool = True) -> Episode:
        return self._origin.read(self._names[episode_id], images)


def test_a_feature_that_is_not_there(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"write observation\.masks\.target"):
        Loader(dataset, "all", {"observation.mask.target": (0,)}, 2, 1)
    small = without_frames(source((4,)))
    assert [each.kind for each in small.schema.features].count("image") == 0
