"""The component of the step ``check``; the work is in tendon.steps.check_new."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], install_kfp_package=False)
def check(
    source_uri: str,
    store_uri: str,
    dataset_name: str,
    champion: str,
    force: bool,
    job_id: str,
    answer: dsl.Output[dsl.Artifact],
) -> str:
    """Say whether the demonstrations differ from those that were trained on last.

    Args:
        source_uri: Where the demonstrations are.
        store_uri: The store; empty means a folder beside the pipeline root.
        dataset_name: Name of the dataset; with the champion's it names the schedule.
        champion: Name of the champion.
        force: Train in any case.
        job_id: The engine's own name of this run; finish finds by it what went wrong.
        answer: The answer with its reason and the digest of the demonstrations, as JSON.

    Returns:
        yes or no, unnamed because kfp's local engine decides by no other output.
    """
    import json

    from tendon import errors, logs, steps

    logs.setup("check")
    with errors.reported("check"):
        result = steps.check_new(
            source_uri=source_uri,
            store_uri=store_uri,
            dataset_name=dataset_name,
            champion=champion,
            force=force,
            artifact_uri=answer.uri,
            job_id=job_id,
        )
    with open(answer.path, "w", encoding="utf-8") as file:
        json.dump({"needed": result.needed, "reason": result.reason, "source_digest": result.source_digest}, file)
    return "yes" if result.needed else "no"
