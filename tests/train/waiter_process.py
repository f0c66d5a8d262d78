"""``python -m tests.train.waiter_process SERVER ACCOUNT RUN_URI TRIAL``: the step that waits for a TrainJob, as a process."""

from __future__ import annotations

import sys
from pathlib import Path

from tendon import steps
from tendon.errors import reported
from tendon.logs import setup
from tendon.runs.plan import load_plan
from tendon.train.distributed import trainjob
from tendon.train.distributed.cluster_api import ClusterApi


def main(server: str, account: str, run_uri: str, trial: str) -> None:
    """As the component does, asking this server, and often."""
    run_job = trainjob.run_job

    def run_here(spec, **given):
        return run_job(spec, ClusterApi(server, Path(account)), poll_s=0.05, **given)

    trainjob.run_job = run_here
    trainjob.API_POLL_S = 0.05
    setup("train")
    with reported("train"):
        steps.train_trials_on_nodes(
            run_uri=run_uri, trials=[trial], dataset_uri=load_plan(run_uri).dataset_uri, image="i", nodes=2, gpus="0",
            cpu="500m", memory="2Gi",
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
