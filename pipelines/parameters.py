"""The parameters of the pipelines, each once: name, type, default, the help that the UI's form shows, and who has it.

Every default runs anywhere: the reach task needs no simulator, no bucket and no GPU. The form sorts fields by name and
shows no description, so a name begins with its group: data_, policy_, evaluate_, gate_, budget_, cluster_, trust. A new parameter is an
entry here; the pipeline functions get their signatures from this table.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from components.images import IMAGES
from pipelines.resources import PARALLEL_TRIALS, build_sentence

TRAINING = ("policy_pipeline", "retrain_pipeline", "sweep_pipeline")
EVERY = (*TRAINING, "evaluate_pipeline")


@dataclass(frozen=True)
class Parameter:
    """One field of the form."""

    name: str
    type: type
    default: Any
    text: str
    pipelines: tuple[str, ...] = TRAINING
    defaults: dict[str, Any] = field(default_factory=dict)  # of single pipelines, where they differ

    @property
    def group(self) -> str:
        """What it is about: the first word of its name."""
        return self.name.partition("_")[0]

    @property
    def help(self) -> str:
        """What the API and the generated pages say of the field."""
        return f"[{self.group}] {self.text}"


def _size(kind: str, quantity: str, steps: str, alone: str = "") -> Parameter:
    """CPU or memory of one kind of step; in the evaluate pipeline, which plans nothing, with a default of its own."""
    what = "CPUs, such as 500m or 4," if quantity == "cpu" else "Memory, such as 1Gi,"
    return Parameter(
        f"cluster_{quantity}_{kind}",
        str,
        "",
        f"{what} of each pod of {steps}. Empty: sized by plan from task, policy and data."
        + (" The evaluate pipeline plans nothing and needs a value." if alone else ""),
        pipelines=EVERY if alone else TRAINING,
        defaults={"evaluate_pipeline": alone} if alone else {},
    )


TABLE = (
    Parameter(
        "data_source_uri",
        str,
        "demo://reach?episodes=40&seed=1",
        "The demonstrations: a file or prefix (path or s3://...), or demo://ENV?episodes=N&seed=S, which lets the "
        "environment's scripted expert make them.",
    ),
    Parameter(
        "data_store_uri",
        str,
        "",
        "Where everything is kept: a path or s3://bucket/prefix. Empty: a folder tendon beside the pipeline root.",
        pipelines=EVERY,
    ),
    Parameter("data_name", str, "demos", "Name of the converted dataset inside the store."),
    Parameter(
        "data_convert_workers",
        int,
        1,
        "Pods that share the conversion; the dataset is the same for any number. A demo:// source takes one.",
    ),
    Parameter(
        "data_force",
        bool,
        False,
        "Train even when the demonstrations are those that were trained on last time.",
        pipelines=("retrain_pipeline",),
    ),
    Parameter(
        "policy_config",
        str,
        "experiment=reach_bc",
        "Hydra overrides separated by spaces, as on the command line: experiment=lift_bc training.offline_steps=5000.",
    ),
    Parameter(
        "policy_sweep",
        list,
        [],
        "What to vary, as JSON: a list of {key, name, group, values, value_names}; keys of one group move together, "
        "groups multiply; {budget: N} takes N of them by chance, {tpe: N, per_run: M} by the scores of earlier runs. Empty: "
        "one trial. More trials than one run can hold: start it again, or raise "
        "policy_trials_per_pod.",
    ),
    Parameter(
        "policy_trials_per_pod",
        int,
        1,
        "Trials of one pod. They train side by side as far as its CPUs, memory and GPU hold them, else one after the other. "
        "5 lets 150 trials fit into one run.",
    ),
    Parameter(
        "policy_trial_retries",
        int,
        2,
        "How often a trial whose training process was killed is started again, from its last checkpoint.",
    ),
    Parameter("evaluate_episodes", int, 50, "Rollouts per trial on the selection seeds."),
    Parameter(
        "evaluate_confirm_episodes",
        int,
        50,
        "Rollouts of the winner, and of the champion, on seeds that selected nothing.",
        pipelines=EVERY,
    ),
    Parameter(
        "evaluate_perturb",
        str,
        "",
        "standard, or names and commas: the winner is played under perturbations too, each beside a clean arm on the same seeds, as "
        "many as evaluate_episodes. Empty: not.",
    ),
    Parameter(
        "evaluate_rung_episodes",
        int,
        50,
        "Rollouts per trial after 14, 42 and 61 % of its steps; they decide which trials go on.",
        pipelines=("sweep_pipeline",),
    ),
    Parameter(
        "evaluate_workers",
        int,
        1,
        "Pods that share the selection rollouts of each group of trials; the table is the same for any number.",
    ),
    Parameter(
        "evaluate_bundle_uri",
        str,
        "",
        "The policy bundle to roll out: .../trials/KEY/bundle.",
        pipelines=("evaluate_pipeline",),
    ),
    Parameter(
        "evaluate_baseline_uri",
        str,
        "",
        "Another bundle to compare with on the same seeds. Empty: no comparison.",
        pipelines=("evaluate_pipeline",),
    ),
    Parameter(
        "evaluate_overrides",
        str,
        "",
        "Changes to the bundle's own configuration, as Hydra overrides: env.episode_length=200.",
        pipelines=("evaluate_pipeline",),
    ),
    Parameter(
        "gate_champion",
        str,
        "default",
        "Name of the champion to compare with, and to replace when gate_promote is on.",
    ),
    Parameter(
        "gate_promote",
        bool,
        False,
        "Let the winner become the champion when the gate agrees.",
        pipelines=("policy_pipeline", "sweep_pipeline"),
    ),
    Parameter(
        "gate_floor",
        float,
        0.5,
        "Without a champion: the winner becomes one when its 95% interval begins here or above.",
    ),
    Parameter(
        "gate_margin",
        float,
        0.0,
        "By how much of the success rate, such as 0.05, a challenger must be better than the champion.",
    ),
    Parameter(
        "gate_alpha",
        float,
        0.05,
        "The chance that any challenger that is not better ever replaces one champion, however many there are.",
    ),
    Parameter(
        "gate_test",
        str,
        "fixed",
        "fixed: one look after all evaluate_confirm_episodes. anytime: a look after every pair; it stops when it can "
        "tell, and at evaluate_confirm_episodes at the latest.",
    ),
    Parameter(
        "budget_gpu_hours",
        float,
        0.0,
        "After so many GPU hours of training, all trials together, they save and stop, and the run ends with a report of "
        "what there is; a larger number goes on. 0: no limit.",
    ),
    Parameter(
        "budget_gpu_hour_price", float, 0.0, "What a GPU hour costs, for the forecast, in any currency. 0: not told."
    ),
    Parameter("budget_cpu_hour_price", float, 0.0, "What a CPU hour costs, for the forecast. 0: not told."),
    _size("data", "cpu", "convert and stats"),
    _size("train", "cpu", "train and export, and of each node of a TrainJob"),
    _size("sim", "cpu", "evaluate and conclude", "1"),
    _size("data", "memory", "convert and stats"),
    _size("train", "memory", "train and export, and of each node of a TrainJob"),
    _size("sim", "memory", "evaluate and conclude", "2Gi"),
    Parameter(
        "cluster_gpu_count",
        str,
        "0",
        "GPUs of each training pod, as text: 0 trains on the CPU. The image must be a CUDA one; more than 1 wants "
        "training.num_gpus=N in policy_config.",
    ),
    Parameter("cluster_gpu_type", str, "nvidia.com/gpu", "Resource name of the GPUs on the nodes."),
    Parameter(
        "cluster_image_data",
        str,
        IMAGES["data"],
        "Image of plan, convert, stats and finish; the sim image for a demo:// source that needs a simulator.",
        pipelines=EVERY,
    ),
    Parameter(
        "cluster_image_train",
        str,
        IMAGES["train"],
        "Image of train and export; for a policy that plays while it learns (training.online_steps) one with the simulator.",
    ),
    Parameter("cluster_image_sim", str, IMAGES["sim"], "Image of evaluate and conclude.", pipelines=EVERY),
    Parameter(
        "cluster_node_selector",
        dict,
        {},
        'Labels of the nodes that train and evaluate, as JSON: {"pool": "gpu"}. Empty: any node.',
        pipelines=EVERY,
    ),
    Parameter(
        "cluster_node_tolerations",
        list,
        [],
        'Taints they may run on, as JSON: [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}].',
        pipelines=EVERY,
    ),
    Parameter(
        "cluster_trainjob_nodes",
        int,
        1,
        "More than 1: each trial trains as a Kubeflow TrainJob on so many nodes, and its pod only waits "
        "(cluster_gpu_count 0).",
    ),
    Parameter(
        "cluster_trainjob_gpus",
        str,
        "1",
        "GPUs of each node of a TrainJob, as text; training.num_gpus in policy_config says the same.",
    ),
    Parameter("cluster_trainjob_queue", str, "", "Kueue queue of a TrainJob. Empty: it does not queue."),
    Parameter(
        "trust",
        str,
        "",
        "Sha256s, separated by commas, of Python files that may run though nobody installed them: a simulator, callback "
        "or data configuration that is named by its path. Empty: none.",
        pipelines=EVERY,
    ),
    Parameter(
        "cluster_notify_when",
        str,
        "failure",
        "never, failure or always: when to post to the webhook in the secret tendon-notify. Without one: never.",
        pipelines=EVERY,
    ),
)
BY_NAME = {parameter.name: parameter for parameter in TABLE}
PIPELINES = {name: tuple(p.name for p in TABLE if name in p.pipelines) for name in EVERY}
PARAMETERS = tuple(BY_NAME[name] for name in PIPELINES["policy_pipeline"])

# What the parameters were called before their names began with a group; submit.py refuses an old one with the new.
OLD_NAMES = {
    "source_uri": "data_source_uri",
    "store_uri": "data_store_uri",
    "dataset_name": "data_name",
    "convert_workers": "data_convert_workers",
    "force": "data_force",
    "config": "policy_config",
    "sweep": "policy_sweep",
    "episodes": "evaluate_episodes",
    "confirm_episodes": "evaluate_confirm_episodes",
    "bundle_uri": "evaluate_bundle_uri",
    "against_uri": "evaluate_baseline_uri",
    "changes": "evaluate_overrides",
    "champion": "gate_champion",
    "promote": "gate_promote",
    **{
        name: f"cluster_{name}"
        for name in (
            *("gpu_count", "gpu_type", "image_data", "image_train", "image_sim", "node_selector", "node_tolerations"),
            *("trainjob_nodes", "trainjob_gpus", "trainjob_queue", "notify_when"),
        )
    },
}


def parameters_of(pipeline: str) -> tuple[Parameter, ...]:
    """The form of a pipeline, by the name of its function."""
    own = (BY_NAME[name] for name in PIPELINES[pipeline])
    return tuple(replace(p, default=p.defaults.get(pipeline, p.default)) for p in own)


def with_parameters(function: Callable[[SimpleNamespace], None]) -> Callable[..., None]:
    """A pipeline function with the signature that the table gives it; ``function`` gets the values as one form.

    Example:
        >>> @dsl.pipeline(name="policy-pipeline")
        ... @with_parameters
        ... def policy_pipeline(form): ...  # form.data_source_uri
    """
    fields = parameters_of(function.__name__)
    parameters = [
        inspect.Parameter(p.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=p.default, annotation=p.type)
        for p in fields
    ]

    def pipeline(*values: Any, **named: Any) -> None:
        bound = inspect.Signature(parameters).bind(*values, **named)
        function(SimpleNamespace(**bound.arguments))

    pipeline.__name__ = pipeline.__qualname__ = function.__name__
    pipeline.__module__ = function.__module__
    pipeline.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    pipeline.__annotations__ = {p.name: p.type for p in fields}
    described = "\n".join(f"    {p.name}: {p.help}" for p in fields)
    about = inspect.cleandoc(function.__doc__ or "")
    pipeline.__doc__ = f"{about}\n\n{build_sentence(PARALLEL_TRIALS)}\n\nArgs:\n{described}\n"
    return pipeline
