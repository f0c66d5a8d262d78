"""What is asked of a loader: which windows in which order (it makes the stream), and the means (they do not)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tendon.loader.budget import Tier
from tendon.loader.order import BLOCK_EPISODES

GIB = 1 << 30


@dataclass(frozen=True)
class Means:
    """With what the stream is made. Nothing here changes a single value of it."""

    memory_budget: int = 4 * GIB  # bytes, on top of what the process holds already
    threads: int = 2  # that decode
    processes: int = 0  # that make batches; 0: this one does
    fetches: int = 16  # requests in flight
    ahead: int | None = None  # batches made before they are asked for; None: 0 where all is at hand, else 3
    tier: Tier | Literal["auto"] = "auto"
    cache: Path | None = None  # a folder on a local disk for blocks of a remote dataset
    cache_bytes: int = 64 * GIB
    # called once with the memory of every batch, which is used again: to page-lock it for copies to a device that go on
    # in the background. Such a batch must be held until its copy is done, for what nobody holds is written anew
    pin: Callable[[memoryview], None] | None = None


@dataclass(frozen=True)
class Ordering:
    """In which order windows come."""

    kind: Literal["shuffled", "slots", "minestudio"] = "shuffled"
    lanes: int | None = None  # None: 1 for sets of which the encoded members have less than 2 GiB, else 96
    block: int = BLOCK_EPISODES
    unit_bytes: int = 4 << 20  # neighbouring episodes are fetched and dealt to lanes together up to this size
    weights: Mapping[str, float] = field(default_factory=dict)  # of episodes, by their id
    repeated: Mapping[str, Sequence[int]] = field(default_factory=dict)  # steps that are listed again, by episode id
    times: int = 1  # how often in addition


SHUFFLED = Ordering()
ONE_LANE_BYTES = 2 * GIB
