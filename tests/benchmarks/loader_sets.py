"""Datasets and rates of the loader's rows. Rates are per second of CPU time of the whole process, medians of interleaved
rounds in one run; only ratios mean anything on a shared machine."""

from __future__ import annotations

import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tendon.data.convert import convert, dataset_uri
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.sources import open_source
from tendon.loader import Loader
from tests.benchmarks import peers
from tests.conftest import make_lift_like_hdf5
from tests.loader.coded import Coded, coded_dataset
from tests.loader.slow_store import Trouble, slow_store

ROUNDS = 5
KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_REGION": "us-east-1"}
MIB = 1 << 20


def per_cpu_s(work: Callable[[], int], least_s: float = 0.3) -> float:
    """What is done per second of CPU time; children count after they are joined."""
    began, count = time.process_time(), 0
    while time.process_time() - began < least_s:
        count += work()
    return count / (time.process_time() - began)


def ratio(ours: Callable[[], int], theirs: Callable[[], int], rounds: int = ROUNDS) -> float:
    """Median rate of ours over median rate of theirs, interleaved; both warmed up once."""
    ours(), theirs()
    rates = [(per_cpu_s(ours), per_cpu_s(theirs)) for _ in range(rounds)]
    first, second = (statistics.median(each) for each in zip(*rates, strict=True))
    print(f"  {first:.4g} / {second:.4g} per CPU second", file=sys.stderr)
    return first / second


@functools.cache
def folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def coded(**options: Any) -> Dataset:
    """A dataset, made once for all rows."""
    return coded_dataset(
        folder().name, Coded(**options), "-".join(f"{k}{v}" for k, v in options.items()).lower() or "x"
    )


@functools.cache
def lift(images: bool = False, size: int = 84, episodes: int = 200, length: int = 47) -> tuple[Path, Dataset]:
    """A robomimic file and the dataset made of it."""
    path = Path(folder().name) / f"lift{images}{size}{episodes}.hdf5"
    make_lift_like_hdf5(path, episodes, length, images, size)
    manifest = convert(open_source(str(path)), folder().name, path.stem.lower())
    return path, open_dataset(dataset_uri(folder().name, path.stem.lower(), manifest.plan))


def taking(loader: Loader, batches: int = 8) -> Callable[[], int]:
    """Work that takes some batches from an endless loader."""

    def take() -> int:
        for _ in range(batches):
            next(loader)
        return batches * loader.batch_size

    return take


def robomimic_rate(cache: str, frame_stack: int, seq_length: int, keys: list[str], file: Path) -> float:
    answer = peers.ask(
        peers.robomimic(),
        "robomimic_windows.py",
        "rate",
        str(file),
        str(frame_stack),
        str(seq_length),
        cache,
        ",".join(keys),
    )
    return float(answer["per_cpu_s"])


@contextmanager
def far(dataset: Dataset, trouble: Trouble) -> Iterator[Dataset]:
    """The dataset behind a server."""
    with slow_store(Path(folder().name), trouble) as (endpoint, _):
        os.environ.update(KEYS | {"AWS_ENDPOINT_URL_S3": endpoint, "NO_PROXY": "*", "no_proxy": "*"})
        yield open_dataset("s3://bucket/" + str(Path(dataset.uri).relative_to(folder().name)))
