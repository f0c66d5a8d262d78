"""One of two processes that train together: an exact epoch of batches, a reduction after each. Started by loader_faults."""

from __future__ import annotations

import json
import sys

import torch
import torch.distributed as dist

from tendon.data.dataset import open_dataset
from tendon.loader import Loader


def main() -> None:
    """See this rank's share of one epoch and print it."""
    uri, rank, world, file, batch_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    loader = Loader(
        open_dataset(uri), "all", {"observation.state": (-1, 0)}, batch_size, seed=1, rank=rank, world=world
    )
    seen = []
    for _ in range(-(-loader.num_windows // batch_size)):
        batch = next(loader)
        seen += list(zip(batch["episode_index"].tolist(), batch["frame_index"].tolist(), strict=True))
        total = torch.from_numpy(batch["observation.state"]).sum()
        dist.all_reduce(total)
    dist.barrier()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
