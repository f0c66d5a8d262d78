"""The component of the step ``train_rung``; the work is in tendon.steps.train_trials."""

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["train"], install_kfp_package=False)
def train_rung(run_uri: str, trials: str, dataset_uri: str, rung: int, trust: str) -> str:
    """Train a group of trials to a rung of successive halving, where they pause; they go on later bit for bit.

    Args:
        run_uri: The run that plan made.
        trials: Names of the trials, a JSON list.
        dataset_uri: The converted dataset, with statistics.
        rung: 1, 2 or 3; 14, 42 and 61 % of the steps.
        trust: Sha256s of Python files that may run, separated by commas; empty means none.

    Returns:
        The outcomes of the trials, a JSON list.
    """
    import json

    from tendon import errors, logs, steps

    logs.setup("train_rung")
    with errors.reported("train_rung"):
        steps.allow(trust)
        ended = steps.train_trials(run_uri=run_uri, trials=json.loads(trials), dataset_uri=dataset_uri, rung=rung)
    return json.dumps([json.loads(outcome) for outcome in ended])
