"""The parameters of the pipeline, each once: name, type, default, and the help that the UI's form shows.

Every default runs anywhere: the reach task needs no simulator, no bucket and no GPU.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """One field of the form."""

    name: str
    type: type
    default: Any
    help: str


PARAMETERS = (
    Parameter(
        "source_uri",
        str,
        "demo://reach?episodes=40&seed=1",
        "The demonstrations: a file or prefix (path or s3://...), or demo://ENV?episodes=N&seed=S, which lets the "
        "environment's scripted expert make them.",
    ),
    Parameter(
        "store_uri",
        str,
        "",
        "Where everything is kept: a path or s3://bucket/prefix. Empty: a folder tendon beside the pipeline root.",
    ),
    Parameter("dataset_name", str, "demos", "Name of the converted dataset inside the store."),
    Parameter(
        "config",
        str,
        "experiment=reach_bc",
        "Hydra overrides separated by spaces, as on the command line: experiment=lift_bc training.offline_steps=5000.",
    ),
    Parameter(
        "sweep",
        list,
        [],
        "What to vary, as JSON: a list of {key, name, group, values, value_names}; keys of one group move together, "
        "groups multiply. Empty: one trial. At most 150 trials.",
    ),
    Parameter("episodes", int, 50, "Rollouts per trial on the selection seeds."),
    Parameter(
        "confirm_episodes", int, 50, "Rollouts of the winner, and of the champion, on seeds that selected nothing."
    ),
    Parameter("champion", str, "default", "Name of the champion to compare with, and to replace when promote is on."),
    Parameter("promote", bool, False, "Let the winner become the champion when the gate agrees."),
)


def with_parameters(function: Callable[..., None]) -> Callable[..., None]:
    """Give a pipeline function the defaults and descriptions of the table; it must take the same parameters."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    if names != tuple(parameter.name for parameter in PARAMETERS):
        raise TypeError(
            f"{function.__name__} takes {names}, the table has {[parameter.name for parameter in PARAMETERS]}"
        )
    for parameter in PARAMETERS:
        if function.__annotations__[parameter.name] is not parameter.type:
            raise TypeError(
                f"{parameter.name} is {function.__annotations__[parameter.name]}, the table has {parameter.type}"
            )
    function.__defaults__ = tuple(parameter.default for parameter in PARAMETERS)
    described = "\n".join(f"    {parameter.name}: {parameter.help}" for parameter in PARAMETERS)
    function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nArgs:\n{described}\n"
    return function
