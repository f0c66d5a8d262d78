"""The settings of a loader: BatchRequest and its SamplingOrder define the stream, LoaderResources never change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tendon.loader.budget import Tier
from tendon.loader.order import BLOCK_EPISODES
from tendon.loader.windows import Windows

GIB = 1 << 30


@dataclass(frozen=True)
class LoaderResources:
    """Loader resources. None of them changes a batch.

    Example:
        ``Loader(dataset, "train", deltas, 256, seed, resources=LoaderResources(memory_budget=8 << 30, threads=8))``
    """

    memory_budget: int = 4 * GIB  # bytes, on top of what the process uses already
    threads: int = 2  # that decode
    processes: int = 0  # worker processes that make batches; 0: this process makes them
    fetches: int = 16  # requests in flight
    ahead: int | None = None  # batches to prefetch; None: 0 when the whole dataset is in memory, else 3
    tier: Tier | Literal["auto"] = "auto"
    cache: Path | None = None  # a folder on a local disk that keeps blocks of a remote dataset
    cache_bytes: int = 64 * GIB
    # Called once with the memory of every batch buffer, to page-lock it for copies to a device in the background. Keep a
    # reference to such a batch until its copy is done: a buffer without references is overwritten by a later batch.
    pin: Callable[[memoryview], None] | None = None


@dataclass(frozen=True)
class SamplingOrder:
    """The order of the windows, and which of them come more often.

    Example:
        ``SamplingOrder("slots")`` for a recurrent policy: each row of the batch walks through an episode.
    """

    kind: Literal["shuffled", "slots", "minestudio"] = "shuffled"
    # The fields of this class are part of saved positions (Stream.plan): a renamed one makes old positions unreadable.
    lanes: int | None = None  # None: 1 for datasets with less than 2 GiB of encoded members, else 96
    block: int = BLOCK_EPISODES
    unit_bytes: int = 4 << 20  # neighbouring episodes up to this size are fetched and dealt to lanes together
    weights: Mapping[str, float] = field(default_factory=dict)  # of episodes, by their id
    repeated: Mapping[str, Sequence[int]] = field(default_factory=dict)  # steps that come more often, by episode id
    times: int = 1  # how many more times


SHUFFLED = SamplingOrder()
ONE_LANE_BYTES = 2 * GIB


@dataclass(frozen=True)
class BatchRequest:
    """The settings that define the stream of batches, besides the dataset."""

    split: str
    windows: Windows
    batch_size: int  # of all ranks together
    seed: int
    skip_episodes: tuple[str, ...] = ()
    ordering: SamplingOrder = SHUFFLED
    rank: int = 0
    world: int = 1
    on_bad_sample: Literal["fail", "substitute"] = "fail"
