"""The component of the step ``finish``; the work is in tendon.steps.finish. The exit task: it runs after a failure too."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], install_kfp_package=False)
def finish(
    job_id: str,
    store_uri: str,
    notify_when: str,
    remember: bool,
    status: dsl.PipelineTaskFinalStatus,
    page: dsl.Output[dsl.HTML],
):
    """Write the report of a run however it ended, and tell a webhook.

    Args:
        job_id: The engine's own name of this run.
        store_uri: The store; empty means a folder beside the pipeline root.
        notify_when: never, failure or always.
        remember: Mark the demonstrations as trained on, for the schedule.
        status: How the run ended; the engine gives it.
        page: The report, self-contained.
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
            artifact_uri=page.uri,
        )
    with open(page.path, "w", encoding="utf-8") as file:
        file.write(result.html)
