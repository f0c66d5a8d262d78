"""The process of one step: hand the component to kfp's executor, and die with the run that started it.

In: the path of a request file {parent, component, arguments}. Started by processes.py as a fork, or with ``python -m``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tendon.fork_server import stop_with_parent

STOPPED = 75


def main() -> None:
    """Run the component named in the request; its exit code becomes ours."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if not stop_with_parent(request["parent"]):
        raise SystemExit(STOPPED)
    # Not on a command line: one of its arguments ends at 128 KiB, the outcomes of a sweep do not.
    sys.argv = ["executor_main", "--component_module_path", request["component"], *request["arguments"]]
    from tendon.runner.executor import executor_main

    os.environ["_KFP_RUNTIME"] = "true"  # a fork has a new environment
    executor_main.executor_main()


if __name__ == "__main__":
    main()
