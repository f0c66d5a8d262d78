"""From bytes to batches: every tier and codec gives the right frame, within the memory, whatever fails."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tendon.data.dataset import Dataset
from tendon.errors import ConfigError, DataError, Interrupted
from tendon.loader import Loader, LoaderResources, MixedLoader, SamplingOrder, Windows
from tests.loader.coded import JPEG, STATE, VIDEO, Coded, coded_dataset, numbers_in

DELTAS = {STATE: (-1, 0), JPEG: (-1, 0), VIDEO: (0, 2), "action": (0, 1, 2)}
MIB = 1 << 20


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return coded_dataset(tmp_path_factory.mktemp("store"), Coded())


def digest(batch: dict[str, np.ndarray]) -> str:
    found = hashlib.sha256()
    for name in sorted(batch):
        found.update(name.encode() + np.ascontiguousarray(batch[name]).tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("tier", ["window", "block", "resident"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_each_frame_carries_its_number(dataset: Dataset, tier: str, lanes: int) -> None:
    resources = LoaderResources(tier=tier, memory_budget=64 * MIB)  # type: ignore[arg-type]
    loader = Loader(dataset, "all", DELTAS, 7, 3, resources=resources, ordering=SamplingOrder(lanes=lanes, block=2))
    assert loader.maker.shares.tier == tier
    for _ in range(2 * loader.num_windows // 7):
        batch = next(loader)
        lengths = np.array([dataset.rows[e].length for e in batch["episode_index"]])
        for camera in (JPEG, VIDEO):
            episodes, numbers = numbers_in(batch[camera])
            wanted = batch["frame_index"][:, None] + np.array(DELTAS[camera])
            assert (episodes == batch[STATE][:, :1, 0]).all()
            assert (numbers == np.clip(wanted, 0, lengths[:, None] - 1)).all()
            assert (batch[f"{camera}_is_pad"] == ((wanted < 0) | (wanted >= lengths[:, None]))).all()
    loader.close()


def test_every_way_gives_the_same_bytes(dataset: Dataset) -> None:
    ways = [
        LoaderResources(tier="resident"),
        LoaderResources(tier="window", threads=1, ahead=0),
        LoaderResources(tier="window", threads=4, ahead=5),
        LoaderResources(tier="block", memory_budget=2 * MIB),
        LoaderResources(memory_budget=1 * MIB + MIB // 2, threads=4),
    ]
    streams = []
    for resources in ways:
        loader = Loader(dataset, "all", DELTAS, 6, 5, resources=resources, ordering=SamplingOrder(lanes=2, block=2))
        streams.append([digest(next(loader)) for _ in range(30)])
        loader.close()
    assert all(stream == streams[0] for stream in streams)


def test_frames_are_those_of_the_plain_reader(dataset: Dataset) -> None:
    batch = Loader(dataset, "all", DELTAS, 12, 1, resources=LoaderResources(tier="window")).batch(0)
    for i in range(12):
        row, t = dataset.rows[batch["episode_index"][i]], int(batch["frame_index"][i])
        for camera in (JPEG, VIDEO):
            steps = np.clip(t + np.array(DELTAS[camera]), 0, row.length - 1).tolist()
            assert np.array_equal(batch[camera][i], dataset.frames(row, camera, steps))


def test_a_batch_is_kept_as_long_as_someone_holds_it(dataset: Dataset) -> None:
    loader = Loader(dataset, "all", DELTAS, 4, 1, resources=LoaderResources(tier="resident", ahead=1))
    kept = [next(loader) for _ in range(12)]
    before = [digest(batch) for batch in kept]
    some = kept[3][STATE][:, 0]  # a view alone keeps the memory too
    copy = some.copy()
    assert [digest(batch) for batch in kept] == before
    del kept
    made = loader.maker._buffers.made
    for _ in range(30):
        next(loader)
    assert loader.maker._buffers.made == made
    assert np.array_equal(some, copy)
    loader.close()


@pytest.mark.parametrize("processes", [0, 2])
def test_the_memory_of_batches_can_be_pinned(dataset: Dataset, processes: int) -> None:
    pinned: list[range] = []

    def pin(memory: memoryview) -> None:
        start = np.frombuffer(memory, np.uint8).ctypes.data
        pinned.append(range(start, start + len(memory)))

    loader = Loader(dataset, "all", DELTAS, 4, 1, resources=LoaderResources(pin=pin, processes=processes, threads=1))
    for _ in range(10):
        for array in next(loader).values():
            assert any(array.ctypes.data in memory for memory in pinned)
    assert len(pinned) < 10  # once each, then used again
    loader.close()


def test_ranks_share_every_batch(dataset: Dataset) -> None:
    whole = Loader(dataset, "all", {STATE: (0,)}, 12, 1)
    for world in (2, 3, 4, 5):
        ranks = [Loader(dataset, "all", {STATE: (0,)}, 12, 1, rank=r, world=world) for r in range(world)]
        for k in (0, 3, 25):
            parts = [rank.batch(k) for rank in ranks]
            got = sorted(zip(*(np.concatenate([p[n] for p in parts]).tolist() for n in KEYS), strict=True))
            batch = whole.batch(k)
            assert got == sorted(zip(*(batch[n].tolist() for n in KEYS), strict=True))
            assert max(len(p["frame_index"]) for p in parts) - min(len(p["frame_index"]) for p in parts) <= 1
    with pytest.raises(ConfigError, match="smaller than the world"):
        Loader(dataset, "all", {STATE: (0,)}, 2, 1, rank=0, world=3)


KEYS = ("episode_index", "frame_index")


def test_slots_walk_through_episodes(dataset: Dataset) -> None:
    windows = Windows.of({STATE: (0, 1, 2, 3)}, {STATE: "zero"}, stride=4)
    asked = {"windows": windows, "ordering": SamplingOrder("slots")}
    loader = Loader(dataset, "all", batch_size=3, seed=2, **asked)  # type: ignore[arg-type]
    ranks = [Loader(dataset, "all", batch_size=3, seed=2, rank=r, world=2, **asked) for r in (0, 1)]  # type: ignore[arg-type]
    before = None
    for k in range(40):
        batch = next(loader)
        assert batch["slot"].tolist() == [0, 1, 2]
        if before is not None:
            going_on = ~batch["first"]
            assert (batch["episode_index"] == before["episode_index"])[going_on].all()
            assert (batch["frame_index"] == before["frame_index"] + 4)[going_on].all()
        assert (batch["frame_index"][batch["first"]] == 0).all()
        pad = batch[f"{STATE}_is_pad"]
        assert not batch[STATE][pad].any()
        shares = np.concatenate([rank.batch(k)["frame_index"] for rank in ranks])
        assert shares.tolist() == batch["frame_index"].tolist()
        before = {name: array.copy() for name, array in batch.items()}


def test_weights_and_repeated_frames(dataset: Dataset) -> None:
    ordering = SamplingOrder(weights={"e1": 2.0, "e2": 0.0}, repeated={"e3": [4]}, times=3)
    loader = Loader(dataset, "all", {STATE: (0,)}, 10, 2, ordering=ordering)
    batch = loader.samples(0, loader.num_windows)
    pairs = list(zip(batch["episode_index"].tolist(), batch["frame_index"].tolist(), strict=True))
    of = {name: next(row.index for row in dataset.rows if row.episode_id == name) for name in ("e1", "e2", "e3")}
    assert pairs.count((of["e1"], 3)) == 2
    assert not [pair for pair in pairs if pair[0] == of["e2"]]
    assert pairs.count((of["e3"], 4)) == 4
    with pytest.raises(ConfigError, match="no episode named e99"):
        Loader(dataset, "all", {STATE: (0,)}, 10, 2, ordering=SamplingOrder(weights={"e99": 1}))


def test_a_budget_too_small_says_what_would_do(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="too small for one batch") as caught:
        Loader(dataset, "all", DELTAS, 6, 0, resources=LoaderResources(memory_budget=10_000))
    needed = int(str(caught.value).split("(")[1].split(" bytes")[0])
    Loader(dataset, "all", DELTAS, 6, 0, resources=LoaderResources(memory_budget=needed)).batch(3)


def _damage(dataset: Dataset, episode: str, member: str) -> None:
    row = next(row for row in dataset.rows if row.episode_id == episode)
    offset = dataset.table.column(f"{member}/offset")[row.index].as_py()
    path = Path(dataset.uri) / dataset.manifest.shards[row.shard].key
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(offset + 40)
        byte = file.read(1)
        file.seek(offset + 40)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("tier", ["window", "resident"])
def test_bad_samples(tmp_path: Path, tier: str) -> None:
    dataset = coded_dataset(tmp_path, Coded(codecs=("jpeg",)))
    asked = {"split": "all", "windows": {STATE: (0,), JPEG: (0, 1)}, "batch_size": 8, "seed": 1}
    resources = LoaderResources(tier=tier)  # type: ignore[arg-type]
    good = Loader(dataset, **asked, resources=resources)  # type: ignore[arg-type]
    expected = [good.batch(k) for k in range(12)]
    _damage(dataset, "e2", "jpeg.mjpeg")
    with pytest.raises(DataError) as caught:
        for _ in Loader(dataset, **asked, resources=resources):  # type: ignore[arg-type]
            pass
    for word in ("jpeg.mjpeg", "episode e2 of coded", "shards/", "offset", "crc32c"):
        assert word in str(caught.value)
    loader = Loader(dataset, **asked, resources=resources, on_bad_sample="substitute")  # type: ignore[arg-type]
    batches = [next(loader) for _ in range(12)]
    bad = next(row.index for row in dataset.rows if row.episode_id == "e2")
    for batch, own in zip(batches, expected, strict=True):
        replaced = own["episode_index"] == bad
        assert not (batch["episode_index"] == bad).any()
        for name, array in batch.items():
            assert np.array_equal(array[~replaced], own[name][~replaced])
        assert (numbers_in(batch[JPEG])[1][:, 0] == batch["frame_index"]).all()
    assert loader.bad_episodes == ["e2"]
    state = json.loads(json.dumps(loader.state))
    assert state["bad"] == [bad]
    again = Loader(dataset, **asked, resources=resources, on_bad_sample="substitute")  # type: ignore[arg-type]
    again.load_state(state)
    assert digest(next(again)) == digest(loader.batch(12))
    _damage(dataset, "e3", "jpeg.mjpeg")  # a second of six is more than may be replaced
    with pytest.raises(DataError):
        for _ in Loader(dataset, **asked, resources=resources, on_bad_sample="substitute"):  # type: ignore[arg-type]
            pass


def test_processes_give_the_same_bytes(dataset: Dataset) -> None:
    asked = {"split": "all", "windows": DELTAS, "batch_size": 6, "seed": 5}
    plain = Loader(dataset, **asked)  # type: ignore[arg-type]
    loader = Loader(dataset, **asked, resources=LoaderResources(processes=2, threads=1))  # type: ignore[arg-type]
    kept = [next(loader) for _ in range(9)]
    assert [digest(batch) for batch in kept] == [digest(plain.batch(k)) for k in range(9)]
    state = loader.state
    loader.load_state(state)
    assert digest(next(loader)) == digest(plain.batch(9))
    loader._batches._processes[0].kill()  # type: ignore[union-attr]
    with pytest.raises(Interrupted, match="has ended"):  # noqa: PT012
        for _ in range(20):
            next(loader)
    loader.close()
    assert digest(kept[0]) == digest(plain.batch(0))


def test_mixtures(dataset: Dataset, tmp_path: Path) -> None:
    other = coded_dataset(tmp_path, Coded(episodes=3, length=5, codecs=()))
    parts = [Loader(each, "all", {STATE: (-1, 0)}, 1, 4) for each in (dataset, other)]
    mixed = MixedLoader(parts, [3, 1], 16, seed=1)
    batches = [next(mixed) for _ in range(256)]
    assert sum(int((batch["dataset_index"] == 1).sum()) for batch in batches) == 1024
    ends = {0: dataset, 1: other}
    for batch in batches[:5]:
        for d, e, t, value in zip(*(batch[n] for n in ("dataset_index", *KEYS, STATE)), strict=True):
            assert np.array_equal(value[1], ends[int(d)].lowdim(ends[int(d)].rows[e])[STATE][t])
    again = MixedLoader(parts, [3, 1], 16, seed=1)
    again.load_state(mixed.state)
    assert digest(next(again)) == digest(mixed.batch(256))
    ranks = [MixedLoader(parts, [3, 1], 16, seed=1, rank=r, world=2).batch(7) for r in (0, 1)]
    assert np.array_equal(ranks[1]["frame_index"], mixed.batch(7)["frame_index"][1::2])
    with pytest.raises(ConfigError, match="different shapes"):
        MixedLoader([parts[0], Loader(other, "all", {STATE: (0,)}, 1, 4)], [1, 1], 16, seed=1)


def test_what_is_in_memory_is_worked_out_in_chunks_and_stays_the_same(dataset: Dataset) -> None:
    asked = {"split": "all", "windows": Windows.of(DELTAS, {"action": ("repeat", "zero")}), "batch_size": 7, "seed": 5}
    for rank, world in ((0, 1), (1, 2), (2, 3)):
        slow = Loader(dataset, **asked, rank=rank, world=world, resources=LoaderResources(tier="window"))  # type: ignore[arg-type]
        fast = Loader(dataset, **asked, rank=rank, world=world, resources=LoaderResources(tier="resident"))  # type: ignore[arg-type]
        for k in (*range(40), 1000, 3):
            assert digest(fast.batch(k)) == digest(slow.batch(k))
        assert fast.maker._opened_cache().ready
        assert digest(fast.samples(13, 4)) == digest(slow.samples(13, 4))
