"""The table of contents: one function per step of the DAG, in the order in which they run.

    plan -> convert -> stats -> [train_trial -> export_trial -> evaluate_trial] per trial -> select -> confirm -> report -> promote

Primitives in, frozen dataclasses (or an outcome string) out; everything else is in the store. Each step finds its own finished
work there and returns at once, so that a second attempt, in the same run or another, costs nothing. components/ and cli call only this.
"""

from __future__ import annotations

import functools
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from tendon.config.digest import running_image
from tendon.errors import ConfigError, DataError, Interrupted, TendonError
from tendon.logs import Progress
from tendon.registry.failure import kept
from tendon.registry.outcome import TrialOutcome
from tendon.registry.plan import RunPlan, load_plan
from tendon.storage import join, open_store
from tendon.storage.stock import store_beside

if TYPE_CHECKING:
    from tendon.config.schema import TrainConfig
    from tendon.evaluate.table import Evaluation
    from tendon.policies.base import Policy
    from tendon.train.rehearse import Rehearsal
    from tendon.train.status import TrainResult

log = logging.getLogger(__name__)

R = TypeVar("R")

WORTH_A_PROCESS = 64 * 1024**2  # bytes of demonstrations
MOST_ERROR = 1200  # characters of an error in a message; the log of the step has all of them


# ------------------------------------------------------------------------------------------------------------------ plan


@dataclass(frozen=True)
class PlanResult:
    """What the other steps need to find each other."""

    run_uri: str
    store_uri: str
    source_digest: str
    dataset_uri: str
    conversion: dict[str, Any]  # options that are not the usual ones, for convert
    shares: list[str]  # of the conversion, one worker each: "0/2", "1/2"
    trials: list[dict[str, str]]


def plan(
    *,
    source_uri: str,
    store_uri: str,
    dataset_name: str,
    config: str,
    sweep: list[dict[str, Any]],
    episodes: int,
    confirm_episodes: int,
    champion: str,
    promote: bool,
    artifact_uri: str = "",
    job_id: str = "",
    convert_workers: int = 1,
) -> PlanResult:
    """Turn parameters into trials; every configuration error of every trial is found here, before anything costs a GPU second."""
    from tendon.registry.jobs import job_folder, note_job
    from tendon.registry.plan import save_plan
    from tendon.registry.planner import make_plan, shares_of

    store_uri = store_uri or store_beside(artifact_uri)
    with kept(job_folder(store_uri, job_id), "plan"):
        run = make_plan(
            source_uri=source_uri,
            store_uri=store_uri,
            dataset_name=dataset_name,
            config=config,
            sweep=sweep,
            episodes=episodes,
            confirm_episodes=confirm_episodes,
            champion=champion,
            promote=promote,
            convert_workers=convert_workers,
        )
        save_plan(run)
    note_job(run.store_uri, job_id, run.run_uri)
    log.info("plan: %d trial(s) on %s, run %s", len(run.trials), run.source_uri, run.run_uri)
    for trial in run.trials:
        log.info("plan: trial %s (%s) %s", trial.name, trial.run_key, " ".join(trial.overrides))
    trials = [{"name": trial.name, "overrides": " ".join(trial.overrides)} for trial in run.trials]
    shares = shares_of(source_uri, convert_workers)
    return PlanResult(run.run_uri, run.store_uri, run.source_digest, run.dataset_uri, run.conversion, shares, trials)


# -------------------------------------------------------------------------------------------------------- convert, stats


@dataclass(frozen=True)
class DatasetResult:
    """A converted dataset."""

    dataset_uri: str
    digest: str
    num_episodes: int
    num_frames: int
    manifest: dict[str, Any]


def convert(
    *,
    source_uri: str,
    source_digest: str = "",
    store_uri: str,
    dataset_name: str,
    skip_episodes: Sequence[str] = (),
    workers: int = 1,
    worker: str = "0/1",
    resize: Sequence[int] | None = None,
    codec: str = "",
    jpeg_quality: int = 90,
    exact: bool = False,
    strict: bool = False,
) -> DatasetResult:
    """Convert demonstrations to shards under a prefix that is known from the digests alone; resumable, manifest last.

    ``workers`` processes here, 0: as many as the processors and the size of the source are good for; ``worker`` "K/N" is
    one of N machines that share the plan. ``source_digest``: what was planned with, which must still hold; empty: what is
    there now.
    """
    from tendon.data.convert import ConversionOptions, dataset_uri, parse_share, plan_digest
    from tendon.data.convert import convert as convert_episodes
    from tendon.data.cpus import usable_cpus
    from tendon.data.manifest import load_manifest
    from tendon.evaluate.demo_uri import identified, opened

    size = tuple(int(each) for each in resize) if resize else None  # an engine may hand numbers over as floats
    options = ConversionOptions(tuple(skip_episodes), int(jpeg_quality), size, codec, exact)  # type: ignore[arg-type]
    number, of = parse_share(worker)
    described = None
    if not source_digest:
        source_digest, described = identified(source_uri)
    uri = dataset_uri(store_uri, dataset_name, plan_digest(source_digest, options))
    manifest = load_manifest(open_store(uri))
    if manifest is not None and not strict:
        log.info("convert: found finished in %s", uri)
    else:
        with (
            kept(uri, "convert", worker if of > 1 else ""),
            _timed(uri, "convert"),
            nullcontext(described) if described else opened(source_uri, source_digest, store_uri) as source,
            Progress("convert", None, "steps") as bar,
        ):
            manifest = convert_episodes(
                source,
                store_uri,
                dataset_name,
                options,
                workers or min(max(1, int(usable_cpus())), 1 + source.describe().num_bytes // of // WORTH_A_PROCESS),
                bar.follow,
                source_digest,
                strict=strict,
                worker=number,
                of=of,
            )
    log.info("convert: %s holds %d episodes, %d steps", uri, manifest.episodes, manifest.steps)
    return DatasetResult(uri, manifest.digest, manifest.episodes, manifest.steps, json.loads(manifest.to_json()))


@dataclass(frozen=True)
class StatsResult:
    """Statistics of the train split."""

    stats_uri: str
    stats: dict[str, Any]


def stats(*, dataset_uri: str, split: str = "train", skip_episodes: Sequence[str] = ()) -> StatsResult:
    """Mean, deviation, range and quantiles per feature, and what is odd about the data."""
    from tendon.config.digest import digest
    from tendon.data.dataset import open_dataset
    from tendon.data.stats import compute_stats

    skipped = f"-without-{digest(sorted(skip_episodes))}" if skip_episodes else ""
    store, key = open_store(dataset_uri), f"stats/{split}{skipped}.json"
    if store.head(key) is None:
        with kept(dataset_uri, "stats"), _timed(dataset_uri, "stats"):
            result = compute_stats(open_dataset(dataset_uri), split, skip_episodes)
        for finding in result.findings:
            log.warning("stats: %s", finding)
        store.create(key, result.to_json().encode())
    else:
        log.info("stats: found finished in %s", join(dataset_uri, key))
    return StatsResult(join(dataset_uri, key), json.loads(store.read(key)))


# ------------------------------------------------------------------------------------------------- one trial of the sweep


def train_trial(*, run_uri: str, trial: str, dataset_uri: str) -> str:
    """Train one trial, continuing where an earlier attempt stopped; a failure is an outcome, not the end of its siblings."""
    run = _begin(run_uri, "train", trial)
    planned = run.trial(trial)
    return _soft(run_uri, "train", TrialOutcome(trial, planned.run_key), lambda done: _train(run, done, dataset_uri))


def _train(run: RunPlan, outcome: TrialOutcome, dataset_uri: str) -> TrialOutcome:
    from tendon.config.compose import from_dict

    config = from_dict(run.trial(outcome.trial).config)
    result = train(config=config, dataset_uri=dataset_uri, trial_uri=run.trial_uri(outcome.trial))
    return replace(outcome, checkpoint_uri=result.checkpoint_uri, metrics={k: v for k, v in result.metrics.items()})


def train_on_nodes(
    *,
    run_uri: str,
    trial: str,
    dataset_uri: str,
    image: str,
    nodes: int,
    gpus: str = "1",
    gpu_type: str = "nvidia.com/gpu",
    queue: str = "",
) -> str:
    """Train one trial as a Kubeflow TrainJob and wait for it; whoever asks again finds the same job, or its finished work."""
    from tendon.train.status import find_finished
    from tendon.train.trainjob import JobSpec, run_job

    run = load_plan(run_uri)
    planned, trial_uri = run.trial(trial), run.trial_uri(trial)
    command = ("train", "--run-uri", run_uri, "--trial", trial)
    spec = JobSpec(f"tendon-{planned.run_key}", image, command, nodes, gpus, gpu_type, queue)

    def work(outcome: TrialOutcome) -> TrialOutcome:
        processes = run.config_of(trial).training.num_gpus
        if gpus not in ("0", str(processes)):
            raise ConfigError(
                f"each node has {gpus} GPUs, training would use {processes}",
                where=f"trial {trial}",
                why="a process per GPU is started, and the configuration says how many",
                fix=f"config='... training.num_gpus={gpus}'",
            )
        if find_finished(trial_uri) is None:
            run_job(spec)
        return _train(run, outcome, dataset_uri)

    return _soft(run_uri, "train", TrialOutcome(trial, planned.run_key), work)


def train(*, config: TrainConfig, dataset_uri: str, trial_uri: str) -> TrainResult:
    """Train one configuration into ``trial_uri``: resume first, and nothing to do when it is finished."""
    from tendon.train.status import find_finished

    finished = find_finished(trial_uri)
    if finished is not None:
        log.info("train: found finished in %s", finished.checkpoint_uri)
        return finished
    from tendon.data.stats import DatasetStats
    from tendon.train.loop import train as train_policy

    statistics = stats(dataset_uri=dataset_uri, split=config.data.split, skip_episodes=config.data.skip_episodes)
    with _timed(trial_uri, "train"), Progress("train", config.training.offline_steps, "steps") as bar:
        made = DatasetStats.from_json(json.dumps(statistics.stats))
        return train_policy(config, dataset_uri, made, trial_uri, bar.follow, rollouts=rollouts_in_training)


def rollouts_in_training(policy: Policy, config: TrainConfig) -> dict[str, float]:
    """How a policy that is being trained does in its simulator, on training seeds; LeRobot's numbers, and robomimic's."""
    from tendon.evaluate.rollout import evaluate_policy
    from tendon.evaluate.seeds import training
    from tendon.evaluate.table import robomimic_names

    began = time.monotonic()
    results = evaluate_policy(policy, config.env, config.eval, training(config.eval.n_episodes))
    played = [result for result in results if result.status != "crashed"]
    count = max(1, len(played))
    seconds = time.monotonic() - began
    return robomimic_names([result.row() for result in played], seconds) | {
        "avg_sum_reward": sum(result.sum_reward for result in played) / count,
        "avg_max_reward": sum(result.max_reward for result in played) / count,
        "pc_success": 100.0 * sum(result.status == "success" for result in played) / count,
        "eval_s": seconds,
        "eval_ep_s": seconds / max(1, len(results)),
        "episodes": float(len(played)),
        "crashed": float(len(results) - len(played)),
    }


def rehearse_training(*, config: TrainConfig, dataset_uri: str, trial_uri: str) -> Rehearsal:
    """One update, one validation and one checkpoint of a configuration, of which nothing is kept."""
    from tendon.data.stats import DatasetStats
    from tendon.train.rehearse import rehearse

    statistics = stats(dataset_uri=dataset_uri, split=config.data.split)
    return rehearse(config, dataset_uri, DatasetStats.from_json(json.dumps(statistics.stats)), trial_uri)


def export_trial(*, run_uri: str, outcome: str) -> str:
    """Turn the trial's checkpoint into a bundle whose actions are proven equal."""
    return _soft(
        run_uri,
        "export",
        TrialOutcome.from_json(outcome),
        lambda done: _export(_begin(run_uri, "export", done.trial), done),
    )


def _export(run: RunPlan, outcome: TrialOutcome) -> TrialOutcome:
    bundle_uri = join(run.trial_uri(outcome.trial), "bundle")
    export(checkpoint_uri=outcome.checkpoint_uri, bundle_uri=bundle_uri)
    return replace(outcome, bundle_uri=bundle_uri)


def export(*, checkpoint_uri: str, bundle_uri: str) -> str:
    """Write the bundle of a checkpoint with its parity record; the bundle's digest."""
    from tendon.export.bundle import export_bundle, find_bundle

    found = find_bundle(bundle_uri, checkpoint_uri)
    if found is not None:
        log.info("export: found finished in %s", bundle_uri)
        return found.digest
    with _timed(bundle_uri.rstrip("/").rsplit("/", 1)[0], "export"):
        return export_bundle(checkpoint_uri, bundle_uri).digest


def evaluate_trial(*, run_uri: str, outcome: str) -> str:
    """Roll the trial's bundle out on the selection seeds."""
    return _soft(
        run_uri,
        "evaluate",
        TrialOutcome.from_json(outcome),
        lambda done: _evaluate(_begin(run_uri, "evaluate", done.trial), done),
    )


def _evaluate(run: RunPlan, outcome: TrialOutcome) -> TrialOutcome:
    table = evaluate(
        bundle_uri=outcome.bundle_uri, config=run.config_of(outcome.trial), block="selection", run_id=run.run_id
    )
    numbers = ("success_rate", "n", "successes", "crashed", "mean_steps", "mean_sum_reward")
    metrics = outcome.metrics | {name: float(table.summary[name]) for name in numbers}
    metrics["success_low"], metrics["success_high"] = table.summary["interval_95"]
    return replace(outcome, evaluation_uri=table.uri, metrics=metrics)


def evaluate(*, bundle_uri: str, config: TrainConfig, block: str, run_id: str, evaluations_uri: str = "") -> Evaluation:
    """The table of a bundle on a block of seeds, rolled out or found."""
    from tendon.evaluate.seeds import confirmation, selection
    from tendon.evaluate.table import evaluate_bundle

    count = config.eval.n_episodes
    seeds = selection(count) if block == "selection" else confirmation(run_id).take(count)
    where = evaluations_uri or join(bundle_uri.rstrip("/").rsplit("/", 1)[0], "evaluations")
    table = evaluate_bundle(bundle_uri, config.env, config.eval, block=block, seeds=seeds, evaluations_uri=where)
    log.info("evaluate: %s", rate_of(table))
    return table


def rate_of(table: Evaluation) -> str:
    """A success rate as it may be shown: with counts, interval, crashes and block."""
    from tendon.evaluate.confidence import describe_rate

    found = table.summary
    return describe_rate(found["successes"], found["n"], found["crashed"], found["block"])


def _begin(run_uri: str, step: str, trial: str = "") -> RunPlan:
    """The plan of the run; the log of every step begins with the command that does it again by hand."""
    from tendon.report.repeat import commands

    run = load_plan(run_uri)
    log.info("%s: by hand: %s", step, commands(run)["/".join(filter(None, (step, trial)))])
    return run


@contextmanager
def _timed(uri: str, step: str) -> Iterator[None]:
    """Keep how long real work took and in which image, beside what it made; whoever finds it finished does not overwrite it."""
    started = time.monotonic()
    yield
    noted = {"step": step, "seconds": round(time.monotonic() - started, 3), "image": running_image()}
    open_store(uri).write(f"timings/{step}.json", json.dumps(noted).encode())


def _soft(run_uri: str, step: str, outcome: TrialOutcome, work: Callable[[TrialOutcome], TrialOutcome]) -> str:
    """Run a step of a trial. What fails is written into the outcome; only an interruption leaves, so that it is retried."""
    if outcome.status != "ok":
        log.warning("%s: skipped, %s of trial %s failed", step, outcome.failed_step, outcome.trial)
        return outcome.to_json()
    try:
        with kept(run_uri, step, outcome.trial, soft=True):
            return work(outcome).to_json()
    except Interrupted:
        raise
    except TendonError as error:
        log.error("%s: trial %s failed; its siblings go on\n%s", step, outcome.trial, error)
        return replace(outcome, status="failed", failed_step=step, error=str(error)).to_json()


def _in_run(step: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """For a step of a run: what ends it is kept in the run's folder."""

    def around(function: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(function)
        def wrapped(*, run_uri: str, **given: Any) -> R:
            with kept(run_uri, step):
                return function(run_uri=run_uri, **given)

        return wrapped

    return around


# ------------------------------------------------------------------------------------------------------- select, confirm


@dataclass(frozen=True)
class SelectionResult:
    """Which trial won, and how all of them did."""

    winner: str
    leaderboard: list[dict[str, Any]]
    metrics: dict[str, float]


@_in_run("select")
def select(*, run_uri: str, outcomes: list[str]) -> SelectionResult:
    """Rank the trials on the selection seeds; dead trials are listed last, with what killed them."""
    from tendon.evaluate.confidence import rank_trials

    trials = {trial.trial: trial for trial in map(TrialOutcome.from_json, outcomes)}
    board = rank_trials([trial.score() for trial in trials.values()])
    winner = board[0].name if board and board[0].rank else ""
    rows = [asdict(row) for row in board]
    saved = {"winner": winner, "leaderboard": rows, "outcomes": [asdict(trial) for trial in trials.values()]}
    open_store(run_uri).write("selection.json", json.dumps(saved, indent=1).encode())
    log.info("select: %s of %d trial(s)", f"winner is {winner}" if winner else "nothing to choose", len(trials))
    return SelectionResult(winner, rows, dict(trials[winner].metrics) if winner else {})


@dataclass(frozen=True)
class ConfirmationResult:
    """The winner's rate on seeds that chose nothing, and what it means beside the champion's."""

    metrics: dict[str, float]
    verdict: str


@_in_run("confirm")
def confirm(*, run_uri: str) -> ConfirmationResult:
    """Roll out winner and champion on the same fresh seeds and say which is better, or that it cannot be told."""
    from tendon.registry.confirmation import confirm_winner

    confirmation = confirm_winner(_begin(run_uri, "confirm"), evaluate)
    open_store(run_uri).write("confirmation.json", confirmation.to_json().encode())
    log.info("confirm: %s", confirmation.verdict.sentence)
    return ConfirmationResult(confirmation.metrics(), confirmation.verdict.sentence)


# -------------------------------------------------------------------------------------------------------- report, promote


@dataclass(frozen=True)
class ReportResult:
    """The page itself and where it is kept."""

    html: str
    report_uri: str
    record_uri: str


@_in_run("report")
def report(*, run_uri: str) -> ReportResult:
    """One page that opens offline, and the record that says where every number comes from."""
    from tendon.report.gather import gather
    from tendon.report.page import render

    store = open_store(run_uri)
    inputs = gather(_begin(run_uri, "report"))
    html = render(inputs)
    store.write("record.json", inputs.record_json.encode())
    store.write("report.html", html.encode())
    log.info("report: %s (%.1f MB)", join(run_uri, "report.html"), len(html) / 1e6)
    return ReportResult(html, join(run_uri, "report.html"), join(run_uri, "record.json"))


@dataclass(frozen=True)
class PromotionResult:
    """Whether the champion pointer moved, and why."""

    promoted: bool
    reason: str


@_in_run("promote")
def promote(*, run_uri: str, force: bool = False) -> PromotionResult:
    """Move the champion pointer if that was asked for and the gate agrees; the last step, so a run without any winner fails here."""
    from tendon.registry.confirmation import load_confirmation
    from tendon.registry.promotion import promote_winner

    run = _begin(run_uri, "promote")
    confirmation = load_confirmation(run_uri)
    if not confirmation.winner:
        raise DataError(
            "no trial finished",
            where=run_uri,
            why=confirmation.verdict.sentence,
            fix="read the errors of the trials in the report",
        )
    if not (run.promote or force):
        return PromotionResult(False, "promotion is off (promote=true, or `tendon promote`)")
    result = promote_winner(run, confirmation)
    log.info("promote: %s", result.reason)
    return PromotionResult(result.promoted, result.reason)


# ------------------------------------------------------------------------------------ around a run: schedule, end, bundle


@dataclass(frozen=True)
class NewData:
    """Whether a schedule has anything to train on."""

    needed: bool
    reason: str
    source_digest: str


def check_new(
    *,
    source_uri: str,
    store_uri: str,
    dataset_name: str,
    champion: str,
    force: bool = False,
    artifact_uri: str = "",
    job_id: str = "",
) -> NewData:
    """Whether the demonstrations differ from those that were trained on last, or ``force`` says to train anyway."""
    from tendon.registry.jobs import job_folder, last_trained
    from tendon.registry.planner import source_digest

    store_uri = store_uri or store_beside(artifact_uri)
    with kept(job_folder(store_uri, job_id), "check"):
        found = source_digest(source_uri)
        last = last_trained(store_uri, dataset_name, champion)
    if last is None:
        result = NewData(True, "nothing was trained on these demonstrations yet", found)
    elif last.source_digest != found:
        result = NewData(True, f"the demonstrations changed since {last.when}", found)
    elif force:
        result = NewData(True, "nothing changed, but retraining was asked for", found)
    else:
        result = NewData(False, f"nothing changed since {last.when}: {last.run_uri}", found)
    log.info("check: %s: %s", "retrain" if result.needed else "nothing to do", result.reason)
    return result


@dataclass(frozen=True)
class FinishResult:
    """The page of a run that ended, however it ended."""

    html: str
    headline: str
    report_uri: str
    notified: bool


def finish(
    *,
    job_id: str,
    store_uri: str,
    state: str,
    error: str = "",
    notify_when: str = "failure",
    link: str = "",
    remember: bool = False,
    artifact_uri: str = "",
) -> FinishResult:
    """Last of all, also of a failed run: its report with what there is, a message to who wants one, the mark of a schedule."""
    from tendon.registry.failure import failures_in
    from tendon.registry.jobs import find_job, job_folder, remember_trained
    from tendon.registry.notice import notify
    from tendon.report.ended import describe_end

    store_uri = store_uri or store_beside(artifact_uri)
    job, failed = find_job(store_uri, job_id), state != "SUCCEEDED"
    run_uri = job.run_uri
    page_uri = run_uri or job_folder(store_uri, job_id)
    failures = failures_in(load_plan(run_uri).dataset_uri, since=job.when) if failed and run_uri else []
    failures += failures_in(page_uri, since=job.when) if failed else []
    end = describe_end(run_uri, state, error, failures)
    if failed:
        open_store(page_uri).write("report.html", end.html.encode())
    if run_uri and not failed and remember:
        run = load_plan(run_uri)
        remember_trained(run.store_uri, run.dataset_name, run.champion, run.source_digest, run.run_uri)
    report_uri = join(page_uri, "report.html") if run_uri or failed else ""
    why = failures[0].text if failures else error
    fields = {"state": state, "run": run_uri, "report": report_uri, "link": link, "error": why[:MOST_ERROR]}
    told = notify(f"tendon: {end.headline}", fields, failed=failed, when=notify_when)
    log.info("finish: %s%s", end.headline, ", told the webhook" if told else "")
    return FinishResult(end.html, end.headline, report_uri, told)


@dataclass(frozen=True)
class MeasureResult:
    """The rate of a bundle that exists, beside another's if there is one."""

    metrics: dict[str, float]
    verdict: str
    html: str


def measure(
    *,
    bundle_uri: str,
    champion_uri: str = "",
    episodes: int = 50,
    config: str = "",
    store_uri: str = "",
    artifact_uri: str = "",
    job_id: str = "",
) -> MeasureResult:
    """Roll an existing bundle out on confirmation seeds, and say whether it is better than another on the same seeds."""
    from tendon.config.digest import digest
    from tendon.registry.jobs import job_folder
    from tendon.report.ended import describe_measurement

    run_id = digest("measure", bundle_uri, champion_uri)
    tables = {}
    with kept(job_folder(store_uri or store_beside(artifact_uri), job_id) if job_id else "", "measure"):
        for role, uri in (("winner", bundle_uri), ("champion", champion_uri)):
            if uri:
                own = join(store_uri, "evaluations", digest(uri)) if store_uri else ""
                settings = bundle_config(bundle_uri, [*config.split(), f"eval.n_episodes={episodes}"])
                tables[role] = evaluate(
                    bundle_uri=uri, config=settings, block="confirmation", run_id=run_id, evaluations_uri=own
                )
    shown = describe_measurement(bundle_uri, champion_uri, tables)
    return MeasureResult(shown.metrics, shown.headline, shown.html)


def bundle_config(bundle_uri: str, overrides: Sequence[str]) -> TrainConfig:
    """The configuration inside a bundle, with changes."""
    from pathlib import Path

    from tendon.config.compose import compose

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_bytes(open_store(bundle_uri).read("config.yaml"))
        return compose(overrides, config_dir=folder, config_name="config")
