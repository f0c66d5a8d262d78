"""The component of the step ``prune``; the work is in tendon.steps.prune and tendon.steps.evaluation_shares."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], install_kfp_package=False)
def prune(run_uri: str, dataset_uri: str, rung: int, trials_per_pod: int, workers: int, after: list) -> list:
    """End the trials that can hardly win after a rung, and group the others; rung 0: share the seeds of those that are trained.

    Args:
        run_uri: The run that plan made.
        dataset_uri: The converted dataset, handed on.
        rung: 1, 2 or 3; 0 after the last training.
        trials_per_pod: Trials that one pod works through.
        workers: Pods that share the evaluation of a group.
        after: How the groups of the loop before ended; only what has to be waited for.

    Returns:
        One {trials, run_uri, dataset_uri, share} per item of the next loop; trials is a JSON list of names, share is K/N.
    """
    import json

    from tendon import errors, logs, steps

    logs.setup("prune")
    with errors.reported("prune"):
        if rung:
            groups = steps.prune(run_uri=run_uri, rung=rung, trials_per_pod=trials_per_pod).groups
            items = [(group, "0/1") for group in groups]
        else:
            items = steps.evaluation_shares(run_uri=run_uri, trials_per_pod=trials_per_pod, workers=workers)
    return [
        {"trials": json.dumps(group), "run_uri": run_uri, "dataset_uri": dataset_uri, "share": share}
        for group, share in items
    ]
