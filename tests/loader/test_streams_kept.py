"""Streams are what they were: their hashes were taken before Windows existed, when Loader took deltas and edges apart.

A changed hash means that every saved position and every golden loss belongs to another stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tendon.data.dataset import Dataset
from tendon.loader import Loader, MixedLoader, SamplingOrder, Windows
from tests.loader.coded import JPEG, STATE, Coded, coded_dataset

SHUFFLED = SamplingOrder()
WEIGHTED = SamplingOrder(weights={"e3": 2.5, "e4": 0.0}, repeated={"e5": [1, 2]}, times=2, lanes=2, block=2)


@dataclass(frozen=True)
class Case:
    """A stream, the hash of its batches and that of its saved positions."""

    windows: Windows
    batches: str
    plan: str
    ordering: SamplingOrder = SHUFFLED


PLAIN = Case(Windows.of({STATE: (-1, 0), "action": (0, 1, 2)}), "50ced62cb885104e", "c6cb9141faa8aa98")
CASES = {
    "plain": PLAIN,
    "edges": Case(
        Windows.of({STATE: (-3, 0), "action": (0, 1, 5)}, {STATE: "zero", "action": ("none", "zero")}),
        "eb1a21478ab25a97",
        "cbfc5ccd1dfcdea0",
    ),
    "drop": Case(
        Windows.of({STATE: (0,), "action": (0, 4)}, stride=3, drop_last=5), "f4823d3084332dcb", "21f2d58291e450f2"
    ),
    "slots": Case(
        Windows.of({STATE: (0, 1, 2, 3)}, {STATE: "zero"}, stride=4),
        "af63a27ce90df0bd",
        "0ed32aa526402a11",
        SamplingOrder("slots"),
    ),
    "minestudio": Case(
        Windows.of({STATE: (0, 1)}, {STATE: "zero"}, stride=2),
        "dfbe8e49208bd975",
        "b3614baf9bb3b350",
        SamplingOrder("minestudio"),
    ),
    "weights": Case(Windows.of({STATE: (0,)}), "2a3c2d0fb66365aa", "bf804d47a172d0ff", WEIGHTED),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder: Path = tmp_path_factory.mktemp("kept")
    return coded_dataset(folder, Coded(codecs=("jpeg",)))


@pytest.mark.parametrize("name", CASES)
def test_a_stream_is_kept(dataset: Dataset, name: str) -> None:
    case = CASES[name]
    loader = Loader(dataset, "all", case.windows, 5, 11, ordering=case.ordering)
    assert hash_of(loader.batch(k) for k in range(30)) == case.batches
    assert loader.state["plan"] == case.plan


def test_ranks_and_mixtures_are_kept(dataset: Dataset) -> None:
    ranks = [Loader(dataset, "all", PLAIN.windows, 5, 11, rank=rank, world=2) for rank in (0, 1)]
    hashes = [hash_of(loader.batch(k) for k in range(9)) for loader in ranks]
    assert hashes == ["235f410d39b3f53b", "f7550145fe7f5c92"]
    parts = [Loader(dataset, "all", PLAIN.windows, 5, 11) for _ in range(2)]
    mixed = MixedLoader(parts, [3, 1], 6, seed=4)
    assert hash_of(mixed.batch(k) for k in range(9)) == "5fe230ad4792dbfe"
    assert mixed.state["plan"] == "02559b08e33efd2a"


def test_frames_are_placed_as_before(dataset: Dataset) -> None:
    loader = Loader(dataset, "all", {JPEG: (-1, 0), "action": (0,)}, 5, 11)
    assert loader.state["plan"] == "720d030bb52a888b"


def hash_of(batches: Iterable[Mapping[str, Any]]) -> str:
    """Over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for batch in batches:
        for name in sorted(batch):
            array = np.ascontiguousarray(batch[name])
            digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]
