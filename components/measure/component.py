"""The component of the step ``measure``; the work is in tendon.steps.measure."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["sim"], install_kfp_package=False)
def measure(
    bundle_uri: str,
    against_uri: str,
    store_uri: str,
    config: str,
    episodes: int,
    job_id: str,
    metrics: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
) -> str:
    """Roll an existing bundle out on confirmation seeds, beside another one if it is named.

    Args:
        bundle_uri: The bundle.
        against_uri: Another bundle to compare with; empty means none.
        store_uri: Where the tables are kept; empty means beside each bundle.
        config: Changes to the bundle's own configuration.
        episodes: Rollouts of each bundle.
        job_id: The engine's own name of this run; finish finds by it what went wrong.
        metrics: success_rate, success_low, success_high, n, crashed, mean_steps.
        page: The rates, self-contained.

    Returns:
        The verdict, or the rate, in one sentence.
    """
    import math

    from tendon import errors, logs, steps

    logs.setup("measure")
    with errors.reported("measure"):
        result = steps.measure(
            bundle_uri=bundle_uri,
            champion_uri=against_uri,
            episodes=episodes,
            config=config,
            store_uri=store_uri,
            artifact_uri=page.uri,
            job_id=job_id,
        )
    for name, value in result.metrics.items():
        if math.isfinite(value):
            metrics.log_metric(name, value)
    with open(page.path, "w", encoding="utf-8") as file:
        file.write(result.html)
    return result.verdict
