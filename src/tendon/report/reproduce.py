"""The command that repeats each step of a run: in the report, in record.json and at the top of each pod log."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from tendon.config.schema import num_updates
from tendon.runs.plan import RunPlan
from tendon.storage import join
from tendon.trust import as_options

RUN_FILES = ("convert", "train", "evaluate", "confirm", "robustness")  # steps that run what --trust lets run


def commands(run: RunPlan) -> dict[str, str]:
    """``step`` or ``step/trial`` to the command line that does it again."""
    source = ["--source-uri", run.source_uri, "--store-uri", run.store_uri, "--dataset-name", run.dataset_name]
    lines = {
        "convert": ["convert", *source, *_options(run.conversion)],
        "stats": ["stats", "--dataset-uri", run.dataset_uri],
    }
    for trial in run.trials:
        trial_uri = run.trial_uri(trial.name)
        bundle_uri = join(trial_uri, "bundle")
        final = join(trial_uri, "checkpoints", f"{num_updates(trial.config['training']):06d}")
        lines[f"train/{trial.name}"] = ["train", "--run-uri", run.run_uri, "--trial", trial.name]
        lines[f"export/{trial.name}"] = ["export", "--checkpoint-uri", final, "--bundle-uri", bundle_uri]
        lines[f"evaluate/{trial.name}"] = ["evaluate", "--bundle-uri", bundle_uri, f"eval.n_episodes={run.episodes}"]
    for step in ("select", "confirm", "robustness", "report", "promote"):
        lines[step] = [step, "--run-uri", run.run_uri]
    for step, words in lines.items():
        if step.partition("/")[0] in RUN_FILES:
            words += as_options()
    return {step: shlex.join(["tendon", *words]) for step, words in lines.items()}


def _options(conversion: Mapping[str, Any]) -> list[str]:
    """Options of a conversion as words of the command line."""
    words = []
    for name, value in conversion.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *([] if value is True else map(str, values))]
    return words
