"""The requests of the first batch: about as many as there are connections, with every wanted episode in one of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from tendon.data.dataset import open_dataset
from tendon.loader import Loader, LoaderResources, first_reads
from tests.loader.coded import STATE, Coded, coded_dataset
from tests.loader.slow_store import counts, slow_store

EPISODES, PER_UNIT, BYTES = 256, 40, 100_000
UNITS, SIZES = np.arange(EPISODES) // PER_UNIT, np.full(EPISODES, BYTES)


def reads_of(wanted: Collection[int], connections: int = 16) -> list[range]:
    reads = first_reads.first_reads(wanted, UNITS, SIZES, connections)
    read = [episode for each in reads for episode in each]
    assert len(set(read)) == len(read)
    assert set(wanted) <= set(read)
    assert all(len({*UNITS[each.start : each.stop]}) == 1 for each in reads)
    return reads


def test_a_batch_of_most_episodes_is_one_request_for_every_connection() -> None:
    """162 of 256 episodes lie in 60 runs: one request each would be four answers in a row on every connection."""
    wanted = set(np.random.default_rng(0).integers(0, EPISODES, EPISODES).tolist())
    reads = reads_of(wanted)
    assert 12 <= len(reads) <= 16
    assert max(map(len, reads)) * BYTES < 1.5 * EPISODES * BYTES / len(reads)


def test_few_episodes_are_read_without_those_between_them() -> None:
    """There are connections enough for a request each."""
    wanted = {3, 5, 90, 91, 92, 200}
    assert [list(each) for each in reads_of(wanted)] == [[3], [5], [90, 91, 92], [200]]


def test_one_run_is_divided_so_that_no_connection_is_idle() -> None:
    wanted = set(range(PER_UNIT))
    assert len(reads_of(wanted, 8)) == 8
    assert [list(each) for each in reads_of({7})] == [[7]]
    assert reads_of(set()) == []


@pytest.mark.parametrize("connections", [1, 2, 5, 100])
def test_any_number_of_connections(connections: int) -> None:
    for seed in range(20):
        chance = np.random.default_rng(seed)
        reads_of(set(chance.choice(EPISODES, chance.integers(1, EPISODES), replace=False).tolist()), connections)


def test_the_first_batch_asks_the_store_once_for_every_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is the batch that a local dataset gives."""
    for key, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(first_reads, "LEAST_READ", 1 << 10)
    dataset = coded_dataset(str(tmp_path), Coded(episodes=96, length=20, codecs=()), "x")
    resources = LoaderResources(ahead=0, fetches=4)
    expected = next(Loader(dataset, "all", {STATE: (0, 1)}, 96, 1, resources=resources))
    with slow_store(tmp_path) as (endpoint, pipe):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        monkeypatch.setenv("NO_PROXY", "*")
        remote = open_dataset("s3://bucket/" + str(Path(dataset.uri).relative_to(tmp_path)))
        loader = Loader(remote, "all", {STATE: (0, 1)}, 96, 1, resources=resources)
        monkeypatch.setattr(loader.maker._opened_cache(), "_submit_deferred", lambda: None)  # what later batches need
        batch = next(loader)
        assert counts(pipe)["requests"] <= 4
        loader.close()
    assert all((batch[key] == expected[key]).all() for key in expected)
