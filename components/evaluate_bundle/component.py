"""The component of the step ``evaluate_bundle``; the work is in tendon.steps.evaluate_bundle."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["sim"], install_kfp_package=False)
def evaluate_bundle(
    bundle_uri: str,
    baseline_uri: str,
    store_uri: str,
    overrides: str,
    episodes: int,
    trust: str,
    job_id: str,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Roll an existing bundle out on confirmation seeds, beside another one if it is named.

    Args:
        bundle_uri: The bundle.
        baseline_uri: Another bundle to compare with; empty means none.
        store_uri: Where the tables are kept; empty means beside each bundle.
        overrides: Changes to the bundle's own configuration.
        episodes: Rollouts of each bundle.
        trust: Sha256s of Python files that may run, separated by commas; empty means none.
        job_id: The engine's own name of this run; finish finds by it what went wrong.
        metrics: success_rate, success_low, success_high, episodes, crashed, mean_steps.
        report: The rates, self-contained.

    Returns:
        The verdict, or the rate, in one sentence.
    """
    import math

    from tendon import errors, logs, steps

    logs.setup("evaluate_bundle")
    with errors.reported("evaluate_bundle"):
        steps.allow(trust)
        result = steps.evaluate_bundle(
            bundle_uri=bundle_uri,
            baseline_uri=baseline_uri,
            episodes=episodes,
            overrides=overrides,
            store_uri=store_uri,
            artifact_uri=report.uri,
            job_id=job_id,
        )
    for name, value in result.metrics.items():
        if math.isfinite(value):
            metrics.log_metric({"n": "episodes"}.get(name, name), value)
    report.metadata["display_name"] = "report"
    with open(report.path, "w", encoding="utf-8") as file:
        file.write(result.html)
    return result.verdict
