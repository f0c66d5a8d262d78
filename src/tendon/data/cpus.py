"""The number of processors this process may use: those it is bound to, at most its container's quota."""

from __future__ import annotations

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus(quota: Path = QUOTA) -> float:
    """Processors, in parts of one where a container has that."""
    available = getattr(os, "sched_getaffinity", None)
    cpus = float(len(available(0)) if available else os.cpu_count() or 1)
    try:
        most, _, period = quota.read_text(encoding="utf-8").partition(" ")
    except OSError:
        return cpus
    return min(cpus, int(most) / int(period)) if most.isdigit() else cpus
