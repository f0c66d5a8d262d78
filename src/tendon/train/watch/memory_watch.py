"""The memory of this container, and the end of a child process before the kernel ends the whole container.

Kubernetes sets memory.oom.group: when a container is out of memory, the kernel kills every process of it, also the step
that would have written down what happened. So the step looks at cgroup v2's files itself and kills the process that grows.
"""

from __future__ import annotations

import logging
from pathlib import Path

logger = logging.getLogger(__name__)

CGROUP = Path("/sys/fs/cgroup")
FULL_SHARE = 0.96  # of the limit, without what the kernel can give back
MIB = 1 << 20


class MemoryWatch:
    """What cgroup v2 says of this container; where there is no limit nothing is ever full."""

    def __init__(self, folder: Path = CGROUP) -> None:
        self._folder = folder
        limit = self._text("memory.max").strip()
        self.limit = int(limit) if limit.isdigit() else 0
        self.kills_all = self._text("memory.oom.group").strip() == "1"
        self._kills_before = self._kills()

    def used(self) -> int:
        """Bytes that the kernel cannot give back: without the cache of files."""
        current = self._text("memory.current").strip()
        stat = dict(line.split() for line in self._text("memory.stat").splitlines() if len(line.split()) == 2)
        cached = int(stat.get("active_file", 0)) + int(stat.get("inactive_file", 0))
        return max(0, (int(current) if current.isdigit() else 0) - cached)

    def is_full(self) -> bool:
        """Whether the kernel is about to kill everybody here."""
        return bool(self.limit) and self.kills_all and self.used() >= FULL_SHARE * self.limit

    def was_full(self) -> bool:
        """Whether the kernel has killed a process of this container since this watch began."""
        return self._kills() > self._kills_before

    def describe(self) -> str:
        """``1019 of 1024 MiB``."""
        return f"{self.used() // MIB} of {self.limit // MIB} MiB"

    def _kills(self) -> int:
        events = dict(line.split() for line in self._text("memory.events").splitlines() if len(line.split()) == 2)
        return int(events.get("oom_kill", 0))

    def _text(self, name: str) -> str:
        try:
            return (self._folder / name).read_text()
        except OSError:
            return ""


def free_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that this container can still take."""
    watch = MemoryWatch()
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux: as much as one training
        free = 0
    return min(free, watch.limit - watch.used()) if watch.limit else free
