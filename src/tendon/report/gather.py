"""From the files of a run to the values of its report. Called by steps.report; reads the store, draws nothing.

However far the run got, what is there is gathered and what is not stays empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from tendon import __version__
from tendon.config.digest import digest, running_image
from tendon.curate.curation import find_curation
from tendon.data.check import Finding
from tendon.data.dataset import Dataset, open_dataset
from tendon.errors import DataError
from tendon.evaluate.confidence import LeaderboardRow
from tendon.evaluate.table import Evaluation, load_evaluation
from tendon.registry.card import load_card
from tendon.registry.confirmation import Confirmation, load_confirmation
from tendon.registry.record import Record
from tendon.registry.subset import load_subset
from tendon.report.clips import make_clip, pick_clips
from tendon.report.plots_prediction import correlation
from tendon.report.prediction import points_of
from tendon.report.reproduce import commands
from tendon.report.settings import winner_facts
from tendon.report.summary import (
    Clip,
    Curve,
    DataSanity,
    Difference,
    Dimension,
    Ending,
    Feed,
    LineageRow,
    Provenance,
    Rate,
    ReportInputs,
    Timing,
    dimension,
)
from tendon.runs.forecast import load_forecast
from tendon.runs.plan import RunPlan
from tendon.storage import join, open_store
from tendon.storage.json_values import read_lines, read_note

MAX_ROWS_IN_HISTOGRAM = 200_000


def gather(run: RunPlan) -> ReportInputs:
    """Everything the page shows about ``run``."""
    selection = json.loads(open_store(run.run_uri).read("selection.json"))
    confirmation = load_confirmation(run.run_uri)
    tables = _tables(confirmation)
    winner = tables.get("winner")
    dataset = _dataset(run)
    metrics = {trial.name: _metrics(run, trial.name) for trial in run.trials}
    numbers = confirmation.verdict.numbers
    pairs = int(numbers.get("pairs", 0))
    timings = tuple(_timings(run, selection, tables))
    inputs = ReportInputs(
        title=f"{run.dataset_name}: {_task(run)}",
        run_id=run.run_id,
        when=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        verdict=confirmation.verdict.sentence,
        decision=confirmation.verdict.decision if confirmation.winner else "",
        rule=confirmation.verdict.rule,
        rates=tuple(_rate(role, run, confirmation, table) for role, table in tables.items()),
        difference=Difference(numbers["difference"], (numbers["low"], numbers["high"]), pairs) if pairs else None,  # type: ignore[arg-type]
        leaderboard=tuple(LeaderboardRow.from_dict(row) for row in selection["leaderboard"]),
        curves=tuple(curve for trial in run.trials if (curve := curve_of(trial.name, metrics[trial.name]))),
        data=sanity_of(dataset) if dataset else None,
        endings=tuple(Ending(row["seed"], row["status"], row["steps"]) for row in winner.rows) if winner else (),
        clips=tuple(_clips(winner)) if winner else (),
        timings=timings,
        forecast=tuple(map(str, load_forecast(run.run_uri).get("lines", ()))),
        feeds=tuple(feed for trial in run.trials if (feed := _feed(run, trial.name, metrics[trial.name]))),
        provenance=replace(
            _provenance(run, selection, winner, dataset),
            image=_images(timings).get(f"train/{confirmation.winner}", ""),
        ),
        facts=winner_facts(run, confirmation.winner, timings) if confirmation.winner else (),
        path=confirmation.verdict.path,
        videos_uri=join(winner.uri, "videos") if winner else "",
        predictions=points_of(run, selection["outcomes"], metrics),
        card=load_card(run) if run.perturb else None,
    )
    subset = load_subset(run)
    if subset:
        curation = find_curation(run.store_uri, run.dataset_uri, subset.left_out)
        inputs = replace(inputs, subset=subset, curation=curation)
    record = _record(run, confirmation, tables, inputs, dataset)
    return replace(inputs, record_json=record.to_json(), lineage=tuple(_lineage(run, record, tables)))


def _task(run: RunPlan) -> str:
    env = run.trials[0].config["env"]
    return f"{env['task']} ({env['simulator']})"


def _tables(confirmation: Confirmation) -> dict[str, Evaluation]:
    uris = {"winner": confirmation.winner_uri, "champion": confirmation.champion_uri}
    return {role: load_evaluation(uri) for role, uri in uris.items() if uri}


def _rate(role: str, run: RunPlan, confirmation: Confirmation, table: Evaluation) -> Rate:
    found = table.summary
    name = confirmation.winner if role == "winner" else run.champion
    return Rate(role, name, found["successes"], found["n"], found["crashed"], found["block"])


def _metrics(run: RunPlan, trial: str) -> list[dict[str, Any]]:
    return read_lines(open_store(run.trial_uri(trial)), "metrics.jsonl")


def curve_of(trial: str, lines: list[dict[str, Any]]) -> Curve | None:
    """The losses of a training from its metrics; None where it wrote none."""
    train = tuple((line["step"], line["train/loss"]) for line in lines if "train/loss" in line)
    valid = tuple((line["step"], line["valid/loss"]) for line in lines if "valid/loss" in line)
    return Curve(trial, train, valid) if train or valid else None


def _feed(run: RunPlan, trial: str, lines: list[dict[str, Any]]) -> Feed | None:
    return feed_of(trial, _device(run, trial), lines)


def feed_of(trial: str, device: str, lines: list[dict[str, Any]]) -> Feed | None:
    """How long a training waited for data, from its metrics; None where they do not say."""
    lines = [line for line in lines if "train/update_s" in line][1:]  # the first step warms up
    if not lines:
        return None
    mean = {key: sum(line[f"train/{key}"] for line in lines) / len(lines) for key in ("dataloading_s", "update_s")}
    return Feed(trial, device, mean["dataloading_s"], mean["update_s"])


def _device(run: RunPlan, trial: str) -> str:
    """Where the trial ran, as training noted it; else what its configuration asked for."""
    status = read_note(open_store(run.trial_uri(trial)), "status.json")
    return str(status.get("device", run.trial(trial).config["device"]))


def _gpus(device: str) -> int | None:
    return {"cpu": 0, "cuda": 1}.get(device.partition(":")[0])


def _dataset(run: RunPlan) -> Dataset | None:
    """The dataset, unless the run never got that far."""
    try:
        return open_dataset(run.dataset_uri)
    except DataError:
        return None


def sanity_of(dataset: Dataset) -> DataSanity:
    """What a dataset's figures are drawn of."""
    store = dataset.store
    stats = json.loads(store.read("stats/train.json")) if store.head("stats/train.json") else {}
    findings = tuple(str(Finding(**finding)) for finding in stats.get("findings", ()))
    rows = dataset.episodes("train")
    return DataSanity(
        episode_lengths=tuple(row.length for row in rows),
        num_frames=sum(row.length for row in rows),
        actions=tuple(_actions(dataset)),
        findings=findings,
    )


def _actions(dataset: Dataset) -> Iterator[Dimension]:
    import numpy as np

    rows, seen = [], 0
    for row in dataset.episodes("train"):
        rows.append(row)
        seen += row.length
        if seen >= MAX_ROWS_IN_HISTOGRAM:
            break
    actions_ND = np.concatenate([np.asarray(steps["action"], dtype=np.float64) for steps in dataset.lowdims(rows)])
    for d in range(actions_ND.shape[1]):
        yield dimension(f"action[{d}]", actions_ND[:, d])  # type: ignore[arg-type]


def _clips(table: Evaluation) -> Iterator[Clip]:
    store = open_store(table.uri)
    for row in pick_clips(table.rows):
        yield make_clip(row, store.read(row["video"]))


def _timings(run: RunPlan, selection: dict[str, Any], tables: dict[str, Evaluation]) -> Iterator[Timing]:
    places = [(run.dataset_uri, "convert", ""), (run.dataset_uri, "stats", "")]
    places += [(run.trial_uri(t.name), step, t.name) for t in run.trials for step in ("train", "export")]
    for uri, step, trial in places:
        found = read_note(open_store(uri), f"timings/{step}.json")
        if "seconds" in found:
            gpus = _gpus(_device(run, trial)) if step == "train" else 0
            yield Timing(step, trial, found["seconds"], gpus, found.get("image", ""))
    for outcome in selection["outcomes"]:
        if outcome["evaluation_uri"]:
            summary = load_evaluation(outcome["evaluation_uri"]).summary
            yield Timing("evaluate", outcome["trial"], summary["wall_s"], image=summary.get("image", ""))
    for role, table in tables.items():
        yield Timing("confirm", role, table.summary["wall_s"], image=table.summary.get("image", ""))


def _provenance(
    run: RunPlan, selection: dict[str, Any], winner: Evaluation | None, dataset: Dataset | None
) -> Provenance:
    evaluated = [outcome["evaluation_uri"] for outcome in selection["outcomes"] if outcome["evaluation_uri"]]
    return Provenance(
        dataset=dataset.manifest.digest[:16] if dataset else run.dataset_uri,
        episodes=digest([row.episode_id for row in dataset.episodes("train")]) if dataset else "",
        training_seed=", ".join(sorted({str(trial.config["seed"]) for trial in run.trials})),
        selection_seeds=_seeds(load_evaluation(evaluated[0]).summary) if evaluated else "",
        confirmation_seeds=_seeds(winner.summary) if winner else "",
        policy=winner.summary["policy_digest"] if winner else "",
        code=", ".join(filter(None, (f"tendon {__version__}", run.code_version, _commit(run)))),
    )


def _commit(run: RunPlan) -> str:
    """The git commit that the trials were trained with, as training noted it."""
    notes = [read_note(open_store(run.trial_uri(trial.name)), "timings/train.json") for trial in run.trials[:1]]
    commits = sorted({str(note.get("machine", {}).get("commit", "")) for note in notes} - {""})
    return f"commit {' '.join(commits)}" if commits else ""


def _seeds(summary: dict[str, Any]) -> str:
    first, num = summary["seeds"]["first"], summary["seeds"]["count"]
    return f"{first} to {first + num - 1}"


def _record(
    run: RunPlan,
    confirmation: Confirmation,
    tables: dict[str, Evaluation],
    inputs: ReportInputs,
    dataset: Dataset | None,
) -> Record:
    winner = tables.get("winner")
    scores = {
        f"{role}.{name}": table.summary[name]
        for role, table in tables.items()
        for name in ("success_rate", "successes", "n", "crashed", "mean_steps", "mean_sum_reward")
    }
    scores |= {f"gate.{name}": value for name, value in confirmation.verdict.numbers.items()}
    if inputs.subset:
        scores |= {"subset.kept": float(inputs.subset.kept), "subset.difference": inputs.subset.difference}
    for words in ("validation loss", "open-loop action error"):
        known = [
            point for point in inputs.predictions if (point.loss if "loss" in words else point.action_error) is not None
        ]
        if len(known) > 1 and (found := correlation(known, words)).rho is not None:
            scores |= {f"{words.replace(' ', '_').replace('-', '_')}.rank_correlation": found.rho}
            scores |= {f"{words.replace(' ', '_').replace('-', '_')}.rank_correlation_p": found.p}
    for arm in inputs.card.arms if inputs.card else ():
        if not arm.unsupported:
            scores |= {f"card.{arm.name}.success_rate": arm.successes / max(1, arm.n)}
            scores |= {f"card.{arm.name}.difference": arm.difference}
    seeds = {"training": sorted({int(trial.config["seed"]) for trial in run.trials})}
    if winner:
        seeds["confirmation"] = [winner.summary["seeds"]["first"], winner.summary["seeds"]["count"]]
    return Record(
        run_id=run.run_id,
        when=inputs.when,
        source_uri=run.source_uri,
        source_digest=run.source_digest,
        dataset_uri=run.dataset_uri,
        dataset_digest=dataset.manifest.digest if dataset else "",
        episode_list_digest=inputs.provenance.episodes,
        code_version=inputs.provenance.code,
        images=_images(inputs.timings),
        configs={trial.name: trial.config for trial in run.trials},
        seeds=seeds,
        winner=confirmation.winner,
        policy_digest=winner.summary["policy_digest"] if winner else "",
        scores=scores,
        timings={"/".join(filter(None, (t.step, t.trial))): t.seconds for t in inputs.timings},
        commands=commands(run),
        verdict=confirmation.verdict.sentence,
    )


def _images(timings: Iterable[Timing]) -> dict[str, str]:
    """The image of every step that made something, ``step`` or ``step/trial``; nothing where no container was."""
    found = {"/".join(filter(None, (t.step, t.trial))): t.image for t in timings} | {"report": running_image()}
    return {step: image for step, image in found.items() if image}


def _lineage(run: RunPlan, record: Record, tables: dict[str, Evaluation]) -> Iterator[LineageRow]:
    winner = record.winner
    yield LineageRow("demonstrations", f"{run.source_uri} ({run.source_digest})")
    yield LineageRow("dataset", record.dataset_digest or run.dataset_uri, record.commands["convert"])
    yield LineageRow("statistics", join(run.dataset_uri, "stats/train.json"), record.commands["stats"])
    if winner:
        yield LineageRow(f"policy {winner}", run.trial_uri(winner), record.commands[f"train/{winner}"])
        yield LineageRow("bundle", record.policy_digest, record.commands[f"export/{winner}"])
        yield LineageRow("selection table", run.trial(winner).run_key, record.commands[f"evaluate/{winner}"])
        yield LineageRow("confirmation table", tables["winner"].uri, record.commands["confirm"])
    for image in sorted(set(record.images.values())):
        steps = dict.fromkeys(step.partition("/")[0] for step, one in record.images.items() if one == image)
        yield LineageRow(f"image of {', '.join(steps)}", image)
    yield LineageRow("this report", run.run_uri, record.commands["report"])
