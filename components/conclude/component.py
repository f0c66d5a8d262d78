"""The component of the step ``conclude``; the work is in tendon.steps.conclude: select, confirm, report and promote in one pod."""

from typing import NamedTuple

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["sim"], install_kfp_package=False)
def conclude(
    run_uri: str,
    job_id: str,
    after: list,
    trust: str,
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> NamedTuple("Outputs", [("verdict", str), ("winner", str), ("promoted", bool), ("report_uri", str)]):
    """Rank the trials, confirm the winner beside the champion, write the report, and promote if that was asked for.

    Args:
        run_uri: The run that plan made.
        job_id: The engine's own name of this run.
        after: How each group of trials ended; only what has to be waited for, the outcomes are read from the store.
        trust: Sha256s of Python files that may run, separated by commas; empty means none.
        report: The report, self-contained.
        metrics: The winner's numbers on the confirmation seeds.

    Returns:
        verdict: The verdict in one sentence.
        winner: Name of the winning trial; empty when every trial failed, or trials are left for another run.
        promoted: Whether the champion pointer moved.
        report_uri: Where the report is kept.
    """
    import math

    from tendon import errors, logs, steps

    logs.setup("conclude")
    with errors.reported("conclude"):
        steps.allow(trust)
        result = steps.conclude(run_uri=run_uri, job_id=job_id)
    if result.winner:
        metrics.metadata["trial"] = result.winner
    for name, value in result.metrics.items():
        if math.isfinite(value):  # the metadata store refuses anything else
            metrics.log_metric({"n_episodes": "episodes"}.get(name, name), value)
    report.metadata["display_name"] = "report"
    with open(report.path, "w", encoding="utf-8") as file:
        file.write(result.html)
    return (result.verdict, result.winner, result.promoted, run_uri.rstrip("/") + "/report.html")
