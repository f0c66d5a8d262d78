"""The process of one step: hand the component to kfp's executor, and die with the run that started it.

In: the path of a request file {parent, component, arguments}. Started by processes.py with ``python -m``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run the component named in the request; its exit code becomes ours."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    die_with_parent(request["parent"])
    os.environ["_KFP_RUNTIME"] = "true"  # kfp then imports its executor only: 0.1 s instead of 1.5 s
    # Not on a command line: one of its arguments ends at 128 KiB, the outcomes of a sweep do not.
    sys.argv = ["executor_main", "--component_module_path", request["component"], *request["arguments"]]
    from kfp.dsl import executor_main

    executor_main.executor_main()


def die_with_parent(parent: int) -> None:
    """Get SIGTERM when the run is killed, so that no step outlives it (Linux only)."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(75)


if __name__ == "__main__":
    main()
