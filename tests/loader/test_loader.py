from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.sources import open_source
from tendon.errors import ConfigError
from tendon.loader import Loader, Windows

OBJECT, EEF = "observation.object", "observation.robot0_eef_pos"
DELTAS = {OBJECT: (-1, 0), EEF: (-1, 0), "action": (0, 1, 2), "next.done": (0,)}


@pytest.fixture
def dataset(lift_like_hdf5: Callable[..., Path], tmp_path: Path) -> Dataset:
    manifest = convert(open_source(str(lift_like_hdf5(episodes=7, valid=2))), str(tmp_path / "store"), "lift")
    return open_dataset(dataset_uri(str(tmp_path / "store"), "lift", manifest.plan))


def test_values_are_the_demonstrations(dataset: Dataset) -> None:
    loader = Loader(dataset, "train", DELTAS, 11, seed=3)
    assert (loader.num_episodes, loader.num_windows) == (5, sum(row.length for row in dataset.episodes("train")))
    batch = loader.batch(4)
    for i in range(11):
        rows = dataset.lowdim(dataset.rows[batch["episode_index"][i]])
        t = batch["frame_index"][i]
        for name, deltas in DELTAS.items():
            for j, delta in enumerate(deltas):
                step = min(max(t + delta, 0), len(rows) - 1)
                assert np.array_equal(batch[name][i, j], np.ravel(rows[name][step]).astype(np.float32))
                assert batch[f"{name}_is_pad"][i, j] == (step != t + delta)
    assert batch["action"].shape == (11, 3, 7)
    assert batch["next.done"].shape == (11, 1, 1)
    assert {array.dtype for key, array in batch.items() if key in DELTAS} == {np.dtype(np.float32)}
    assert batch["action_is_pad"].dtype == bool


def test_epochs_are_exact_across_batches(dataset: Dataset) -> None:
    loader = Loader(dataset, "all", {OBJECT: (0,)}, 8, seed=1)
    seen: list[tuple[int, int]] = []
    while len(seen) < 3 * loader.num_windows:
        batch = next(loader)
        pairs = zip(batch["episode_index"].tolist(), batch["frame_index"].tolist(), strict=True)
        assert batch[OBJECT][:, 0, 0].tolist() == batch["episode_index"].tolist()  # the fixture numbers its rows
        seen += pairs
    n = loader.num_windows
    everything = sorted((row.index, t) for row in dataset.rows for t in range(row.length))
    for epoch in range(3):
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == everything
    assert seen[:n] != seen[n : 2 * n]
    assert [loader.epoch_of(k) for k in (0, n // 8, -(-n // 8))] == [0, 0, 1]


def test_resume_anywhere(dataset: Dataset) -> None:
    straight = Loader(dataset, "train", DELTAS, 6, seed=9)
    batches = [next(straight) for _ in range(20)]
    for k in (0, 1, 7, 19):
        first = Loader(dataset, "train", DELTAS, 6, seed=9)
        for _ in range(k):
            next(first)
        text = json.dumps(first.state)
        assert len(text) < 1000
        again = Loader(dataset, "train", DELTAS, 6, seed=9)
        again.load_state(json.loads(text))
        resumed = next(again)
        for key, array in batches[k].items():
            assert np.array_equal(resumed[key], array)
            assert np.array_equal(straight.batch(k)[key], array)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 10}, "another seed"),
        ({"split": "valid"}, "another split, windows"),
        ({"windows": {OBJECT: (0,)}}, "another split, windows"),
        ({"windows": Windows.of(DELTAS, {OBJECT: "zero"})}, "another split, windows"),
        ({"skip_episodes": ["demo_1"]}, "another split, windows"),
    ],
)
def test_a_state_of_something_else_is_refused(dataset: Dataset, change: dict[str, object], says: str) -> None:
    given: dict[str, object] = {"split": "train", "windows": DELTAS, "batch_size": 6, "seed": 9}
    state = Loader(dataset, **given).state  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=says):
        Loader(dataset, **(given | change)).load_state(state)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="another dataset"):
        Loader(dataset, **given).load_state(state | {"manifest": "x"})  # type: ignore[arg-type]
    Loader(dataset, **(given | {"batch_size": 5})).load_state(state)  # type: ignore[arg-type]


def test_edges(dataset: Dataset) -> None:
    zero = Loader(dataset, "all", Windows.of({"action": (-1, 0, 1)}, {"action": ("zero", "repeat")}), 200, 0).batch(0)
    begins = zero["frame_index"] == 0
    assert begins.any()
    assert not zero["action"][begins, 0].any()
    assert zero["action"][begins, 1].any(1).all()
    ends = zero["action_is_pad"][:, 2]
    assert np.array_equal(zero["action"][ends, 2], zero["action"][ends, 1])
    none = Loader(dataset, "all", Windows.of({"action": (-1, 0, 1)}, {"action": "none"}), 200, 0)
    assert none.num_windows == sum(row.length - 2 for row in dataset.rows)
    assert not none.batch(0)["action_is_pad"].any()


def test_mistakes(dataset: Dataset) -> None:
    for options, says in [
        ({"windows": {"observation.objekt": (0,)}}, "write observation.object"),
        ({"split": "trian"}, "write train"),
        ({"skip_episodes": ["demo_99"]}, "no episode named demo_99"),
        ({"batch_size": 0}, "not positive"),
        ({"windows": {"action": ()}}, "no deltas"),
        ({"windows": Windows.of({"action": (0, 500)}, {"action": "none"})}, "no window fits"),
        ({"split": "valid", "skip_episodes": ["demo_5", "demo_6"]}, "no episode is left"),
    ]:
        given: dict[str, object] = {"split": "train", "windows": DELTAS, "batch_size": 6, "seed": 9}
        with pytest.raises(ConfigError, match=says):
            Loader(dataset, **(given | options))  # type: ignore[arg-type]


def test_no_torch_below_the_trainer() -> None:
    code = "import sys, tendon.loader, tendon.data.convert, tendon.data.stats; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
