"""One rank of a run: takes batches from a loader, appends what it saw, is killed at some point. Started by loader_faults.

usage: loader_worker.py JSON, with uri, rank, world, threads, cache, out, state, first, last, arguments.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from tendon.data.dataset import open_dataset
from tendon.loader import Loader, LoaderResources, SamplingOrder


def windows_of(batch: dict[str, np.ndarray]) -> list[str]:
    """A digest per window, over all of its arrays."""
    names = sorted(batch)
    return [
        hashlib.sha256(b"".join(np.ascontiguousarray(batch[name][i]).tobytes() for name in names)).hexdigest()[:16]
        for i in range(len(batch["frame_index"]))
    ]


def main() -> None:
    """Take batches until the last one, or until killed."""
    told = json.loads(sys.argv[1])
    arguments = dict(told["arguments"])
    loader = Loader(
        open_dataset(told["uri"]),
        **arguments | {"ordering": SamplingOrder(**arguments["ordering"])},
        rank=told["rank"],
        world=told["world"],
        resources=LoaderResources(
            memory_budget=told["budget"],
            threads=told["threads"],
            fetches=4,
            cache=Path(told["cache"]) if told["cache"] else None,
        ),
    )
    if told["state"]:
        loader.load_state(told["state"])
    with open(told["out"], "w") as out:
        for k in range(told["first"], told["last"]):
            own = windows_of(next(loader))
            line = json.dumps([k, own, loader.state])
            assert len(json.dumps(loader.state)) <= 1024
            out.write(line + "\n")
            out.flush()


if __name__ == "__main__":
    main()
