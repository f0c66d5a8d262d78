"""How many pods of trials one run may have: Argo keeps the whole graph of a run in one object of at most 1 MiB. Pure.

Measured on Kubeflow Pipelines 2.17: the object of a run takes 123 KB and another 24 KB, compressed, for each iteration of
the loop over trials. A tenth stays free: beyond the limit a run ends without its exit task, so without a page.
"""

from __future__ import annotations

import os

OBJECT_KB = 1024
RUN_KB = 123
GROUP_KB = 24
POD_KB = 24 / 7
SHARE_PODS = 3  # of each worker of an evaluation, per group
FREE_SHARE = 0.1


def most_groups(evaluate_workers: int = 1) -> int | None:
    """The limit that holds here; None on a single machine, where no engine keeps the graph in one object."""
    return groups_that_fit(evaluate_workers) if "KUBERNETES_SERVICE_HOST" in os.environ else None


def groups_that_fit(evaluate_workers: int = 1) -> int:
    """How many pods of trials one object holds, whose evaluations so many pods share each; at least one.

    Example:
        >>> groups_that_fit(1), groups_that_fit(4)
        (33, 12)
    """
    shares_kb = SHARE_PODS * evaluate_workers * POD_KB if evaluate_workers > 1 else 0
    return max(1, int((OBJECT_KB * (1 - FREE_SHARE) - RUN_KB) // (GROUP_KB + shares_kb)))


MOST_GROUPS = groups_that_fit()


def batch_advice(num_trials: int, num_now: int) -> str:
    """What a run says that takes only some of its trials, e.g. ``33 of 150 trials in this run; ...``."""
    runs = -(-num_trials // num_now)
    per_pod = -(-num_trials // MOST_GROUPS)
    return (
        f"{num_now} of {num_trials} trials in this run; start the same run again for the rest "
        f"({runs} runs), or policy_trials_per_pod={per_pod}"
    )
