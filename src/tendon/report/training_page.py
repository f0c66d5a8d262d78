"""The page of one training, of a run or alone: how far it came, whether it converged, what fed it, what it was made with.

In: the address of a trial. Called by ``tendon train`` at its end, and by ``tendon view``.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import yaml

from tendon.config.schema import num_updates
from tendon.data.dataset import open_dataset
from tendon.errors import DataError, TendonError
from tendon.report.gather import curve_of, feed_of, sanity_of
from tendon.report.page import closing, facts_section, figure_block, lineage_section, opening, verdict_card
from tendon.report.plots_data import action_spread, data_sane
from tendon.report.plots_training import gpu_fed, training_converged, what_it_cost
from tendon.report.settings import noted_times, training_facts
from tendon.report.summary import DataSanity, LineageRow, Provenance, ReportInputs
from tendon.report.svg import short
from tendon.storage import Store, join, open_store
from tendon.storage.json_values import read_lines, read_note
from tendon.train.state.checkpoint import FOLDER, complete

PAGE = "report.html"


def write_training_page(trial_uri: str) -> str:
    """Keep the page in the trial's folder; its address."""
    open_store(trial_uri).write(PAGE, render_training(trial_uri).encode())
    return join(trial_uri, PAGE)


def render_training(trial_uri: str) -> str:
    """The page.

    Raises:
        DataError: no training ever wrote anything there.
    """
    store = open_store(trial_uri)
    lines, steps = read_lines(store, "metrics.jsonl"), complete(store)
    config = _config(store, steps)
    if not lines and not config:
        raise DataError(
            "there is no training here",
            where=trial_uri,
            why="it has neither metrics nor a checkpoint",
            fix="tendon ls trials lists those of a store",
        )
    status, beat = read_note(store, "status.json"), read_note(store, "heartbeat.json")
    name = str(config.get("policy", {}).get("name", "training"))
    device = str(status.get("device") or config.get("device", ""))
    curve, feed = curve_of(name, lines), feed_of(name, device, lines)
    num_gpus = int(status.get("num_processes", 1)) if device.startswith("cuda") else 0
    timings = tuple(noted_times(store, ("train", "export"), num_gpus))
    dataset_uri = str(config.get("data", {}).get("uri", ""))
    data, digest = _data(dataset_uri)
    inputs = ReportInputs(
        title=f"Training: {name} on {config.get('env', {}).get('task', '')}",
        run_id="",
        when=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        verdict=_sentence(config, status, beat, lines),
        curves=(curve,) if curve else (),
        feeds=(feed,) if feed else (),
        timings=timings,
        data=data,
        lineage=tuple(_lineage(trial_uri, dataset_uri, digest, steps, status)),
        provenance=Provenance(dataset=digest, training_seed=str(config.get("seed", ""))),
    )
    noted = read_note(store, "timings/train.json").get("machine", {})
    drawn = [
        training_converged(inputs),
        gpu_fed(inputs),
        data_sane(inputs),
        action_spread(inputs),
        what_it_cost(inputs),
    ]
    blocks = "".join(figure_block(figure) for figure in drawn if figure.desk)
    facts = training_facts(config, (), noted, timings, "")
    return (
        opening(inputs)
        + verdict_card(inputs, "Finished" if status.get("status") == "finished" else "Not finished")
        + f'<section id="figures"><h2>How it went</h2><div class="figures">{blocks}</div></section>\n'
        + facts_section(facts, "With what, and on what")
        + lineage_section(inputs)
        + closing()
    )


def _config(store: Store, steps: list[str]) -> Mapping[str, Any]:
    if not steps:
        return {}
    tree = yaml.safe_load(store.read(f"{FOLDER}/{steps[0]}/pretrained_model/config.yaml"))
    return tree if isinstance(tree, dict) else {}


def _data(uri: str) -> tuple[DataSanity | None, str]:
    """The dataset's figures and digest; none where it is gone."""
    try:
        dataset = open_dataset(uri)
        return sanity_of(dataset), dataset.manifest.digest[:16]
    except (TendonError, KeyError):  # several action parts have no single column
        return None, ""


def _sentence(
    config: Mapping[str, Any], status: Mapping[str, Any], beat: Mapping[str, Any], lines: list[dict[str, Any]]
) -> str:
    planned = num_updates(config.get("training", {}))
    step = status.get("step") or beat.get("step") or max([line.get("step", 0) for line in lines], default=0)
    metrics = status.get("metrics", {})
    name = next((key for key in ("valid_loss", "train_loss") if isinstance(metrics.get(key), (int, float))), "")
    loss = f", {'validation' if name == 'valid_loss' else 'training'} loss {short(metrics[name])}" if name else ""
    took = metrics.get("train_s")
    seconds = f", {took:,.0f} s of training" if isinstance(took, (int, float)) else ""
    return f"{step:,} of {planned:,} steps{loss}{seconds}; a loss says nothing about success: evaluate the policy"


def _lineage(
    trial_uri: str, dataset_uri: str, digest: str, steps: list[str], status: Mapping[str, Any]
) -> list[LineageRow]:
    rows = [LineageRow("dataset", f"{dataset_uri}\n{digest}".strip())] if dataset_uri else []
    for step in steps[:1]:
        uri = join(trial_uri, FOLDER, step)
        command = ["tendon", "export", "--checkpoint-uri", uri, "--bundle-uri", join(trial_uri, "bundle")]
        rows.append(
            LineageRow("newest checkpoint", f"{uri}\n{status.get('weights_sha256', '')}".strip(), shlex.join(command))
        )
    rows.append(LineageRow("evaluate it", "", shlex.join(["tendon", "evaluate", "--bundle-uri", trial_uri])))
    return rows
