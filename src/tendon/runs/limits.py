"""How many pods of trials one run may have: Argo keeps the whole graph of a run in one object of at most 1 MiB. Pure.

Measured on Kubeflow Pipelines 2.17: the object of a run takes 123 KB and another 24 KB, compressed, for each iteration of
the loop over trials. A tenth stays free: beyond the limit a run ends without its exit task, so without a page.
"""

from __future__ import annotations

import os

from tendon.runs.halving import KEPT

OBJECT_KB = 1024
RUN_KB = 123
GROUP_KB = 24
POD_KB = 24 / 7
SHARE_PODS = 3  # of each worker of an evaluation, per group
HALVED_RUN_KB, HALVED_GROUP_KB = (
    150,
    38,
)  # with three rungs, of which each is a loop of five pods for a group that is left
FREE_SHARE = 0.1


def most_groups(evaluate_workers: int = 1, *, halving: bool = False) -> int | None:
    """The limit that holds here; None on a single machine, where no engine keeps the graph in one object."""
    is_cluster = "KUBERNETES_SERVICE_HOST" in os.environ
    return groups_that_fit(evaluate_workers, halving=halving) if is_cluster else None


def groups_that_fit(evaluate_workers: int = 1, *, halving: bool = False) -> int:
    """How many pods of trials one object holds, whose evaluations so many pods share each; at least one.

    Example:
        >>> groups_that_fit(1), groups_that_fit(4)
        (33, 12)
    """
    shares_kb = SHARE_PODS * evaluate_workers * POD_KB if evaluate_workers > 1 else 0
    run_kb, group_kb = (HALVED_RUN_KB, HALVED_GROUP_KB) if halving else (RUN_KB, GROUP_KB)
    if halving:
        shares_kb *= KEPT[-1]  # only those that are trained to the end are shared
    return max(1, int((OBJECT_KB * (1 - FREE_SHARE) - run_kb) // (group_kb + shares_kb)))


MOST_GROUPS = groups_that_fit()


def batch_advice(num_trials: int, num_now: int) -> str:
    """What a run says that takes only some of its trials, e.g. ``33 of 150 trials in this run; ...``."""
    runs = -(-num_trials // num_now)
    per_pod = -(-num_trials // MOST_GROUPS)
    return (
        f"{num_now} of {num_trials} trials in this run; start the same run again for the rest "
        f"({runs} runs), or policy_trials_per_pod={per_pod}"
    )
