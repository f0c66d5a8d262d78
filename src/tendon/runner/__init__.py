"""Run the compiled DAG on this machine: the same YAML that a cluster gets, through kfp's subprocess or docker runner.

In: a compiled pipeline, its arguments and a store. Out: a RunResult, or the TendonError of the step that failed.
Called by ``tendon run`` and ``make demo``; kfp is imported only when a run starts.
"""

from tendon.runner.containers import Docker
from tendon.runner.local import RunResult, default_arguments, default_images, default_yaml, run_local
from tendon.runner.progress import Console, StepEvent

__all__ = [
    "Console",
    "Docker",
    "RunResult",
    "StepEvent",
    "default_arguments",
    "default_images",
    "default_yaml",
    "run_local",
]
