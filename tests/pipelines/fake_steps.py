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


def allow(trust):
    assert isinstance(trust, str)


def plan(
    *, store_uri, config, sweep, promote, convert_workers=1, evaluate_workers=1, trials_per_pod=1, only_new=False,
    force=False, **given
):  # fmt: skip
    run_uri = f"{store_uri}/runs/r1"
    names = [f"t{number}" for number in range(sweep[0]["values"] if sweep else 1)]
    _step(run_uri, "plan", config=config, sweep=sweep, promote=promote, only_new=only_new, **given)
    Path(run_uri, "plan.json").write_text(json.dumps({"config": config}))
    is_old = only_new and Path(store_uri, "trained").exists()
    work = force or not (is_old or "finished" in config.split())
    groups = [names[at : at + trials_per_pod] for at in range(0, len(names), trials_per_pod)] if work else []
    numbers = range(evaluate_workers if evaluate_workers > 1 else 0)
    return SimpleNamespace(
        run_uri=run_uri,
        evaluation_shares=[(group, f"{number}/{evaluate_workers}") for group in groups for number in numbers],
        store_uri=store_uri,
        source_digest="d1",
        dataset_uri=f"{store_uri}/dataset",
        conversion={"skip_episodes": ["demo_3"], "resize": [84, 84]},
        shares=[f"{number}/{convert_workers}" for number in range(convert_workers)],
        groups=groups,
        work=work,
        reason="because",
        resources={f"{what}_{kind}": "1" for what in ("cpu", "memory") for kind in ("data", "train", "sim", "node")},
        trials=[{"name": name, "overrides": ""} for name in names],
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


def _save(run_uri, fields):
    """As every step of a trial does: its outcome is in the store."""
    folder = Path(run_uri, "outcomes")
    folder.mkdir(exist_ok=True)
    (folder / f"{fields['trial']}.json").write_text(json.dumps(fields))
    return json.dumps(fields)


def train_trials(*, run_uri, trials, dataset_uri):
    return [_train(run_uri, trial) for trial in trials]


def _train(run_uri, trial):
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
            "error": f"error: the loss is not a number\nwhere: step 3 of {trial}\nwhy:   it grew\nfix:   a lower lr",
            "checkpoint_uri": "",
        }
    return _save(run_uri, outcome | {"metrics": {"loss": float("nan")}})


def _next(run_uri, step, outcome, **more):
    fields = json.loads(outcome)
    _step(run_uri, step, trial=fields["trial"])
    return _save(run_uri, fields | more if fields["status"] == "ok" else fields)


def export_trials(*, run_uri, outcomes):
    return [_next(run_uri, "export", outcome, bundle_uri="b") for outcome in outcomes]


def evaluate_trials(*, run_uri, outcomes):
    metrics = {"success_rate": 0.5, "episodes": 50.0, "loss": float("nan")}
    return [_next(run_uri, "evaluate", outcome, evaluation_uri="e", metrics=metrics) for outcome in outcomes]


def evaluate_share(*, run_uri, trials, share):
    _step(run_uri, "evaluate_share", trials=trials, share=share)
    return [Path(run_uri, "outcomes", f"{name}.json").read_text() for name in trials]


def select(*, run_uri):
    outcomes = [path.read_text() for path in sorted(Path(run_uri, "outcomes").glob("*.json"))]
    _step(run_uri, "select", outcomes=outcomes)
    alive = [fields["trial"] for fields in map(json.loads, outcomes) if fields["status"] == "ok"]
    if not alive:
        raise errors.DataError("no trial finished", where=run_uri, why="there is no winner", fix="read the report")
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


def conclude(*, run_uri, job_id):
    _step(run_uri, "conclude", job_id=job_id)
    winner = select(run_uri=run_uri).winner
    confirmed, page, promoted = confirm(run_uri=run_uri), report(run_uri=run_uri), promote(run_uri=run_uri)
    Path(run_uri, "concluded").write_text(job_id)
    return SimpleNamespace(
        metrics=confirmed.metrics, verdict=confirmed.verdict, html=page.html, winner=winner, promoted=promoted.promoted
    )


def finish(*, store_uri, remember=False, **given):
    run_uri = f"{store_uri}/runs/r1"
    _step(run_uri, "finish", remember=remember, **given)
    concluded = Path(run_uri, "concluded")
    succeeded = concluded.exists() and concluded.read_text() == given["job_id"]
    if remember and succeeded:
        Path(store_uri, "trained").write_text("yes")
    ending = "succeeded" if succeeded else "nothing to do" if "FAILED" not in given["state"] else "failed"
    return SimpleNamespace(
        html="<html></html>",
        headline="it ended",
        report_uri=f"{run_uri}/report.html",
        notified=False,
        ending=ending,
    )


def evaluate_bundle(*, bundle_uri, baseline_uri, store_uri, **given):
    folder = Path(store_uri)
    _step(f"{folder}/runs/r1", "evaluate_bundle", bundle_uri=bundle_uri, baseline_uri=baseline_uri, **given)
    return SimpleNamespace(metrics={"success_rate": 0.5, "loss": float("nan")}, verdict="better", html="<html></html>")
