"""The processes of one training and what they tell each other; with one process nothing is said.

torchrun (or a Kubeflow TrainJob, whose variables torchrun reads) sets RANK, WORLD_SIZE and LOCAL_RANK; ``joined`` makes
a World of them. Small messages go over gloo on the CPU, gradients over NCCL where there are GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tendon.errors import Interrupted

NEVER = timedelta(days=7)  # who hangs is found by hung.py, which knows the name; torch's own timeout does not


@dataclass(frozen=True)
class World:
    """Which process this is, of how many."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    cpu_group: Any = None  # for small messages; None is the default group

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def is_many(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    def agreed(self, wishes: Sequence[int]) -> list[int]:
        """The largest of each number over all processes: what one wishes, all do, at the same step."""
        if not self.is_many:
            return list(wishes)
        numbers = torch.tensor(wishes, dtype=torch.int64)
        dist.all_reduce(numbers, dist.ReduceOp.MAX, group=self.cpu_group)
        return [int(number) for number in numbers]

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all processes, the same bits everywhere."""
        if not self.is_many:
            return value
        value = value.detach().clone()
        dist.all_reduce(value)
        return value / self.size

    def from_first(self, value: Any) -> Any:
        """What the first process says."""
        if not self.is_many:
            return value
        box = [value]
        dist.broadcast_object_list(box, group=self.cpu_group)
        return box[0]

    def to_first(self, value: Any) -> list[Any]:
        """What every process says, by rank, heard by the first; the others get nothing."""
        if not self.is_many:
            return [value]
        said: list[Any] | None = [None] * self.size if self.is_first else None
        dist.gather_object(value, said, group=self.cpu_group)
        return said or []


ALONE = World()
# What gloo, NCCL and torch's stores say when the other end of a connection is gone.
LOST_PEER = (
    *("reset by peer", "closed by peer", "Broken pipe", "remote process exited", "ncclRemoteError", "Socket closed"),
    *(
        "Socket Timeout",
        "failed to recv",
        "failed to send",
        "recvValue failed",
        "sendBytes failed",
        "Connection refused",
    ),
    *("Timed out waiting", "connection was closed", "wait timeout after"),
)


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error of torch says that another process of the training is gone."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in LOST_PEER)


def _lost_peer(error: BaseException) -> Interrupted:
    """The interruption that it is: all processes begin again at the last checkpoint."""
    return Interrupted(
        "another process of the training is gone",
        where=f"rank {os.environ.get('RANK', '?')}",
        why=str(error).splitlines()[0][:300],
        fix="run the same command again: it resumes",
    )


def is_rank() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def join_world(device: torch.device) -> Iterator[World]:
    """The world that the environment names; alone when it names none.

    Raises:
        Interrupted: Another process is gone; torch says so in many ways.
    """
    if not is_rank():
        yield ALONE
        return
    on_gpu = device.type == "cuda"
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=NEVER, device_id=device if on_gpu else None)
        group = dist.new_group(backend="gloo", timeout=NEVER) if on_gpu else None
        yield World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")), group)
    except RuntimeError as error:
        if is_lost_peer(error):
            raise _lost_peer(error) from error
        raise
    # The group is left to the end of the process: torch may wait for ever when a group that DDP still holds is destroyed.
