"""Where pipelines/ and components/ are: in this checkout, or in the installed wheel as tendon/dag.

Used by local.py for the compiled pipelines, and by the verbs ``compile`` and ``submit``, which run what lies there.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import tendon
from tendon.errors import MissingDependency

COMPILED = Path("pipelines", "compiled")


def dag_root() -> Path:
    """The folder that holds pipelines/ and components/.

    Raises:
        MissingDependency: tendon was installed without them.
    """
    package = Path(tendon.__file__).resolve().parent
    for root in (package / "dag", *package.parents, Path.cwd()):
        if (root / COMPILED / "policy_pipeline.yaml").is_file():
            return root
    raise MissingDependency(
        "the compiled pipelines are not here",
        where=str(package / "dag" / COMPILED),
        why="this installation of tendon was made without them, as in its images",
        fix="pip install 'tendon-robotics[kubeflow]', or run inside a checkout, or give the file with --pipeline",
    )


def run_tool(name: str, words: Sequence[str]) -> int:
    """Run pipelines/compile.py or pipelines/submit.py with these words; the exit code."""
    sys.path.insert(0, str(dag_root()))
    return int(importlib.import_module(f"pipelines.{name}").main(list(words)) or 0)
