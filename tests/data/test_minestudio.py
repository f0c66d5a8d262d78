"""MineStudio LMDB in and out: chunks byte for byte, pickles that cannot do anything, episodes joined by name."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tendon.data import tagged_json
from tendon.data.convert import convert
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.plan import ConversionOptions
from tendon.data.sources import open_source, safe_pickle
from tendon.data.sources.lmdb_folder import close_all
from tendon.data.video import decode_mp4, encode_mp4
from tendon.data.writers import write_dataset
from tendon.errors import ConfigError, DataError
from tendon.loader import Loader

lmdb = pytest.importorskip("lmdb")

SIZE = 8  # frames per chunk; real data has 32
EPISODES = {"Player1-aaa-20220101-120000": 24, "Player2-bbb-20220102-130000": 16, "Player3-ccc-20220103-140000": 8}
BUTTONS = ("attack", "forward", "hotbar.1")


def write_lmdb(folder: Path, episodes: dict[str, list[bytes]], size: int = SIZE) -> None:
    folder.mkdir(parents=True)
    infos = [
        {"episode": name, "episode_idx": i, "num_frames": size * len(chunks)}
        for i, (name, chunks) in enumerate(episodes.items())
    ]
    environment = lmdb.open(str(folder), map_size=1 << 26)
    with environment.begin(write=True) as transaction:
        for i, chunks in enumerate(episodes.values()):
            for k, chunk in enumerate(chunks):
                transaction.put(str((i, k * size)).encode(), chunk)
        values = {"__chunk_size__": size, "__chunk_infos__": infos, "__num_episodes__": len(infos),
                  "__num_total_frames__": sum(info["num_frames"] for info in infos)}  # fmt: skip
        for key, value in values.items():
            transaction.put(key.encode(), pickle.dumps(value))
    environment.close()


def put(folder: Path, key: str, value: bytes) -> None:
    close_all()
    environment = lmdb.open(str(folder), map_size=1 << 26)
    with environment.begin(write=True) as transaction:
        transaction.put(key.encode(), value)
    environment.close()


def values_of(folder: Path) -> dict[str, bytes]:
    close_all()
    environment = lmdb.open(str(folder), readonly=True, lock=False)
    with environment.begin() as transaction:
        found = {bytes(key).decode(): bytes(value) for key, value in transaction.cursor()}
    environment.close()
    return found


def action_chunk(rng: np.random.Generator) -> dict[str, np.ndarray]:
    buttons = {key: rng.integers(0, 2, SIZE) for key in BUTTONS}
    return buttons | {"camera": rng.integers(-40, 40, (SIZE, 2)) * 360 / 2400}


def meta_chunk(rng: np.random.Generator, start: int) -> list[dict[str, Any]]:
    return [
        {"yaw": float(rng.normal()), "pitch": 0.25, "xpos": 1e6 + 1 / 3, "hotbar": int(rng.integers(9)), "isGuiOpen": bool(i % 2),
         "inventory": [{"type": "dirt", "quantity": i}], "events": {"minecraft.mine_block:dirt": 1} if i == 3 else {}}
        for i in range(start, start + SIZE)
    ]  # fmt: skip


def segmentation_chunk(start: int) -> list[dict[Any, Any]]:
    key = ((start, start + 3), "minecraft.kill_entity:cow")
    value = {"obj_id": 0, "rle_mask": "1 5 700 12", "event": key[1], "point": np.array([3.5, 4.5]), "frame_id": start,
             "frame_range": key[0], "ori_frame_id": start + 1, "ori_frame_range": (start + 1, start + 4)}  # fmt: skip
    return [{key: value} if i < 4 else {} for i in range(SIZE)]


def make_folder(root: Path, generation: str = "1.1", segmentation: bool = True) -> Path:
    """Episodes of EPISODES in two image LMDBs and one of the others, in another order."""
    rng = np.random.default_rng(0)
    image, part = ("image", "part") if generation == "1.1" else ("video", "video")
    videos = {}
    for i, (name, length) in enumerate(EPISODES.items()):
        frames = np.clip(rng.normal(100 + 20 * i, 20, (length, 32, 32, 3)), 0, 255).astype(np.uint8)
        videos[name] = [encode_mp4(frames[k : k + SIZE], 20, key_every=SIZE) for k in range(0, length, SIZE)]
    names = list(EPISODES)
    write_lmdb(root / image / f"{part}-1", {name: videos[name] for name in names[:2]})
    write_lmdb(root / image / f"{part}-3", {name: videos[name] for name in names[2:]})
    starts = {name: range(0, EPISODES[name], SIZE) for name in reversed(names)}
    write_lmdb(
        root / "action" / "part-3",
        {name: [pickle.dumps(action_chunk(rng)) for _ in each] for name, each in starts.items()},
    )
    meta = "meta_info" if generation == "1.1" else "contractor_info"
    write_lmdb(
        root / meta / "part-3",
        {name: [pickle.dumps(meta_chunk(rng, k)) for k in each] for name, each in starts.items()},
    )
    if segmentation and generation == "1.1":
        write_lmdb(root / "segmentation" / "part-3",
                   {name: [pickle.dumps(segmentation_chunk(k)) for k in each] for name, each in starts.items()})  # fmt: skip
    elif segmentation:
        write_lmdb(root / "segment" / "segment-3",
                   {name: [pickle.dumps([{2: "1 5 9 9"}] * SIZE) for _ in each] for name, each in starts.items()})  # fmt: skip
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "dataset_6xx")


def converted(path: Path, tmp_path: Path, **options: Any) -> Dataset:
    manifest = convert(open_source(str(path)), str(tmp_path / "store"), "mine", ConversionOptions(**options))
    return open_dataset(str(tmp_path / "store" / "datasets" / "mine" / manifest.plan))


@pytest.mark.parametrize("generation", ["1.0", "1.1"])
def test_chunks_are_copied_and_values_kept(tmp_path: Path, generation: str) -> None:
    path = make_folder(tmp_path / "data", generation)
    dataset = converted(path, tmp_path)
    assert [row.episode_id for row in dataset.rows] == sorted(EPISODES)
    row = dataset.rows[0]
    image = values_of(next((path / ("image" if generation == "1.1" else "video")).glob("*-1")))
    chunks = dataset.video_chunks(row, "observation.images.image")
    assert [chunk.content for chunk in chunks] == [image[str((0, k))] for k in (0, 8, 16)]
    assert np.array_equal(dataset.frames(row, "observation.images.image", [9]), decode_mp4(image["(0, 8)"], [1]))
    action = values_of(path / "action" / "part-3")
    number = list(reversed(EPISODES)).index(row.episode_id)
    expected = [pickle.loads(action[str((number, k))]) for k in (0, 8, 16)]
    rows = dataset.lowdim(row)
    assert rows["action.camera"].dtype == np.float64
    assert np.array_equal(rows["action.camera"], np.concatenate([each["camera"] for each in expected]))
    names = dataset.manifest.metadata["minestudio"]["buttons"]
    for i, key in enumerate(names):
        assert np.array_equal(rows["action.buttons"][:, i], np.concatenate([each[key] for each in expected]))
    assert np.all(rows["observation.xpos"] == 1e6 + 1 / 3)
    kept = tagged_json.loads(dataset.extras(row)["segmentation.0001.json"])
    wanted = segmentation_chunk(8) if generation == "1.1" else [{2: "1 5 9 9"}] * SIZE
    assert str(kept) == str(wanted)


def test_leaves_again(folder: Path, tmp_path: Path) -> None:
    put_events(folder)
    target = tmp_path / "out"
    write_dataset(converted(folder, tmp_path), str(target), "minestudio-v1.1")
    again = open_source(str(target))
    before = open_source(str(folder))
    assert [each.episode_id for each in again.describe().episodes] == sorted(EPISODES)
    for name in EPISODES:
        a, b = before.read(name), again.read(name)
        assert a.images == b.images
        assert a.extras == b.extras
        for key, values in a.features.items():
            assert values.dtype == b.features[key].dtype
            assert np.array_equal(values, b.features[key])
    (part,) = (target / "action").iterdir()
    chunk = pickle.loads(values_of(part)["(0, 0)"])
    assert {key: each.dtype for key, each in chunk.items()} == {
        "attack": np.int64, "forward": np.int64, "hotbar.1": np.int64, "camera": np.float64,
    }  # fmt: skip
    assert pickle.loads(values_of(target / "event")["__event_info__"]) == {
        "kill:cow": {"__num_items__": 2, "__num_episodes__": 2}
    }


def put_events(folder: Path) -> None:
    names = list(EPISODES)
    (folder / "event").mkdir()
    put(folder / "event", "__codebook__", pickle.dumps({name: str(i) for i, name in enumerate(names)}))
    put(folder / "event", "__event_info__", pickle.dumps({"kill:cow": {"__num_items__": 2, "__num_episodes__": 2}}))
    put(folder / "event", str(("kill:cow", 0)), pickle.dumps(("0", 5, 1)))
    put(folder / "event", str(("kill:cow", 1)), pickle.dumps(("1", 7, 2)))


def test_dropped_episodes_are_reported(folder: Path) -> None:
    write_lmdb(
        folder / "action" / "part-4",
        {"Player9-zzz-20220109-100000": [pickle.dumps(action_chunk(np.random.default_rng(1)))]},
    )
    infos = [{"episode": name, "episode_idx": i, "num_frames": 8} for i, name in enumerate(reversed(EPISODES))]
    put(folder / "meta_info" / "part-3", "__chunk_infos__", pickle.dumps(infos))
    info = open_source(str(folder)).describe()
    assert [each.episode_id for each in info.episodes] == ["Player3-ccc-20220103-140000"]
    assert "no image" in info.left_out["episode Player9-zzz-20220109-100000"]
    assert "meta_info 8" in info.left_out["episode Player1-aaa-20220101-120000"]


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


class MaliciousEval(Malicious):
    def __reduce__(self) -> Any:
        return eval, (f"open({str(self.path)!r}, 'w')",)


class MaliciousScalar(Malicious):
    def __reduce__(self) -> Any:
        from numpy._core.multiarray import scalar

        return scalar, (np.dtype("O"), pickle.dumps(Malicious(self.path)))


@pytest.mark.parametrize("kind", [Malicious, MaliciousEval, MaliciousScalar])
@pytest.mark.parametrize(
    ("modality", "wrap"),
    [("action", lambda bad: {"attack": np.zeros(SIZE), "camera": bad}), ("segmentation", lambda bad: [{(1, 2): bad}] * SIZE),
     ("meta_info", lambda bad: [{"yaw": 0.0, "inventory": bad}] * SIZE)],
)  # fmt: skip
def test_a_malicious_pickle_does_not_execute(
    folder: Path, tmp_path: Path, kind: type[Malicious], modality: str, wrap: Callable[[Any], Any]
) -> None:
    mark = tmp_path / "executed"
    put(folder / modality / "part-3", "(2, 0)", pickle.dumps(wrap(kind(mark))))
    with pytest.raises(DataError, match="refused"):
        open_source(str(folder)).read(min(EPISODES))
    assert not mark.exists()


def test_a_malicious_table_does_not_execute(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    put(folder / "action" / "part-3", "__chunk_infos__", pickle.dumps(Malicious(mark)))
    with pytest.raises(DataError, match=r"refused(?s:.*)__chunk_infos__"):
        open_source(str(folder)).describe()
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_numpy_pickles_of_every_protocol(protocol: int) -> None:
    values = {"a": np.arange(6.0).reshape(2, 3), "b": np.int64(3), "c": np.asfortranarray(np.ones((2, 2), np.uint8)), "d": ("x", None),
              "e": np.bool_(True), "f": np.array(["ab", "c"])}  # fmt: skip
    found = safe_pickle.loads(pickle.dumps(values, protocol))
    assert str(found) == str(values)
    assert found["a"].dtype == np.float64


def test_broken_data_is_named(folder: Path) -> None:
    put(folder / "image" / "part-1", "(0, 8)", b"no video")
    with pytest.raises(DataError, match=r"Player1-aaa-20220101-120000, frame 8"):
        open_source(str(folder)).read("Player1-aaa-20220101-120000")
    put(folder / "action" / "part-3", "(1, 8)", pickle.dumps(action_chunk(np.random.default_rng(0)))[:-20])
    with pytest.raises(DataError, match=r"key \(1, 8\)"):
        open_source(str(folder)).read("Player2-bbb-20220102-130000")


def test_tagged_json() -> None:
    values = {((1, 2), "a"): [np.float32(0.1), (1, [2.5])], "$tuple": {"x": np.arange(3)}, "plain": {"deep": {1: None}}}
    again = tagged_json.loads(tagged_json.dumps(values))
    assert str(again) == str(values)
    assert type(next(iter(again))) is tuple


def test_workers_and_a_second_reader(folder: Path, tmp_path: Path) -> None:
    one = converted(folder, tmp_path, shard_bytes=1 << 10)
    source = open_source(str(folder))
    several = convert(source, str(tmp_path / "store3"), "mine", ConversionOptions(shard_bytes=1 << 10), workers=3)
    assert several.digest == one.manifest.digest


@pytest.mark.parametrize("generation", ["1.0", "1.1"])
def test_targets_are_masks_in_windows(tmp_path: Path, generation: str) -> None:
    """Runs as text, which count from 1, become masks of 360 x 640; a step without a target has none and the kind -1."""
    dataset = converted(make_folder(tmp_path / "data", generation), tmp_path)
    assert dataset.manifest.format_version == 2
    kinds = {each.key: each.kind for each in dataset.schema.features}
    assert (kinds["observation.masks.target"], kinds["observation.interaction"]) == ("mask", "category")
    assert (kinds["action.buttons"], kinds["action.camera"]) == ("action", "action")
    names = {each.key: each.names for each in dataset.schema.columns}
    assert names["action.buttons"] == BUTTONS
    first = (0, 5, 699, 711) if generation == "1.1" else (0, 5, 8, 17)
    truth = np.zeros(360 * 640, np.uint8)
    truth[first[0] : first[1]] = truth[first[2] : first[3]] = 1
    loader = Loader(dataset, "all", {"observation.masks.target": (0, 1), "observation.interaction": (0, 1)}, 9, 1)
    for _ in range(4):
        batch = next(loader)
        for b, t in enumerate(batch["frame_index"].tolist()):
            for w, beyond in enumerate(batch["observation.masks.target_is_pad"][b]):
                aimed = generation == "1.0" or (t + w - beyond) % SIZE < 4
                kind = -1 if not aimed else 0 if generation == "1.1" else 2
                assert batch["observation.interaction"][b, w, 0] == kind
                assert np.array_equal(batch["observation.masks.target"][b, w].reshape(-1), truth * aimed)
    write_dataset(dataset, str(tmp_path / "out"), "minestudio-v1.1")
    again = converted(tmp_path / "out", tmp_path / "again")
    for a, b in zip(dataset.rows, again.rows, strict=True):
        assert np.array_equal(dataset.masks(a, "observation.masks.target"), again.masks(b, "observation.masks.target"))


def test_overlapping_interactions_follow_the_one_that_ends_last(tmp_path: Path) -> None:
    """Walking backwards, an interaction is kept while it is annotated; the mask and the kind are of the same one."""
    path = make_folder(tmp_path / "data", segmentation=False)
    cow, tree = ((0, 5), "kill:cow"), ((3, 7), "mine:tree")
    entries = {cow: {"obj_id": 0, "rle_mask": "1 2"}, tree: {"obj_id": 2, "rle_mask": "11 3"}}
    frames = [{key: entries[key] for key in (cow, tree) if key[0][0] <= i <= key[0][1]} for i in range(SIZE)]
    chunk = pickle.dumps(frames)
    write_lmdb(path / "segmentation" / "part-1", {name: [chunk] * (n // SIZE) for name, n in EPISODES.items()})
    dataset = converted(path, tmp_path)
    row = next(row for row in dataset.rows if row.length == SIZE)
    assert dataset.lowdim(row)["observation.interaction"].tolist() == [0, 0, 0, 2, 2, 2, 2, 2]
    masks = dataset.masks(row, "observation.masks.target").reshape(SIZE, -1)
    assert [int(mask.argmax()) for mask in masks] == [0, 0, 0, 10, 10, 10, 10, 10]
    assert masks.sum(1).tolist() == [2, 2, 2, 3, 3, 3, 3, 3]


def test_segments_of_1_0_leave_as_1_1_reads_them(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "data", "1.0")
    dataset = converted(path, tmp_path)
    write_dataset(dataset, str(tmp_path / "out"), "minestudio-v1.1")
    values = values_of(tmp_path / "out/segmentation/part-0")
    infos = pickle.loads(values["__chunk_infos__"])
    for info in infos:
        for start in range(0, info["num_frames"], SIZE):
            for frame in pickle.loads(values[str((info["episode_idx"], start))]):
                ((key, entry),) = frame.items()
                assert key == ((0, info["num_frames"] - 1), "mine")
                assert (entry["obj_id"], entry["rle_mask"], entry["frame_range"]) == (2, "1 5 9 9", key[0])
    again = converted(tmp_path / "out", tmp_path / "again")
    for ours, theirs in zip(dataset.rows, again.rows, strict=True):
        assert (
            dataset.lowdim(ours)["observation.interaction"] == again.lowdim(theirs)["observation.interaction"]
        ).all()


def test_kinds_may_be_chosen_and_an_episode_that_lacks_another_is_kept(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "data", segmentation=False)
    first = next(iter(EPISODES))
    chunks = [pickle.dumps(segmentation_chunk(k)) for k in range(0, EPISODES[first], SIZE)]
    write_lmdb(path / "segmentation" / "part-1", {first: chunks})
    assert converted(path, tmp_path).manifest.episodes == 1
    chosen = converted(f"{path}?kinds=image,action,meta_info", tmp_path)  # type: ignore[arg-type]
    assert chosen.manifest.episodes == len(EPISODES)
    assert "not chosen" in chosen.manifest.left_out["segmentation"]
    with pytest.raises(ConfigError, match="none of action"):
        open_source(f"{path}?kinds=image,action,sound", "minestudio")


def test_several_folders_are_one_set(tmp_path: Path) -> None:
    """The tutorial's five folders: their episodes joined, none lost, none twice; the address names them with commas."""
    one = make_folder(tmp_path / "all" / "dataset_6xx")
    two = tmp_path / "all" / "dataset_7xx"
    (two / "image").mkdir(parents=True)
    os.rename(one / "image" / "part-3", two / "image" / "part-3")
    both = open_source(f"{one},{two}")
    assert sorted(episode.episode_id for episode in both.describe().episodes) == sorted(EPISODES)
    pickled = pickle.loads(pickle.dumps(both))
    assert pickled.describe() == both.describe()
    assert pickled.read(list(EPISODES)[2]).length == 8
    alone = open_source(str(one)).describe()
    assert len(alone.episodes) == 2  # the third has its pictures in the other folder
    assert any("Player3" in key for key in alone.left_out)


def overlapping(root: Path) -> Path:
    """A folder in which two interactions overlap, and a third begins where one ends."""
    folder = make_folder(root)
    keys = [((0, 9), "a"), ((2, 5), "b"), ((6, 9), "c")]
    frames = []
    for t in range(EPISODES["Player3-ccc-20220103-140000"]):
        frames.append(
            {
                key: {"obj_id": i, "rle_mask": f"{1 + t} {i + 1}", "event": key[1], "frame_range": key[0]}
                for i, key in enumerate(keys)
                if key[0][0] <= t <= key[0][1]
            }
        )
    number = list(reversed(EPISODES)).index("Player3-ccc-20220103-140000")
    put(folder / "segmentation" / "part-3", str((number, 0)), pickle.dumps(frames))
    return folder


def test_overlapping_interactions_have_tracks(tmp_path: Path) -> None:
    from tendon.data.sources.minestudio import TARGETS_PREFIX, TRACK_IDS, TRACK_INTERACTIONS

    source = open_source(str(overlapping(tmp_path / "o")))
    info = source.describe()
    assert [mask.name for mask in info.schema.masks] == [
        "observation.masks.target", f"{TARGETS_PREFIX}0", f"{TARGETS_PREFIX}1",
    ]  # fmt: skip
    assert info.digest != open_source(str(make_folder(tmp_path / "plain"))).describe().digest
    episode = source.read("Player3-ccc-20220103-140000")
    assert episode.features[TRACK_IDS].tolist() == [[0, -1]] * 2 + [[0, 1]] * 4 + [[0, 2]] * 2
    assert episode.features[TRACK_INTERACTIONS].tolist() == [[0, -1]] * 2 + [[0, 3]] * 4 + [[0, 2]] * 2
    masks = episode.masks[f"{TARGETS_PREFIX}1"]
    assert [masks.text(t) for t in (1, 3, 7)] == ["", "4 2", "8 3"]


def test_clips_end_at_events(tmp_path: Path) -> None:
    """MineStudio's mode='event': its rules for which, and the frames before each."""
    from tendon.data.sources import minestudio_events
    from tendon.data.sources.minestudio_events import EventQuery, _thinned

    items = [("a", 100), ("a", 200), ("a", 230), ("b", 300), ("a", 264), ("a", 400)]
    assert list(_thinned([items], EventQuery())) == items[1:]
    assert list(_thinned([items], EventQuery(min_nearby=64))) == [("a", 200), ("b", 300), ("a", 400)]
    assert list(_thinned([items, items], EventQuery(max_within=2))) == [("a", 200), ("a", 230)] * 2
    folder = make_folder(tmp_path / "e")
    name = "Player1-aaa-20220101-120000"
    environment = lmdb.open(str(folder / "event"), map_size=1 << 20)
    with environment.begin(write=True) as transaction:
        for i, frame in enumerate((13, 22)):
            transaction.put(str(("minecraft.mine_block:dirt", i)).encode(), pickle.dumps((name, frame, 1)))
        transaction.put(str(("minecraft.kill_entity:cow", 0)).encode(), pickle.dumps((name, 5, 1)))
    environment.close()
    before, minestudio_events.FIRST_FRAME = minestudio_events.FIRST_FRAME, 0
    try:
        uri = f"{folder}?mode=event&event_regex=minecraft.mine_block.*&win_len=10&split_ratio=0.5"
        source = open_source(uri)
        info = source.describe()
        assert [(one.length, one.splits) for one in info.episodes] == [(10, ("train",)), (10, ("valid",))]
        whole = open_source(str(folder)).read(name)
        clip = source.read(info.episodes[0].episode_id)
        assert clip.task == "mine_block:dirt"
        assert (clip.features["action.camera"] == whole.features["action.camera"][3:13]).all()
        assert [(c.first_frame, c.num_frames, c.skip) for c in clip.images["observation.images.image"]] == [
            (0, 5, 3), (5, 5, 0),
        ]  # fmt: skip
        masks = clip.masks["observation.masks.target"]
        assert [masks.text(t) for t in range(10)] == [
            whole.masks["observation.masks.target"].text(t) for t in range(3, 13)
        ]
        convert(pickle.loads(pickle.dumps(source)), str(tmp_path / "store"), "clips")
        (made,) = (tmp_path / "store/datasets/clips").iterdir()
        dataset = open_dataset(str(made))
        frames = Loader(dataset, "train", {"observation.images.image": tuple(range(10))}, 1, 0).batch(0)
        expected = np.concatenate([decode_mp4(c.content) for c in whole.images["observation.images.image"]])[3:13]
        assert (frames["observation.images.image"][0] == expected).all()
        with pytest.raises(DataError, match="no event is left"):
            open_source(f"{folder}?mode=event&event_regex=minecraft.craft.*").describe()
    finally:
        minestudio_events.FIRST_FRAME = before


def test_an_episode_of_no_frames_is_dropped_by_name(folder: Path, tmp_path: Path) -> None:
    """Its chunks were joined, and of none there is nothing to join."""
    close_all()
    for each in folder.glob("*/*"):
        if each.parent.name == "event":
            continue
        infos = pickle.loads(values_of(each)["__chunk_infos__"])
        longest = max(info["episode_idx"] for info in infos) + 1
        put(
            each,
            "__chunk_infos__",
            pickle.dumps([*infos, {"episode": "Player0", "episode_idx": longest, "num_frames": 0}]),
        )
    dataset = converted(folder, tmp_path)
    assert [row.episode_id for row in dataset.rows] == sorted(EPISODES)
    assert dataset.manifest.left_out["episode Player0"] == "it has no frames"
