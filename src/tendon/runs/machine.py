"""What a step ran on, as plain values: processor, memory, accelerator, versions, and the commit of the code. Noted beside its time."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

from tendon import __version__

PACKAGES = ("torch", "numpy", "transformers", "timm", "peft", "kfp")
COMMIT = "TENDON_COMMIT"  # of an image, in which there is no checkout


def machine() -> dict[str, str]:
    """By name, in the order to be read; what nobody knows is left out.

    Example:
        >>> sorted(machine())[:2]
        ['commit', 'memory']
    """
    found = {
        "processor": f"{_processor()}, {_num_cores()} cores",
        "memory": _memory(),
        "accelerator": _accelerator(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "tendon": __version__,
        **_packages(),
        "commit": commit(),
    }
    return {name: value for name, value in found.items() if value}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):
        return ""


def _accelerator() -> str:
    """By torch, where this process has it already."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return ""
    names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))


def _packages() -> dict[str, str]:
    """Versions of what this process has loaded, as it says itself: to look up metadata takes longer than the rest."""
    return {name: str(getattr(sys.modules[name], "__version__", "")) for name in PACKAGES if name in sys.modules}


@cache
def commit() -> str:
    """The git commit of the checkout that runs, with a plus where files were changed; empty where there is none."""
    if os.environ.get(COMMIT, "unknown") not in ("", "unknown"):
        return os.environ[COMMIT]
    folder = Path(__file__).resolve().parent
    if not any((above / ".git").exists() for above in list(folder.parents)[:4]):
        return ""
    command = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--", str(folder.parent)]
    try:
        told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    lines = told.splitlines()
    oid = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "")
    return oid[:12] + ("+" if any(not line.startswith("#") for line in lines) else "")
