"""The parameters of the pipelines, each once: name, group, type, default, and the help that the UI's form shows.

Every default runs anywhere: the reach task needs no simulator, no bucket and no GPU. The form sorts fields by name, so
what belongs together begins alike (gpu_, image_, node_, trainjob_), and each help text begins with its group.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from components.images import IMAGES


@dataclass(frozen=True)
class Parameter:
    """One field of the form."""

    name: str
    group: str
    type: type
    default: Any
    text: str

    @property
    def help(self) -> str:
        """What the form shows below the field."""
        return f"[{self.group}] {self.text}"


TABLE = (
    Parameter(
        "source_uri",
        "data",
        str,
        "demo://reach?episodes=40&seed=1",
        "The demonstrations: a file or prefix (path or s3://...), or demo://ENV?episodes=N&seed=S, which lets the "
        "environment's scripted expert make them.",
    ),
    Parameter(
        "store_uri",
        "data",
        str,
        "",
        "Where everything is kept: a path or s3://bucket/prefix. Empty: a folder tendon beside the pipeline root.",
    ),
    Parameter("dataset_name", "data", str, "demos", "Name of the converted dataset inside the store."),
    Parameter(
        "convert_workers",
        "data",
        int,
        1,
        "Pods that share the conversion; the dataset is the same for any number. A demo:// source takes one.",
    ),
    Parameter(
        "config",
        "training",
        str,
        "experiment=reach_bc",
        "Hydra overrides separated by spaces, as on the command line: experiment=lift_bc training.offline_steps=5000.",
    ),
    Parameter(
        "sweep",
        "training",
        list,
        [],
        "What to vary, as JSON: a list of {key, name, group, values, value_names}; keys of one group move together, "
        "groups multiply. Empty: one trial. At most 150 trials.",
    ),
    Parameter("episodes", "evaluation", int, 50, "Rollouts per trial on the selection seeds."),
    Parameter(
        "confirm_episodes",
        "evaluation",
        int,
        50,
        "Rollouts of the winner, and of the champion, on seeds that selected nothing.",
    ),
    Parameter(
        "champion",
        "promotion",
        str,
        "default",
        "Name of the champion to compare with, and to replace when promote is on.",
    ),
    Parameter("promote", "promotion", bool, False, "Let the winner become the champion when the gate agrees."),
    Parameter(
        "force", "schedule", bool, False, "Train even when the demonstrations are those that were trained on last time."
    ),
    Parameter("bundle_uri", "evaluation", str, "", "The policy bundle to roll out: .../trials/KEY/bundle."),
    Parameter(
        "against_uri", "evaluation", str, "", "Another bundle to compare with on the same seeds. Empty: no comparison."
    ),
    Parameter(
        "changes",
        "evaluation",
        str,
        "",
        "Hydra overrides of the bundle's own configuration: env.episode_length=200. Empty: none.",
    ),
    Parameter(
        "gpu_count",
        "cluster",
        str,
        "0",
        "GPUs of each training pod, as text: 0 trains on the CPU. The image must be a CUDA one; more than 1 wants "
        "training.num_gpus=N in config.",
    ),
    Parameter("gpu_type", "cluster", str, "nvidia.com/gpu", "Resource name of the GPUs on the nodes."),
    Parameter(
        "image_data",
        "cluster",
        str,
        IMAGES["data"],
        "Image of plan, convert, stats, select, report, promote; the sim image for a demo:// source "
        "that needs a simulator.",
    ),
    Parameter("image_train", "cluster", str, IMAGES["train"], "Image of train and export."),
    Parameter("image_sim", "cluster", str, IMAGES["sim"], "Image of evaluate and confirm."),
    Parameter(
        "node_selector",
        "cluster",
        dict,
        {},
        'Labels of the nodes that train and evaluate, as JSON: {"pool": "gpu"}. Empty: any node.',
    ),
    Parameter(
        "node_tolerations",
        "cluster",
        list,
        [],
        'Taints they may run on, as JSON: [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}].',
    ),
    Parameter(
        "trainjob_nodes",
        "cluster",
        int,
        1,
        "More than 1: each trial trains as a Kubeflow TrainJob on so many nodes, and its pod only waits (gpu_count 0).",
    ),
    Parameter(
        "trainjob_gpus",
        "cluster",
        str,
        "1",
        "GPUs of each node of a TrainJob, as text; training.num_gpus in config says the same.",
    ),
    Parameter("trainjob_queue", "cluster", str, "", "Kueue queue of a TrainJob. Empty: it does not queue."),
    Parameter(
        "notify_when",
        "notice",
        str,
        "failure",
        "never, failure or always: when to post to the webhook in the secret tendon-notify. Without one: never.",
    ),
)
BY_NAME = {parameter.name: parameter for parameter in TABLE}

_DATA = ("source_uri", "store_uri", "dataset_name", "convert_workers")
_TRAINING = ("config", "sweep", "episodes", "confirm_episodes", "champion")
_PLACE = ("gpu_count", "gpu_type", "image_data", "image_train", "image_sim", "node_selector", "node_tolerations")
_TRAINJOB = ("trainjob_nodes", "trainjob_gpus", "trainjob_queue")
PIPELINES: dict[str, tuple[str, ...]] = {
    "policy_pipeline": (*_DATA, *_TRAINING, "promote", *_PLACE, *_TRAINJOB, "notify_when"),
    "retrain_pipeline": (*_DATA, *_TRAINING, "force", *_PLACE, *_TRAINJOB, "notify_when"),
    "evaluate_pipeline": (
        *("bundle_uri", "against_uri", "store_uri", "changes", "confirm_episodes"),
        *("image_data", "image_sim", "node_selector", "node_tolerations", "notify_when"),
    ),
}
PARAMETERS = tuple(BY_NAME[name] for name in PIPELINES["policy_pipeline"])


def parameters_of(pipeline: str) -> tuple[Parameter, ...]:
    """The form of a pipeline, by the name of its function."""
    return tuple(BY_NAME[name] for name in PIPELINES[pipeline])


def with_parameters(function: Callable[..., None]) -> Callable[..., None]:
    """Give a pipeline function the defaults and descriptions of the table; it must take the same parameters."""
    wanted: Sequence[Parameter] = parameters_of(function.__name__)
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    if names != tuple(parameter.name for parameter in wanted):
        raise TypeError(f"{function.__name__} takes {names}, the table has {[p.name for p in wanted]}")
    for parameter in wanted:
        if function.__annotations__[parameter.name] is not parameter.type:
            raise TypeError(
                f"{parameter.name} is {function.__annotations__[parameter.name]}, the table has {parameter.type}"
            )
    function.__defaults__ = tuple(parameter.default for parameter in wanted)
    described = "\n".join(f"    {parameter.name}: {parameter.help}" for parameter in wanted)
    function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nArgs:\n{described}\n"
    return function
