"""Where the numbers are crunched: the device a configuration names, and how many CPU threads torch may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tendon.errors import ConfigError


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """``auto`` is the first GPU, or the CPU when there is none; of several processes on a node each has its own GPU.

    Raises:
        ConfigError: the named GPU is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device("cuda", local_rank) if name == "cuda" and local_rank else torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"there is no device {name}",
            where="device",
            why=f"torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices here",
            fix="device=auto, or run where the GPU is",
        )
    return device


def gpu_memory(device: str) -> tuple[int, int]:
    """Bytes that this process had at its peak, and that the GPU has; nothing on a CPU."""
    if not device.startswith("cuda"):
        return 0, 0
    return torch.cuda.max_memory_reserved(device), torch.cuda.get_device_properties(device).total_memory


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Give torch ``count`` CPU threads (0: as it is); results on the CPU depend on that number in the last bits."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
