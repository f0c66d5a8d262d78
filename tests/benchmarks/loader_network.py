"""``make bench`` of the loader: over a network of 30 ms and 40 MB/s per connection, beside the peers that install."""

from __future__ import annotations

import functools
import hashlib
import http.client
import io
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import google_crc32c
import numpy as np

from tendon.data.dataset import Dataset
from tendon.loader import Loader, LoaderResources
from tendon.loader.fetch import HttpBytes, open_bytes
from tests.benchmarks import peers
from tests.benchmarks.loader_sets import KEYS, MIB, ROUNDS, coded, far, ratio
from tests.benchmarks.rows import row
from tests.loader.coded import JPEG, STATE
from tests.loader.slow_store import Trouble, slow_store

# ----------------------------------------------------------------------------------------------------- 8 to 11: network


@row(
    "bench",
    "loader-8-get-cpu",
    "CPU seconds per byte of ranged GETs on loopback beside a bare http.client",
    "<= 1.15 x",
)
def get_cpu() -> float:
    """4 MB ranges into one buffer, one connection."""
    dataset = coded(episodes=120, length=40, size=224, codecs=("jpeg",), noise=12)
    shard = max(dataset.manifest.shards, key=lambda each: each.bytes)
    with far(dataset, Trouble()) as remote:
        source = open_bytes(remote.store)
        assert isinstance(source, HttpBytes)
        url = urlsplit(source._sign(shard.key))
        connection = http.client.HTTPConnection(url.netloc)
        view = memoryview(bytearray(4 * MIB))
        starts = list(range(0, shard.bytes - 4 * MIB, 4 * MIB))

        def bare() -> int:
            for start in starts:
                connection.request(
                    "GET", f"{url.path}?{url.query}", headers={"Range": f"bytes={start}-{start + len(view) - 1}"}
                )
                answer, got = connection.getresponse(), 0
                while got < len(view):
                    got += answer.readinto(view[got:])
            return len(starts)

        def ours() -> int:
            for start in starts:
                source.read_into(shard.key, start, view)
            return len(starts)

        return 1 / ratio(ours, bare)


@row(
    "bench",
    "loader-8-download",
    "CPU seconds per byte of ranged GETs on loopback beside boto3's download_fileobj",
    "<= 0.45 x",
)
def get_cpu_beside_boto3() -> float:
    """A whole shard, ours in 4 MB ranges, one connection."""
    import boto3

    dataset = coded(episodes=120, length=40, size=224, codecs=("jpeg",), noise=12)
    shard = max(dataset.manifest.shards, key=lambda each: each.bytes)
    with far(dataset, Trouble()) as remote:
        source, view = open_bytes(remote.store), memoryview(bytearray(4 * MIB))
        client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"])
        key = remote.uri.removeprefix("s3://bucket/") + "/" + shard.key

        def ours() -> int:
            for start in range(0, shard.bytes, 4 * MIB):
                source.read_into(shard.key, start, view[: min(4 * MIB, shard.bytes - start)])
            return 1

        def theirs() -> int:
            client.download_fileobj("bucket", key, io.BytesIO())
            return 1

        return 1 / ratio(ours, theirs)


LATENCY_S, MB_S = 0.03, 40.0
SLOW = Trouble(latency_s=LATENCY_S, connection_mb_s=MB_S)


@functools.cache
def _peers() -> dict[str, dict[str, float]]:
    """What the peers do with 8 shards of 16 MB behind the same server."""
    python, found = peers.readers(), dict[str, dict[str, float]]()
    with tempfile.TemporaryDirectory() as root:
        peers.ask(python, "network.py", "make", root)
        with slow_store(Path(root), SLOW) as (endpoint, _):
            os.environ.update(KEYS | {"AWS_ENDPOINT_URL": endpoint, "NO_PROXY": "*", "no_proxy": "*"})
            for what in ("wds", "mds", "lit"):
                with tempfile.TemporaryDirectory() as local:
                    found[what] = peers.ask(python, "network.py", "read", endpoint, what, local)
            del os.environ["AWS_ENDPOINT_URL"]
    print(f"  {found}", file=sys.stderr)
    return found


@functools.cache
def _mb_s() -> float:
    """Units of 4 MB as they are fetched by 8 threads."""
    dataset = coded(episodes=64, length=6800, codecs=(), dim=150)
    with far(dataset, SLOW) as remote:
        source = open_bytes(remote.store)
        ranges = [(s.key, at) for s in remote.manifest.shards for at in range(0, s.bytes - 4 * MIB, 4 * MIB)][:60]
        views, num = [memoryview(bytearray(4 * MIB)) for _ in range(8)], len(ranges) // 8 * 8
        rates = []
        for _ in range(3):
            began = time.monotonic()
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda i: source.read_into(*ranges[i], views[i % 8]), range(num)))
            rates.append(num * 4 * MIB / 1e6 / (time.monotonic() - began))
    print(f"  MB/s {rates}", file=sys.stderr)
    return statistics.median(rates)


@row(
    "bench",
    "loader-9-throughput",
    "MB/s at 30 ms, 40 MB/s per connection, K=8, units of 4 MB, beside the bound of 247",
    ">= 0.93 x",
)
def throughput() -> float:
    """Wall time."""
    return _mb_s() / (8 * 4 * MIB / 1e6 / (LATENCY_S + 4 * MIB / 1e6 / MB_S))


@row("bench", "loader-9-webdataset", "the same beside webdataset with pipe:curl", ">= 6 x")
def beside_pipe() -> float:
    """One connection."""
    return _mb_s() / _peers()["wds"]["mb_s"]


@row("bench", "loader-9-mds", "the same beside MosaicML Streaming (MDS), 256 samples ahead", ">= 4 x")
def beside_mds() -> float:
    """One process."""
    return _mb_s() / _peers()["mds"]["mb_s"]


@row("bench", "loader-9-litdata", "the same beside LitData, 2 processes, 8 chunks ahead", ">= 1.8 x")
def beside_litdata() -> float:
    """Two processes against our one; its downloads by boto3, since obstore refuses plain http."""
    return _mb_s() / _peers()["lit"]["mb_s"]


class First(NamedTuple):
    """Median seconds to a first batch, and what bounds them."""

    whole: float  # from the manifest
    indexed: float  # from the index
    requests: float  # of nothing but the requests, index included
    bytes: int  # that the batch needs

    @property
    def least(self) -> float:
        """Its bytes over 16 connections and two round trips, where a request costs no more than that."""
        return self.bytes / (16 * MB_S * 1e6) + 2 * LATENCY_S


@functools.cache
def _first(batch_size: int, jpeg: bool, trouble: Trouble = SLOW) -> First:
    """From the manifest, from the index and of the requests alone, in turns."""
    if jpeg:
        dataset, deltas = coded(episodes=64, length=100, size=84, codecs=("jpeg",), noise=8), {STATE: (0,), JPEG: (0,)}
    else:
        dataset, deltas = coded(episodes=256, length=400, codecs=(), dim=62), {STATE: (0,)}
    whole, indexed, requests, size = list[float](), list[float](), list[float](), 0
    for seed in range(ROUNDS):
        for taken, has_index in ((whole, False), (indexed, True)):
            with far(dataset, trouble) as remote:
                remote.store.presigned(remote.manifest.shards[0].key, 60)  # type: ignore[attr-defined]
                if has_index:
                    remote.table  # noqa: B018
                began = time.monotonic()
                loader = Loader(remote, "all", deltas, batch_size, seed, resources=LoaderResources(ahead=0))
                batch = next(loader)
                taken.append(time.monotonic() - began)
                size = int(loader.maker._layout.bytes_E[np.unique(batch["episode_index"])].sum())
                loader.close()
        with far(dataset, trouble) as remote:
            requests.append(_requests_alone(remote, size, 1 if batch_size == 1 else 16))
    first = First(statistics.median(whole), statistics.median(indexed), statistics.median(requests), size)
    print(f"  {first}, least {first.least:.3f} s", file=sys.stderr, flush=True)
    return first


def _requests_alone(remote: Dataset, size: int, connections: int) -> float:
    """Seconds for the index with its sha256, then so many bytes of the shards in equal parts with their crc32c.

    The least that a first batch can take: where the bytes lie is known, nothing is planned, decoded or copied.
    """
    shards, entry = remote.manifest.shards, remote.manifest.index
    index, *addresses = (remote.store.presigned(each.key, 600) for each in (entry, *shards))  # type: ignore[attr-defined]
    contents = [np.empty(size // connections, np.uint8) for _ in range(connections)]

    def read(address: str, start: int, content: np.ndarray) -> None:
        url, view, got = urlsplit(address), memoryview(content), 0  # type: ignore[arg-type]
        connection = http.client.HTTPConnection(url.netloc)
        connection.request(
            "GET", f"{url.path}?{url.query}", headers={"Range": f"bytes={start}-{start + len(view) - 1}"}
        )
        answer = connection.getresponse()
        while got < len(view):
            got += answer.readinto(view[got:])
        connection.close()

    def part(i: int) -> int:
        read(addresses[i % len(shards)], i // len(shards) * len(contents[i]), contents[i])
        return int(google_crc32c.value(contents[i]))

    began, table = time.monotonic(), np.empty(entry.bytes, np.uint8)
    read(index, 0, table)
    assert hashlib.sha256(table.data).hexdigest() == entry.sha256
    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(part, range(connections)))
    return time.monotonic() - began


@row("bench", "loader-10-first", "round trips from the index to the first sample", "<= 2.5 x")
def first_sample() -> float:
    """A batch of one; the episode is one of the round trips. Wall time."""
    return _first(1, True).indexed / LATENCY_S


@row(
    "bench",
    "loader-10-manifest",
    "round trips from the manifest, index included, to the first sample",
    "<= 2.5 x",
)
def first_sample_and_index() -> float:
    """Two of the round trips are the index and the episode. Wall time."""
    return _first(1, True).whole / LATENCY_S


@row(
    "bench",
    "loader-10-requests",
    "from the manifest, index included, to the first sample beside nothing but its two requests, in turns",
    "<= 1.25 x",
)
def first_sample_beside_requests() -> float:
    """A batch of one; its episode of 290 kB is read on one connection, as on the other side. Wall time."""
    first = _first(1, True)
    return first.whole / first.requests


@row(
    "bench",
    "loader-10-mds",
    "time to the first sample beside MosaicML Streaming (MDS), both from the index",
    "<= 0.2 x",
)
def first_beside_mds() -> float:
    """It waits for a whole shard of 16 MB."""
    return _first(1, True).indexed / _peers()["mds"]["first_s"]


@row(
    "bench",
    "loader-11-batch",
    "first shuffled batch of 256, from the manifest, beside its bytes over 16 connections and two round trips",
    "<= 1.5 x",
)
def first_batch() -> float:
    """Numbers, so that nothing but reading counts: 256 windows of 256 episodes. Wall time."""
    first = _first(256, False)
    return first.whole / first.least


@row(
    "bench",
    "loader-11-requests",
    "the same beside nothing but reading as many bytes by 16 connections, in turns",
    "<= 1.25 x",
)
def first_batch_beside_requests() -> float:
    """What http.client and checksums take on this machine, without a loader. Wall time."""
    first = _first(256, False)
    return first.whole / first.requests


@row(
    "bench",
    "loader-11-handshake",
    "the first batch where opening a connection takes two round trips (TCP, TLS) beside one where it takes none",
    "<= 1.15 x",
)
def first_batch_after_handshakes() -> float:
    """Connections are opened while the index is waited for. Wall time."""
    return _first(256, False, replace(SLOW, handshake_s=2 * LATENCY_S)).whole / _first(256, False).whole


@functools.cache
def _first_of_webdataset() -> float:
    """Median seconds from presigned addresses to a batch of 256 windows by webdataset, all shards at once.

    Its buffer holds every episode before the first window comes: only then is a batch as mixed as a permutation.
    """
    import webdataset

    dataset, taken = coded(episodes=256, length=400, codecs=(), dim=62), []

    def episodes_of(url: str) -> list[np.ndarray]:
        return [
            each["lowdim.npy"] for each in webdataset.WebDataset(f"pipe:curl -s '{url}'", shardshuffle=False).decode()
        ]

    for seed in range(ROUNDS):
        with far(dataset, SLOW) as remote:
            urls = [remote.store.presigned(shard.key, 600) for shard in remote.manifest.shards]  # type: ignore[attr-defined]
            began, chance = time.monotonic(), np.random.default_rng(seed)
            with ThreadPoolExecutor(len(urls)) as pool:
                episodes = [each for part in pool.map(episodes_of, urls) for each in part]
            places = chance.choice(sum(map(len, episodes)), 256, replace=False)
            starts = np.cumsum([0, *map(len, episodes)])
            chosen = np.searchsorted(starts, places, "right") - 1
            np.stack([episodes[i][at - starts[i]] for i, at in zip(chosen.tolist(), places.tolist(), strict=True)])
            taken.append(time.monotonic() - began)
    print(f"  webdataset {taken}", file=sys.stderr)
    return statistics.median(taken)


@row(
    "bench",
    "loader-11-webdataset",
    "first shuffled batch of 256, from the manifest, beside webdataset's, both of an effective size of 128",
    "<= 1 x",
)
def first_batch_beside_webdataset() -> float:
    """N_eff = 256 / (1 + 255 / 256): windows of 256 episodes, any of them equally likely. Wall time."""
    return _first(256, False).whole / _first_of_webdataset()
