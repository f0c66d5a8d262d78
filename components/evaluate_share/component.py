"""The component of the step ``evaluate_share``; the work is in tendon.steps.evaluate_share."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["sim"], install_kfp_package=False)
def evaluate_share(run_uri: str, trials: str, share: str, trust: str) -> str:
    """Roll the bundle of each trial of a group out on a share of the selection seeds; conclude makes the tables of them.

    Args:
        run_uri: The run that plan made.
        trials: Names of the trials, a JSON list.
        share: K/N: this is machine K of N.
        trust: Sha256s of Python files that may run, separated by commas; empty means none.

    Returns:
        In a word for each trial how it ended.
    """
    import json

    from tendon import errors, logs, steps

    logs.setup("evaluate_share")
    with errors.reported("evaluate_share"):
        steps.allow(trust)
        ended = steps.evaluate_share(run_uri=run_uri, trials=json.loads(trials), share=share)
    return " ".join(json.loads(outcome)["status"] for outcome in ended)
