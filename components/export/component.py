"""The component of the step ``export``; the work is in tendon.steps.export_trials."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["train"], install_kfp_package=False)
def export(run_uri: str, outcomes: str, bundle: dsl.Output[dsl.Model]) -> str:
    """Turn the checkpoint of each trial of a group into a policy bundle whose actions are proven equal.

    Args:
        run_uri: The run that plan made.
        outcomes: The outcomes of the trials so far, a JSON list.
        bundle: Where the bundles are.

    Returns:
        The outcomes of the trials, a JSON list.
    """
    import json

    from tendon import errors, logs, steps

    logs.setup("export")
    with errors.reported("export"):
        ended = steps.export_trials(run_uri=run_uri, outcomes=[json.dumps(one) for one in json.loads(outcomes)])
    after = [json.loads(outcome) for outcome in ended]
    for name in ("trial", "run_key", "status", "bundle_uri"):
        bundle.metadata[name] = ", ".join(str(outcome[name]) for outcome in after)
    bundle.metadata["display_name"] = f"bundle {bundle.metadata['trial']}"
    text = json.dumps(after)
    with open(bundle.path, "w", encoding="utf-8") as file:
        file.write(text)
    return text
