"""Whether arguments can work, as far as it can be known before anything is sent: the configuration is composed as plan does it.

Every function takes the values of the whole form, by name, and gives problems; a name that a form lacks is not checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tendon.errors import ConfigError, Problem, TendonError
from tendon.runs.budget import RunBudget
from tendon.runs.gate_rule import GateRule
from tendon.runs.webhook import CHOICES as NOTICES

LEAST = {
    "evaluate_episodes": 1,
    "evaluate_confirm_episodes": 1,
    "data_convert_workers": 1,
    "evaluate_rung_episodes": 1,
    "evaluate_workers": 1,
    "policy_trials_per_pod": 1,
    "policy_trial_retries": 0,
    "cluster_trainjob_nodes": 1,
}
MOST = {"data_convert_workers": 64, "evaluate_workers": 64, "policy_trials_per_pod": 150, "policy_trial_retries": 20}
COUNTS = ("cluster_gpu_count", "cluster_trainjob_gpus")  # whole numbers as text
NAMES = ("data_name", "gate_champion")  # they become folders
CHOICES = {"cluster_notify_when": NOTICES}
GATE = ("floor", "margin", "alpha", "test")
BUDGET = ("gpu_hours", "gpu_hour_price", "cpu_hour_price")
QUANTITY = {
    "cpu": (re.compile(r"\d+(\.\d+)?|\d+m"), "500m or 2"),
    "memory": (re.compile(r"\d+(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)"), "1Gi or 512Mi"),
}
LABEL = re.compile(r"([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
TOLERATION = ("key", "operator", "value", "effect", "tolerationSeconds")
OPERATORS, EFFECTS = ("Exists", "Equal"), ("", "NoSchedule", "PreferNoSchedule", "NoExecute")


def problems_of(values: Mapping[str, Any]) -> list[Problem]:
    """Everything that is wrong with the values of a form."""
    found: list[Problem] = []
    for check in (_numbers, _texts, _resources, _nodes, _required):
        found += check(values)
    return found + _configuration(values)


def _problem(what: str, why: str, fix: str) -> Problem:
    return Problem(what, "arguments", why, fix)


def _numbers(values: Mapping[str, Any]) -> Iterator[Problem]:
    for name, least in LEAST.items():
        value, most = values.get(name), MOST.get(name)
        if value is not None and (value < least or (most and value > most)):
            allowed = f"{least} to {most}" if most else f"{least} or more"
            yield _problem(f"{name} is {value:g}", f"it is {allowed}", f"{name}={max(least, min(50, most or 50))}")
    rule = GateRule(**{name: values.get(f"gate_{name}", getattr(GateRule(), name)) for name in GATE})
    budget = RunBudget(**{name: values.get(f"budget_{name}", 0.0) for name in BUDGET})
    for problem in (*rule.problems(), *budget.problems()):
        yield replace(problem, where="arguments")
    for name in COUNTS:
        if name in values and not str(values[name]).isdigit():
            yield _problem(f"{name} is {values[name]!r}", "it is a whole number, as text", f"{name}=1")


def _texts(values: Mapping[str, Any]) -> Iterator[Problem]:
    for name, choices in CHOICES.items():
        if name in values and values[name] not in choices:
            yield _problem(f"{name} is {values[name]!r}", f"it is one of {', '.join(choices)}", f"{name}={choices[1]}")
    for name in NAMES:
        if name in values and not re.fullmatch(r"[A-Za-z0-9_-]+", values[name]):
            fix = "use letters, digits, - and _"
            yield _problem(f"{name} is {values[name]!r}", "it becomes a folder name", fix)
    for name, value in values.items():
        uri_or_image = name.endswith("_uri") or name.startswith("cluster_image_")
        if uri_or_image and re.search(r"\s", value):
            yield _problem(f"{name} is {value!r}", "there is a space in it", "quote the whole word and take it out")
        if name.startswith("cluster_image_") and not value:
            yield _problem(
                f"{name} is empty", "each kind of step has an image", f"leave {name} out: there is a default"
            )


def _resources(values: Mapping[str, Any]) -> Iterator[Problem]:
    for name, value in values.items():
        kind = name.split("_")[1] if name.startswith(("cluster_cpu_", "cluster_memory_")) else ""
        if kind:
            pattern, example = QUANTITY[kind]
            if not value and "policy_config" not in values:
                why = "this pipeline plans nothing, so nobody sizes it"
                yield _problem(f"{name} is empty", why, f"{name}={example.split()[0]}")
            elif value and not pattern.fullmatch(value):
                why = f"{kind} is a quantity of Kubernetes: {example}; empty lets plan size it"
                yield _problem(f"{name} is {value!r}", why, f"{name}={example.split()[0]}")


def _nodes(values: Mapping[str, Any]) -> Iterator[Problem]:
    for key, value in (values.get("cluster_node_selector") or {}).items():
        if not LABEL.fullmatch(key) or not isinstance(value, str) or (value and not LABEL.fullmatch(value)):
            why = "labels of nodes are text: a name and a value"
            yield _problem(f"cluster_node_selector has {key}: {value!r}", why, '{"pool": "gpu"}; numbers in quotes')
    for number, toleration in enumerate(values.get("cluster_node_tolerations") or ()):
        if why := _wrong_toleration(toleration):
            fix = '[{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}]'
            yield _problem(f"cluster_node_tolerations[{number}] is no toleration", why, fix)


def _wrong_toleration(toleration: Any) -> str:
    if not isinstance(toleration, dict):
        return "it is a JSON object"
    if unknown := sorted(set(toleration) - set(TOLERATION)):
        return f"it has {', '.join(unknown)}; there are {', '.join(TOLERATION)}"
    if (operator := toleration.get("operator", "Equal")) not in OPERATORS:
        return f"operator is {operator!r}; it is {' or '.join(OPERATORS)}"
    if (effect := toleration.get("effect", "")) not in EFFECTS:
        return f"effect is {effect!r}; it is one of {', '.join(EFFECTS[1:])}"
    if operator == "Exists" and toleration.get("value"):
        return "operator Exists takes no value"
    if operator == "Equal" and not toleration.get("key"):
        return "operator Equal needs a key"
    return ""


def _required(values: Mapping[str, Any]) -> Iterator[Problem]:
    if "evaluate_bundle_uri" in values and not values["evaluate_bundle_uri"]:
        fix = "evaluate_bundle_uri=s3://bucket/store/trials/KEY/bundle"
        yield _problem("evaluate_bundle_uri is empty", "there is no policy to roll out", fix)
    if values.get("cluster_trainjob_nodes", 1) > 1 and str(values.get("cluster_gpu_count", "0")) not in ("", "0"):
        why = "the GPUs belong to the nodes of the TrainJob; the pod that waits for it would hold some for nothing"
        yield _problem("cluster_gpu_count is set beside cluster_trainjob_nodes", why, "cluster_gpu_count=0")


def _configuration(values: Mapping[str, Any]) -> list[Problem]:
    """The configuration and each trial of the sweep, composed."""
    from tendon.config.compose import compose
    from tendon.config.override_text import split_overrides
    from tendon.config.overrides import parse_overrides
    from tendon.config.sweep import expand, parse_sweep

    problems: list[Problem] = []
    if "evaluate_overrides" in values:
        problems += parse_overrides(split_overrides(values["evaluate_overrides"]))[1]
    if "policy_config" not in values:
        return problems
    fixed = [*split_overrides(values["policy_config"]), "data.uri=pending"]
    _collect(problems, "policy_config", lambda: compose(fixed))
    sound = not problems
    trials = _collect(problems, "policy_sweep", lambda: _trials(values, parse_sweep, expand)) or ()
    for trial in trials if sound else ():  # a broken configuration would be told again for each
        where = f"policy_sweep, trial {trial.name}"
        _collect(problems, where, lambda trial=trial: compose([*fixed, *trial.overrides]))  # type: ignore[misc]
    return problems


def _trials(values: Mapping[str, Any], parse_sweep: Callable[[Any], Any], expand: Callable[..., Any]) -> Any:
    from tendon.runs.planner import SHARED

    parameters = parse_sweep(list(values.get("policy_sweep") or ()))
    if shared := [parameter.key for parameter in parameters if parameter.key.startswith(SHARED)]:
        why = "trials of one run share the data, the task and the seeds, or their scores could not be compared"
        fix = "start one run per value"
        raise ConfigError.of([Problem(f"{key} cannot be swept", "sweep", why, fix) for key in shared])
    return expand(parameters, "" if parameters else "base")


def _collect(problems: list[Problem], where: str, work: Callable[[], Any]) -> Any:
    """The result; or nothing, and its problems are added unless they are known."""
    known = {problem.what for problem in problems}
    try:
        return work()
    except TendonError as error:
        fresh = [problem for problem in error.problems if problem.what not in known]
        problems += [replace(problem, where=f"{where}: {problem.where}") for problem in fresh]
        return None
