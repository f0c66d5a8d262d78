"""The component of the step ``evaluate``; the work is in tendon.steps.evaluate_trials."""

from typing import NamedTuple

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["sim"], install_kfp_package=False)
def evaluate(run_uri: str, outcomes: str, workers: int, trust: str, metrics: dsl.Output[dsl.Metrics]) -> NamedTuple(
    "Outputs", [("outcomes", str), ("ended", str)]
):
    """Roll the bundle of each trial of a group out on the selection seeds; a crash of the simulator is never counted as a failure.

    Args:
        run_uri: The run that plan made.
        outcomes: The outcomes of the trials so far, a JSON list.
        workers: With more than 1 nothing is rolled out here: pods of their own share the seeds.
        trust: Sha256s of Python files that may run, separated by commas; empty means none.
        metrics: trial, success_rate, success_low, success_high, episodes, crashed, ...; with several trials in the group
            each number is called TRIAL/NAME.

    Returns:
        outcomes: The outcomes of the trials, a JSON list.
        ended: In a word for each trial how it ended.
    """
    import json
    import math

    from tendon import errors, logs, steps

    logs.setup("evaluate")
    with errors.reported("evaluate"):
        steps.allow(trust)
        texts = [json.dumps(one) for one in json.loads(outcomes)]
        ended = texts if workers > 1 else steps.evaluate_trials(run_uri=run_uri, outcomes=texts)
    after = [json.loads(outcome) for outcome in ended]
    metrics.metadata["trial"] = ", ".join(outcome["trial"] for outcome in after)
    for outcome in after:
        group = f"{outcome['trial']}/" if len(after) > 1 else ""
        for name, value in outcome["metrics"].items():
            if math.isfinite(value):  # the metadata store refuses anything else
                metrics.log_metric(group + {"n": "episodes"}.get(name, name), value)
    return (json.dumps(after), " ".join(outcome["status"] for outcome in after))
