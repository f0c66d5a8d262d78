"""How many pods of trials one run may have: Argo keeps the whole graph of a run in one object of at most 1 MiB. Pure.

Measured on Kubeflow Pipelines 2.17: the object of a run takes 123 KB and another 24 KB, compressed, for each iteration of
the loop over trials. A tenth stays free: beyond the limit a run ends without its exit task, so without a page.
"""

from __future__ import annotations

import os

OBJECT_KB = 1024
RUN_KB = 123
GROUP_KB = 24
FREE_SHARE = 0.1

MOST_GROUPS = int((OBJECT_KB * (1 - FREE_SHARE) - RUN_KB) // GROUP_KB)


def most_groups() -> int | None:
    """The limit that holds here; None on a single machine, where no engine keeps the graph in one object."""
    return MOST_GROUPS if "KUBERNETES_SERVICE_HOST" in os.environ else None


def batch_advice(num_trials: int, num_now: int) -> str:
    """What a run says that takes only some of its trials, e.g. ``33 of 150 trials in this run; ...``."""
    runs = -(-num_trials // num_now)
    per_pod = -(-num_trials // MOST_GROUPS)
    return (
        f"{num_now} of {num_trials} trials in this run; start the same run again for the rest "
        f"({runs} runs), or policy_trials_per_pod={per_pod}"
    )
