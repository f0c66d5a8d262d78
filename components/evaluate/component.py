"""The component of the step ``evaluate``; the work is in tendon.steps.evaluate_trial."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["sim"], install_kfp_package=False)
def evaluate(run_uri: str, outcome: str, metrics: dsl.Output[dsl.Metrics]) -> str:
    """Roll a trial's bundle out on the selection seeds; a crash of the simulator is never counted as a failure.

    Args:
        run_uri: The run that plan made.
        outcome: The trial's outcome so far.
        metrics: success_rate, success_low, success_high, n, crashed, ...

    Returns:
        The trial's outcome as JSON.
    """
    import json
    import math

    from tendon import errors, logs, steps

    logs.setup("evaluate")
    with errors.reported("evaluate"):
        outcome = steps.evaluate_trial(run_uri=run_uri, outcome=outcome)
    for name, value in json.loads(outcome)["metrics"].items():
        if math.isfinite(value):  # the metadata store refuses anything else
            metrics.log_metric(name, value)
    return outcome
