"""The component of the step ``promote``; the work is in tendon.steps.promote."""

from typing import NamedTuple

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES["data"], install_kfp_package=False)
def promote(run_uri: str) -> NamedTuple("Outputs", [("promoted", bool), ("reason", str)]):
    """Move the champion pointer if that was asked for and the gate agrees.

    Args:
        run_uri: The run that plan made.

    Returns:
        promoted: Whether the pointer moved.
        reason: Why, in plain words.
    """
    from tendon import errors, logs, steps

    logs.setup("promote")
    with errors.reported("promote"):
        result = steps.promote(run_uri=run_uri)
    return (result.promoted, result.reason)
