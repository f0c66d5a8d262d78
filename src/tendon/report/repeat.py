"""The command that repeats each step of a run: in the report, in record.json and at the top of each pod log."""

from __future__ import annotations

import shlex

from tendon.registry.plan import RunPlan
from tendon.storage import join


def commands(run: RunPlan) -> dict[str, str]:
    """``step`` or ``step/trial`` to the command line that does it again."""
    skip = ["--skip-episodes", *run.skip_episodes] if run.skip_episodes else []
    source = ["--source-uri", run.source_uri, "--store-uri", run.store_uri, "--dataset-name", run.dataset_name]
    lines = {"convert": ["convert", *source, *skip], "stats": ["stats", "--dataset-uri", run.dataset_uri]}
    for trial in run.trials:
        trial_uri = run.trial_uri(trial.name)
        bundle_uri = join(trial_uri, "bundle")
        final = join(trial_uri, "checkpoints", f"{trial.config['training']['offline_steps']:06d}")
        lines[f"train/{trial.name}"] = ["train", "--run-uri", run.run_uri, "--trial", trial.name]
        lines[f"export/{trial.name}"] = ["export", "--checkpoint-uri", final, "--bundle-uri", bundle_uri]
        lines[f"evaluate/{trial.name}"] = ["evaluate", "--bundle-uri", bundle_uri, f"eval.n_episodes={run.episodes}"]
    for step in ("select", "confirm", "report", "promote"):
        lines[step] = [step, "--run-uri", run.run_uri]
    return {step: shlex.join(["tendon", *words]) for step, words in lines.items()}
