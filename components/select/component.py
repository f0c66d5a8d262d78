"""The component of the step ``select``; the work is in tendon.steps.select."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], install_kfp_package=False)
def select(run_uri: str, leaderboard: dsl.Output[dsl.Artifact], metrics: dsl.Output[dsl.Metrics]) -> str:
    """Rank the trials on the selection seeds; dead trials are listed with what killed them.

    Args:
        run_uri: The run that plan made.
        leaderboard: The ranking as JSON.
        metrics: The winner's numbers on the selection seeds.

    Returns:
        Name of the winner, empty when every trial failed.
    """
    import json
    import math

    from tendon import errors, logs, steps

    logs.setup("select")
    with errors.reported("select"):
        result = steps.select(run_uri=run_uri)
    if result.winner:
        metrics.metadata["trial"] = result.winner
    for name, value in result.metrics.items():
        if math.isfinite(value):
            metrics.log_metric({"n": "episodes"}.get(name, name), value)
    leaderboard.metadata["display_name"] = "leaderboard"
    with open(leaderboard.path, "w", encoding="utf-8") as file:
        json.dump(result.leaderboard, file, indent=1)
    return result.winner
