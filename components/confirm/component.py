"""The component of the step ``confirm``; the work is in tendon.steps.confirm."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["sim"], install_kfp_package=False)
def confirm(run_uri: str, trust: str, metrics: dsl.Output[dsl.Metrics]) -> str:
    """Roll the winner and the champion out on the same fresh seeds and say which is better, or that it cannot be told.

    Args:
        run_uri: The run that plan made.
        trust: Sha256s of Python files that may run, separated by commas; empty means none.
        metrics: The winner's numbers on the confirmation seeds.

    Returns:
        The verdict in one sentence.
    """
    import math

    from tendon import errors, logs, steps

    logs.setup("confirm")
    with errors.reported("confirm"):
        steps.allow(trust)
        result = steps.confirm(run_uri=run_uri)
    for name, value in result.metrics.items():
        if math.isfinite(value):
            metrics.log_metric({"n_episodes": "episodes"}.get(name, name), value)
    return result.verdict
