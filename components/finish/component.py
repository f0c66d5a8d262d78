"""The component of the step ``finish``; the work is in tendon.steps.finish. The exit task: it runs after a failure too."""

from typing import NamedTuple

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], install_kfp_package=False)
def finish(
    job_id: str,
    store_uri: str,
    notify_when: str,
    remember: bool,
    status: dsl.PipelineTaskFinalStatus,
    ending_page: dsl.Output[dsl.HTML],
) -> NamedTuple("Outputs", [("ending", str), ("headline", str), ("report_uri", str)]):
    """Write the report of a run however it ended, and tell a webhook.

    Args:
        job_id: The engine's own name of this run.
        store_uri: The store; empty means a folder beside the pipeline root.
        notify_when: never, failure or always.
        remember: Mark the demonstrations as trained on, for the schedule.
        status: How the engine says that the run ended; only a hint, what it came to is read from the store.
        ending_page: The report, or what stopped the run and what to do; self-contained.

    Returns:
        ending: succeeded, nothing to do, part done, failed, stopped or never planned.
        headline: The same in one sentence.
        report_uri: Where the page is kept.
    """
    from tendon import errors, logs, steps

    logs.setup("finish")
    with errors.reported("finish"):
        result = steps.finish(
            job_id=job_id,
            store_uri=store_uri,
            state=status.state,
            error=status.error_message or "",
            notify_when=notify_when,
            remember=remember,
            artifact_uri=ending_page.uri,
        )
    failed = result.ending in ("failed", "stopped", "never planned")
    ending_page.metadata["display_name"] = "failure page" if failed else "how it ended"
    with open(ending_page.path, "w", encoding="utf-8") as file:
        file.write(result.html)
    return (result.ending, result.headline, result.report_uri)
