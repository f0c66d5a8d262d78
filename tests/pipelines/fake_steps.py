"""Stands in for tendon.steps where a test is about the DAG: same names and shapes, no work.

Copied over steps.py of a copied package by ``fake`` in conftest.py. What it has to do is in the ``config`` parameter:
``fail=STEP:CODE``, ``dead=TRIAL``, ``sleep=STEP:SECONDS`` (interruptible: exits 75 on SIGTERM, like training).
"""

import json
import logging
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

from tendon import errors

log = logging.getLogger(__name__)
KINDS = {
    kind.exit_code: kind
    for kind in (
        errors.ConfigError,
        errors.DataError,
        errors.StorageError,
        errors.MissingDependency,
        errors.GateRefused,
    )
}


def _step(run_uri, step, **what):
    folder = Path(run_uri)
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / "plan.json"
    config = json.loads(plan.read_text())["config"] if plan.exists() else what.get("config", "")
    with (folder / "calls.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "pid": os.getpid(), **what}) + "\n")
    log.warning("%s: working", step)
    for word in config.split():
        key, _, value = word.partition("=")
        name, _, number = value.partition(":")
        if key == "sleep" and name == step:
            _sleep(float(number))
        if key == "fail" and name == step:
            raise KINDS[int(number)](
                f"{step} does not like this", where="here", why="it was told so", fix="tell it otherwise"
            )
    return config


def _sleep(seconds):
    def leave(number, frame):
        raise errors.Interrupted(
            "training was interrupted", where="step 7", why="SIGTERM", fix="run the same command again"
        )

    signal.signal(signal.SIGTERM, leave)
    time.sleep(seconds)


def plan(*, store_uri, config, sweep, **given):
    run_uri = f"{store_uri}/runs/r1"
    names = [f"t{number}" for number in range(sweep[0]["values"] if sweep else 1)]
    _step(run_uri, "plan", config=config, sweep=sweep, **given)
    Path(run_uri, "plan.json").write_text(json.dumps({"config": config}))
    trials = [{"name": name, "overrides": ""} for name in names]
    return SimpleNamespace(
        run_uri=run_uri,
        store_uri=store_uri,
        source_digest="d1",
        dataset_uri=f"{store_uri}/dataset",
        conversion={"skip_episodes": ["demo_3"], "resize": [84, 84]},
        shares=[f"{number}/{given['convert_workers']}" for number in range(given["convert_workers"])],
        trials=trials,
    )


def convert(*, store_uri, **given):
    _step(f"{store_uri}/runs/r1", "convert", **given)
    Path(store_uri, "dataset").mkdir(exist_ok=True)
    return SimpleNamespace(
        dataset_uri=f"{store_uri}/dataset", digest="d2", num_episodes=3, num_frames=30, manifest={"shards": []}
    )


def stats(*, dataset_uri):
    Path(dataset_uri, "stats.json").write_text("{}")
    return SimpleNamespace(stats_uri=f"{dataset_uri}/stats.json", stats={"action": [0.0]})


def train_trial(*, run_uri, trial, dataset_uri):
    config = _step(run_uri, "train", trial=trial)
    outcome = dict(
        trial=trial,
        run_key=f"k-{trial}",
        status="ok",
        failed_step="",
        error="",
        checkpoint_uri="c",
        bundle_uri="",
        evaluation_uri="",
    )
    if f"dead={trial}" in config.split():
        outcome |= {
            "status": "failed",
            "failed_step": "train",
            "error": "error: the loss is not a number\nwhere: step 3",
            "checkpoint_uri": "",
        }
    return json.dumps(outcome | {"metrics": {"loss": float("nan")}})


def _next(run_uri, step, outcome, **more):
    fields = json.loads(outcome)
    _step(run_uri, step, trial=fields["trial"])
    return json.dumps(fields | more if fields["status"] == "ok" else fields)


def export_trial(*, run_uri, outcome):
    return _next(run_uri, "export", outcome, bundle_uri="b")


def evaluate_trial(*, run_uri, outcome):
    return _next(
        run_uri, "evaluate", outcome, evaluation_uri="e", metrics={"success_rate": 0.5, "n": 50.0, "loss": float("nan")}
    )


def select(*, run_uri, outcomes):
    _step(run_uri, "select", outcomes=outcomes)
    alive = [fields["trial"] for fields in map(json.loads, outcomes) if fields["status"] == "ok"]
    return SimpleNamespace(
        winner=alive[0], leaderboard=[{"trial": name} for name in alive], metrics={"success_rate": 0.5}
    )


def confirm(*, run_uri):
    _step(run_uri, "confirm")
    return SimpleNamespace(metrics={"success_rate": 0.5}, verdict="cannot tell")


def report(*, run_uri):
    _step(run_uri, "report")
    Path(run_uri, "report.html").write_text("<html></html>")
    return SimpleNamespace(
        html="<html></html>", report_uri=f"{run_uri}/report.html", record_uri=f"{run_uri}/record.json"
    )


def promote(*, run_uri):
    _step(run_uri, "promote")
    return SimpleNamespace(promoted=False, reason="it was not asked for")


def check_new(*, store_uri, force=False, **given):
    _step(f"{store_uri}/runs/r1", "check")
    needed = force or not Path(store_uri, "trained").exists()
    return SimpleNamespace(needed=needed, reason="because", source_digest="d1")


def finish(*, store_uri, remember=False, **given):
    _step(f"{store_uri}/runs/r1", "finish", remember=remember, **given)
    if remember and given["state"] == "SUCCEEDED":
        Path(store_uri, "trained").write_text("yes")
    return SimpleNamespace(html="<html></html>", headline="it ended", report_uri="", notified=False)


def measure(*, bundle_uri, champion_uri, store_uri, **given):
    folder = Path(store_uri)
    _step(f"{folder}/runs/r1", "measure", bundle_uri=bundle_uri, champion_uri=champion_uri, **given)
    return SimpleNamespace(metrics={"success_rate": 0.5, "loss": float("nan")}, verdict="better", html="<html></html>")
