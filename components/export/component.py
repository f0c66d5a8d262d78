"""The component of the step ``export``; the work is in tendon.steps.export_trial."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["train"], install_kfp_package=False)
def export(run_uri: str, outcome: str, bundle: dsl.Output[dsl.Model]) -> str:
    """Turn a trial's checkpoint into a policy bundle whose actions are proven equal.

    Args:
        run_uri: The run that plan made.
        outcome: The trial's outcome so far.
        bundle: Where the bundle is.

    Returns:
        The trial's outcome as JSON.
    """
    import json

    from tendon import errors, logs, steps

    logs.setup("export")
    with errors.reported("export"):
        outcome = steps.export_trial(run_uri=run_uri, outcome=outcome)
    fields = json.loads(outcome)
    bundle.metadata |= {name: fields[name] for name in ("trial", "run_key", "status", "bundle_uri")}
    with open(bundle.path, "w", encoding="utf-8") as file:
        file.write(outcome)
    return outcome
