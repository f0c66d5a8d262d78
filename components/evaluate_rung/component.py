"""The component of the step ``evaluate_rung``; the work is in tendon.steps.evaluate_rung."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["sim"], install_kfp_package=False)
def evaluate_rung(run_uri: str, outcomes: str, rung: int, episodes: int, trust: str) -> str:
    """Roll the paused checkpoint of each trial of a group out on the first selection seeds.

    Args:
        run_uri: The run that plan made.
        outcomes: The outcomes of the trials so far, a JSON list.
        rung: 1, 2 or 3.
        episodes: Rollouts per trial.
        trust: Sha256s of Python files that may run, separated by commas; empty means none.

    Returns:
        In a word for each trial how it ended.
    """
    import json

    from tendon import errors, logs, steps

    logs.setup("evaluate_rung")
    with errors.reported("evaluate_rung"):
        steps.allow(trust)
        texts = [json.dumps(one) for one in json.loads(outcomes)]
        ended = steps.evaluate_rung(run_uri=run_uri, outcomes=texts, rung=rung, episodes=episodes)
    return " ".join(json.loads(outcome)["status"] for outcome in ended)
