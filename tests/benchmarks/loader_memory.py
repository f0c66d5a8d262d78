"""How much a loader makes a process grow: peak over ten epochs, beside its budget. Started by loader_faults."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tendon.data.dataset import open_dataset
from tendon.loader import Loader, LoaderResources, SamplingOrder


def resident_bytes() -> int:
    """Memory of this process now."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) << 10


def main() -> None:
    """Print growth by epoch."""
    told = json.loads(sys.argv[1])
    import boto3  # noqa: F401 - what is imported is not the loader's memory
    import pyarrow.compute  # noqa: F401
    import simplejpeg  # noqa: F401

    dataset = open_dataset(told["uri"])
    dataset.table  # noqa: B018 - the index is the dataset's
    before = resident_bytes()
    loader = Loader(
        dataset,
        "all",
        told["windows"],
        told["batch_size"],
        seed=1,
        ordering=SamplingOrder(lanes=told["lanes"], block=2, unit_bytes=told["unit_bytes"]),
        resources=LoaderResources(memory_budget=told["budget"], threads=2, tier=told["tier"]),
    )
    per_epoch, peak = loader.num_windows // told["batch_size"] + 1, 0
    growth = []
    for _ in range(told["epochs"]):
        for _ in range(per_epoch):
            next(loader)
            peak = max(peak, resident_bytes() - before)
        growth.append(peak)
    print(json.dumps({"growth": growth, "tier": loader.maker.shares.tier}))
    loader.close()


if __name__ == "__main__":
    main()
