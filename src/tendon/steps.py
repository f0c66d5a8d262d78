"""The table of contents: one function per step of the DAG, in the order in which they run.

    plan -> convert -> stats -> [train_trials -> export_trials -> evaluate_trials] per group of trials -> conclude -> finish

``conclude`` is select, confirm, report and promote, one after the other. Primitives in, frozen dataclasses (or outcome
strings) out; everything else is in the store. Each step finds its own finished work there and returns at once, so that a
second attempt, in the same run or another, costs nothing. components/ and cli call only this.
"""

from __future__ import annotations

import functools
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from tendon import fork_server
from tendon.config.digest import running_image
from tendon.errors import ConfigError, DataError, Interrupted, Problem, TendonError
from tendon.logs import Progress
from tendon.runs.failures import NO_TRIAL_FINISHED, recording_failures
from tendon.runs.outcomes import TrialOutcome
from tendon.runs.plan import PlannedTrial, RunPlan, load_plan
from tendon.storage import join, open_store
from tendon.storage.json_values import to_json
from tendon.storage.stock import store_beside
from tendon.storage.trees import has_tree
from tendon.train.state.checkpoint import policy_at

if TYPE_CHECKING:
    from tendon.config.schema import TrainConfig
    from tendon.curate.curation import Curation
    from tendon.data.stats import DatasetStats
    from tendon.evaluate.robustness import Card
    from tendon.evaluate.table import Evaluation
    from tendon.policies.base import Policy
    from tendon.report.comparison import ManyCompared
    from tendon.runs.jobs import UnfinishedJob
    from tendon.train.distributed.attempts import StopRequest
    from tendon.train.distributed.job_spec import JobSpec
    from tendon.train.loop.dry_run import DryRun
    from tendon.train.online.episodes import Play
    from tendon.train.state.status import TrainResult

log = logging.getLogger(__name__)

R = TypeVar("R")

WORTH_A_PROCESS = 64 * 1024**2  # bytes of demonstrations
MOST_ERROR = 1200  # characters of an error in a message; the log of the step has all of them


def allow(trust: str) -> None:
    """Let Python files of these sha256s, separated by commas, run in this step: see tendon.trust. Called before every step that might."""
    from tendon.trust import allow as allow_files

    allow_files(trust)


# ------------------------------------------------------------------------------------------------------------------ plan


@dataclass(frozen=True)
class PlanResult:
    """What the other steps need to find each other, and what is left for them to do."""

    run_uri: str
    store_uri: str
    source_digest: str
    dataset_uri: str
    conversion: dict[str, Any]  # options that are not the usual ones, for convert
    shares: list[str]  # of the conversion, one worker each: "0/2", "1/2"
    groups: list[list[str]]  # names of trials that are not finished, a group per pod; never empty when there is work
    work: bool
    reason: str  # why there is work, or none
    resources: dict[str, str]  # cpu_data, memory_data, cpu_train, ...: Kubernetes quantities
    trials: list[dict[str, str]]
    forecast: list[str] = field(default_factory=list)  # what the run will take, in words
    evaluation_shares: list[tuple[list[str], str]] = field(default_factory=list)  # groups and a share of seeds: K/N
    outlook: str = ""  # what the gate asks of the winner, and about how many episodes that needs


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
    evaluate_workers: int = 1,
    trials_per_pod: int = 1,
    trial_retries: int = 2,
    only_new: bool = False,
    force: bool = False,
    gate_floor: float = 0.5,
    gate_margin: float = 0.0,
    gate_alpha: float = 0.05,
    gate_test: str = "fixed",
    budget_gpu_hours: float = 0.0,
    budget_gpu_hour_price: float = 0.0,
    budget_cpu_hour_price: float = 0.0,
    halving: bool = False,
    perturb: str = "",
    train_image: str = "",
    sim_image: str = "",
) -> PlanResult:
    """Turn parameters into trials and say which are left to do; every configuration error is found here, before anything costs.

    Args:
        source_uri: Where the demonstrations are.
        store_uri: Where everything is kept; empty: beside ``artifact_uri``.
        dataset_name: Name of the converted dataset.
        config: Overrides of the configuration, separated by spaces.
        sweep: The parameters that are swept.
        episodes: Rollouts per trial on the selection seeds.
        confirm_episodes: Rollouts of the winner on fresh seeds.
        champion: Name of the champion pointer.
        promote: Whether the winner may become the champion.
        artifact_uri: Where the engine keeps an artifact of this step.
        job_id: The engine's name of this run; finish finds the run by it.
        convert_workers: How many pods share the conversion.
        evaluate_workers: How many pods share the rollouts of each group of trials.
        trials_per_pod: How many trials a pod of the loop does, one after the other.
        trial_retries: How often a training that died is tried again.
        only_new: There is work only when the demonstrations changed since they were trained on last.
        force: There is work even when nothing changed and everything is finished.
        gate_floor: What the interval of a first champion begins at, at least.
        gate_margin: By how much a challenger must be better than the champion.
        gate_alpha: The chance that any challenger that is not better ever replaces one champion.
        gate_test: fixed, one look after all episodes; or anytime, which stops when it can tell.
        budget_gpu_hours: After so many GPU hours trainings save and stop, and the run ends with what there is; 0: any number.
        budget_gpu_hour_price: For the forecast, in any currency.
        budget_cpu_hour_price: The same.
        halving: Trials are pruned at rungs, which takes fewer steps.
        perturb: Perturbations that the winner is played under beside a clean arm, "standard" or names; empty: none.
        train_image: The image that trains, where another one than this does: an online phase plays in it.
        sim_image: The image that has the simulators.
    """
    from tendon.registry.outlook import outlook_of
    from tendon.runs import jobs
    from tendon.runs.budget import RunBudget
    from tendon.runs.failures import now
    from tendon.runs.forecast import save_forecast
    from tendon.runs.gate_rule import GateRule
    from tendon.runs.limits import most_groups
    from tendon.runs.plan import save_plan
    from tendon.runs.planner import make_sized_plan, shares_of
    from tendon.runs.remaining import shares_of_groups
    from tendon.runs.search import keep_round
    from tendon.runs.sizing import size_steps

    store_uri, began = store_uri or store_beside(artifact_uri), now()
    with recording_failures(jobs.job_folder(store_uri, job_id), "plan"):
        jobs.note_job(store_uri, job_id, jobs.Job(when=began))
        run, source_bytes, search = make_sized_plan(
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
            evaluate_workers=evaluate_workers,
            trials_per_pod=trials_per_pod,
            trial_retries=trial_retries,
            gate=GateRule(gate_floor, gate_margin, gate_alpha, gate_test),  # type: ignore[arg-type]
            budget=RunBudget(budget_gpu_hours, budget_gpu_hour_price, budget_cpu_hour_price),
            perturb=perturb,
            train_image=train_image,
            sim_image=sim_image,
        )
        save_plan(run)
        if search is not None:
            keep_round(run, search)
            log.info("plan: round %d of a search: %d trials so far", search.number + 1, len(search.points))
        outlook = outlook_of(
            run,
            source_bytes,
            trials_per_pod=trials_per_pod,
            most_groups=most_groups(evaluate_workers, halving=halving),
            only_new=only_new,
            force=force,
            halving=halving,
        )
        remaining, forecast = outlook.remaining, outlook.forecast.lines() if outlook.forecast else []
        if outlook.forecast:
            save_forecast(run, outlook.forecast)
        resources = size_steps([trial.config for trial in run.trials], source_bytes)
        unfinished = jobs.notice_unfinished(store_uri, job_id) if job_id else ()
        note = jobs.Job(run.run_uri, began, remaining.work, remaining.reason, remaining.is_complete, unfinished)
        jobs.note_job(store_uri, job_id, note)
    log.info("plan: %d trial(s) on %s, run %s", len(run.trials), run.source_uri, run.run_uri)
    for trial in run.trials:
        log.info("plan: trial %s (%s) %s", trial.name, trial.run_key, " ".join(trial.overrides))
    for line in (outlook.gate, *forecast):
        log.info("plan: %s", line)
    for sentence in unfinished:
        log.warning("plan: %s", sentence)
    log.info("plan: %s: %s", "to do" if remaining.work else "nothing to do", remaining.reason)
    return PlanResult(
        run_uri=run.run_uri,
        store_uri=run.store_uri,
        source_digest=run.source_digest,
        dataset_uri=run.dataset_uri,
        conversion=run.conversion,
        shares=shares_of(source_uri, convert_workers),
        groups=[list(group) for group in remaining.groups],
        work=remaining.work,
        reason=remaining.reason,
        resources=resources,
        trials=[{"name": trial.name, "overrides": " ".join(trial.overrides)} for trial in run.trials],
        forecast=forecast,
        evaluation_shares=shares_of_groups(remaining.groups, evaluate_workers),
        outlook=outlook.gate,
    )


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
    split_ratio: float = 1.0,
    shuffle_episodes: bool = False,
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
    from tendon.data.plan import option_values
    from tendon.evaluate.demo_uri import identified, is_demo, opened
    from tendon.runs.measured import conversion_kind, measuring

    size = tuple(int(each) for each in resize) if resize else None  # an engine may hand numbers over as floats
    options = ConversionOptions(
        tuple(skip_episodes),
        int(jpeg_quality),
        size,  # type: ignore[arg-type]
        codec,
        exact,
        split_ratio=float(split_ratio),
        shuffle_episodes=shuffle_episodes,
    )
    number, of = parse_share(worker)
    described = None
    if not source_digest:
        source_digest, described = identified(source_uri)
    uri = dataset_uri(store_uri, dataset_name, plan_digest(source_digest, options))
    manifest = load_manifest(open_store(uri))
    if manifest is not None and not strict:
        log.info("convert: found finished in %s", uri)
    else:
        fork_server.warm_up()
        with (
            recording_failures(uri, "convert", worker if of > 1 else ""),
            _timed(uri, "convert"),
            measuring(
                store_uri, conversion_kind(source_uri, option_values(options)), f"dataset {dataset_name}"
            ) as taken,
            nullcontext(described) if described else opened(source_uri, source_digest) as source,
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
            taken.stored = uri
            if of == 1:
                taken.units = manifest.episodes if is_demo(source_uri) else source.describe().num_bytes / 1e6
    log.info("convert: %s holds %d episodes, %d steps", uri, manifest.episodes, manifest.steps)
    return DatasetResult(uri, manifest.digest, manifest.episodes, manifest.steps, json.loads(manifest.to_json()))


@dataclass(frozen=True)
class StatsResult:
    """Statistics of the train split."""

    stats_uri: str
    stats: dict[str, Any]


def stats(
    *, dataset_uri: str, split: str = "train", skip_episodes: Sequence[str] = (), keep: bool = True
) -> StatsResult:
    """Mean, deviation, range and quantiles per feature, and what is odd about the data; found in the dataset, or kept there.

    Without ``keep`` nothing is written: for a step that only reads the dataset.
    """
    from tendon.config.digest import digest
    from tendon.data.dataset import open_dataset
    from tendon.data.stats import compute_stats

    skipped = f"-without-{digest(sorted(skip_episodes))}" if skip_episodes else ""
    store, key = open_store(dataset_uri), f"stats/{split}{skipped}.json"
    if store.head(key) is None:
        with recording_failures(dataset_uri if keep else "", "stats"), _timed(dataset_uri if keep else "", "stats"):
            result = compute_stats(open_dataset(dataset_uri), split, skip_episodes)
        for finding in result.findings:
            log.warning("stats: %s", finding)
        if not keep:
            return StatsResult("", json.loads(result.to_json()))
        store.create(key, result.to_json().encode())
    else:
        log.info("stats: found finished in %s", join(dataset_uri, key))
    return StatsResult(join(dataset_uri, key), json.loads(store.read(key)))


# ------------------------------------------------------------------------------------------------- one trial of the sweep


def train_trials(*, run_uri: str, trials: Sequence[str], dataset_uri: str, rung: int = 0) -> list[str]:
    """Train a group of trials, each in a process of its own; a failure is an outcome, its siblings go on.

    As many train side by side as fit into the processors, the memory and the GPU of this machine.
    ``rung``: pause at the steps of this rung of successive halving; 0: to the end.
    """
    from tendon.train.distributed.attempts import forwarding_stops

    with forwarding_stops() as stops:  # first of all: SIGTERM leaves one second
        from tendon.runs.side_by_side import in_parallel, num_fitting

        def one(trial: str) -> str:
            return _train_trial(_begin(run_uri, "train", trial), trial, dataset_uri, rung, stops)

        return in_parallel(trials, one, lambda: num_fitting(load_plan(run_uri), trials))


def _train_trial(run: RunPlan, trial: str, dataset_uri: str, rung: int, stops: StopRequest) -> str:
    from tendon.runs.budget import Meter
    from tendon.runs.halving import rung_steps
    from tendon.runs.measured import gpus_here
    from tendon.train.distributed.attempts import train_in_child

    def work(outcome: TrialOutcome) -> TrialOutcome:
        config, trial_uri = run.config_of(trial), run.trial_uri(trial)
        gpus = min(config.training.num_gpus, gpus_here()) if config.device != "cpu" else 0
        meter = Meter(run.run_uri, trial, run.budget, gpus)
        try:
            result = train_in_child(
                config,
                dataset_uri,
                trial_uri,
                train,
                retries=run.trial_retries,
                stops=stops,
                is_over=meter.is_over,
                pause_at=rung_steps(config.training.num_steps, rung),
            )
        except Interrupted:
            if stops.requested or not meter.stopped:
                raise
            meter.note()
            return _stopped_by_budget(run, outcome)
        meter.note()
        return replace(outcome, checkpoint_uri=result.checkpoint_uri, metrics=dict(result.metrics))

    return _soft(run, "train", TrialOutcome(trial, run.trial(trial).run_key), work)


def _stopped_by_budget(run: RunPlan, outcome: TrialOutcome) -> TrialOutcome:
    from tendon.runs.budget import STOPPED, describe_spent

    why = describe_spent(run.run_uri, run.budget)
    log.warning("train: trial %s is stopped: %s", outcome.trial, why)
    return replace(outcome, status=STOPPED, failed_step="budget", error=why)


def train_trials_on_nodes(
    *,
    run_uri: str,
    trials: Sequence[str],
    dataset_uri: str,
    image: str,
    nodes: int,
    gpus: str = "1",
    gpu_type: str = "nvidia.com/gpu",
    queue: str = "",
    cpu: str = "",
    memory: str = "",
) -> list[str]:
    """Train a group of trials, each as a Kubeflow TrainJob; whoever asks again finds the same job, or its finished work."""
    from tendon.train.distributed.job_spec import JobSpec, job_name
    from tendon.trust import as_options

    run, outcomes = load_plan(run_uri), []
    for trial in trials:
        trial_uri = run.trial_uri(trial)
        spec = JobSpec(
            job_name(run.trial(trial).run_key, trial_uri),
            image,
            (f"{__name__}:{train_node.__name__}", "--run-uri", run_uri, "--trial", trial, *as_options()),
            nodes,
            gpus,
            gpu_type,
            queue,
            processes=run.config_of(trial).training.num_gpus,
            cpu=cpu,
            memory=memory,
            trial_uri=trial_uri,
        )
        outcomes.append(_train_on_nodes(run, trial, spec))
    return outcomes


def _train_on_nodes(run: RunPlan, trial: str, spec: JobSpec) -> str:
    from tendon.runs.budget import Meter
    from tendon.train.distributed.trainjob import run_job
    from tendon.train.state.status import find_finished

    def work(outcome: TrialOutcome) -> TrialOutcome:
        training = run.config_of(trial).training
        if spec.gpus not in ("0", str(training.num_gpus)):
            raise ConfigError(
                f"each node has {spec.gpus} GPUs, training would use {training.num_gpus}",
                where=f"trial {trial}",
                why="a process per GPU is started, and the configuration says how many",
                fix=f"policy_config='... training.num_gpus={spec.gpus}'",
            )
        meter = Meter(run.run_uri, trial, run.budget, gpus=0)

        def is_over(running: int) -> bool:
            meter.gpus = running * int(spec.gpus)
            return meter.is_over()

        if find_finished(spec.trial_uri) is None:
            if is_over(0):
                return _stopped_by_budget(run, outcome)
            try:
                run_job(spec, retries=run.trial_retries, num_steps=training.num_steps, is_over=is_over)
            except Interrupted:
                if not meter.stopped:
                    raise
                if find_finished(spec.trial_uri) is None:
                    return _stopped_by_budget(run, outcome)
            finally:
                meter.note()
        result = find_finished(spec.trial_uri)
        if result is None:
            raise TendonError(
                "the TrainJob ended without a finished trial",
                where=f"{spec.name}, {spec.trial_uri}",
                why="its pods left no status.json with a whole checkpoint",
                fix="see the logs of its pods; run again: it resumes",
            )
        return replace(outcome, checkpoint_uri=result.checkpoint_uri, metrics=dict(result.metrics))

    return _soft(run, "train", TrialOutcome(trial, run.trial(trial).run_key), work)


def train_node(*, run_uri: str, trial: str) -> TrainResult:
    """What each node of a TrainJob does: train a trial of a run together with the other nodes."""
    run = load_plan(run_uri)
    config = run.config_of(trial)
    return train(config=config, dataset_uri=config.data.uri, trial_uri=run.trial_uri(trial))


def train(*, config: TrainConfig, dataset_uri: str, trial_uri: str) -> TrainResult:
    """Train one configuration into ``trial_uri``: resume first, and nothing to do when it is finished."""
    from tendon.train.state.pause import find_result

    finished = find_result(trial_uri)
    if finished is not None:
        log.info("train: found finished in %s", finished.checkpoint_uri)
        return finished
    from tendon.config.compose import to_dict
    from tendon.config.python_files import untrusted_files
    from tendon.data.stats import DatasetStats, merge_stats
    from tendon.runs.measured import StepClock, measuring, store_of, training_kind, trial_of
    from tendon.train.loop.device import gpu_memory
    from tendon.train.loop.training import train as train_policy

    problems = [*untrusted_files(config), *_online_problems(config, dataset_uri)]
    if problems:
        raise ConfigError.of(problems)
    statistics = stats(
        dataset_uri=dataset_uri, split=config.data.split, skip_episodes=config.data.skip_episodes, keep=False
    )
    with (
        _timed(trial_uri, "train"),
        measuring(store_of(trial_uri), training_kind(to_dict(config)), trial_of(trial_uri)) as taken,
        Progress("train", config.training.num_steps, "steps") as bar,
    ):
        clock = StepClock(bar.follow)
        made = DatasetStats.from_json(json.dumps(statistics.stats))
        if config.data.mixture:
            made = merge_stats([made, *_mixed_stats(config)])
        result = train_policy(
            config,
            dataset_uri,
            made,
            trial_uri,
            clock.follow,
            rollouts=rollouts_in_training,
            open_play=play_in_training,
        )
        taken.units, taken.device, taken.stored = result.step - result.resumed_from, result.device or "cpu", trial_uri
        taken.work_s = clock.seconds(taken.units)
        taken.gpus = result.num_processes if taken.device.startswith("cuda") else 0
        taken.gpu_bytes, taken.gpu_bytes_total = gpu_memory(taken.device)
        return result


def _online_problems(config: TrainConfig, dataset_uri: str) -> list[Problem]:
    """What keeps an online phase from being played here, found before the first update."""
    from tendon.data.manifest import load_manifest
    from tendon.evaluate.online_check import online_problems

    manifest = load_manifest(open_store(dataset_uri)) if config.training.online_steps else None
    recorded = None if manifest is None else {feature.key: feature for feature in manifest.schema.features}
    return [*online_problems(config, recorded, plays_here=True)]


def _mixed_stats(config: TrainConfig) -> list[DatasetStats]:
    """The statistics of the datasets that are mixed with the first."""
    from tendon.data.dataset import open_dataset
    from tendon.data.stats import DatasetStats

    made = []
    for uri in config.data.mixture:
        ids = set(open_dataset(uri).rows.ids())
        skipped = [name for name in config.data.skip_episodes if name in ids]
        found = stats(dataset_uri=uri, split=config.data.split, skip_episodes=skipped, keep=False)
        made.append(DatasetStats.from_json(json.dumps(found.stats)))
    return made


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


def play_in_training(config: TrainConfig) -> AbstractContextManager[Play]:
    """Who plays the episodes of an online phase, in the simulators of the configuration."""
    from tendon.evaluate.online_play import playing

    return playing(config)


def dry_run_training(*, config: TrainConfig, dataset_uri: str, trial_uri: str) -> DryRun:
    """One update, one validation and one checkpoint of a configuration, of which nothing is kept."""
    from tendon.data.stats import DatasetStats
    from tendon.train.loop.dry_run import dry_run

    statistics = stats(dataset_uri=dataset_uri, split=config.data.split, keep=False)
    problems = _online_problems(config, dataset_uri)
    if problems:
        raise ConfigError.of(problems)
    made = DatasetStats.from_json(json.dumps(statistics.stats))
    return dry_run(config, dataset_uri, made, trial_uri, open_play=play_in_training)


def export_trials(*, run_uri: str, outcomes: Sequence[str]) -> list[str]:
    """Turn the checkpoint of each trial into a bundle whose actions are proven equal."""
    from tendon.runs.measured import export_kind, measuring

    def work(outcome: TrialOutcome) -> TrialOutcome:
        run = _begin(run_uri, "export", outcome.trial)
        bundle_uri = join(run.trial_uri(outcome.trial), "bundle")
        kind, is_there = export_kind(run.trial(outcome.trial).config), has_tree(open_store(bundle_uri), "")
        with measuring(run.store_uri, kind, f"trial {run.trial(outcome.trial).run_key}") as taken:
            export(checkpoint_uri=outcome.checkpoint_uri, bundle_uri=bundle_uri)
            taken.units, taken.stored = 0 if is_there else 1, bundle_uri
        return replace(outcome, bundle_uri=bundle_uri)

    run = load_plan(run_uri)
    return [_soft(run, "export", TrialOutcome.from_json(outcome), work) for outcome in outcomes]


def export(*, checkpoint_uri: str, bundle_uri: str, self_contained: bool = False) -> str:
    """Write the bundle of a checkpoint with its parity record; the bundle's digest."""
    from tendon.export.bundle import export_bundle, find_bundle

    found = find_bundle(bundle_uri, checkpoint_uri, self_contained)
    if found is not None:
        log.info("export: found finished in %s", bundle_uri)
        return found.digest
    fork_server.warm_up()
    with _timed(bundle_uri.rstrip("/").rsplit("/", 1)[0], "export"):
        return export_bundle(checkpoint_uri, bundle_uri, self_contained).digest


def evaluate_trials(*, run_uri: str, outcomes: Sequence[str]) -> list[str]:
    """Roll the bundle of each trial out on the selection seeds."""

    def work(outcome: TrialOutcome) -> TrialOutcome:
        run = _begin(run_uri, "evaluate", outcome.trial)
        config = run.config_of(outcome.trial)
        table = evaluate(bundle_uri=outcome.bundle_uri, config=config, block="selection", run_id=run.run_id)
        names = ("success_rate", "successes", "crashed", "mean_steps", "mean_sum_reward")
        metrics = outcome.metrics | {
            name: float(table.summary[name]) for name in names if table.summary[name] is not None
        }
        metrics["episodes"] = float(table.summary["n"])
        metrics["success_low"], metrics["success_high"] = table.summary["interval_95"]
        return replace(outcome, evaluation_uri=table.uri, metrics=metrics)

    run = load_plan(run_uri)
    return [_soft(run, "evaluate", TrialOutcome.from_json(outcome), work) for outcome in outcomes]


def evaluate_rung(*, run_uri: str, outcomes: Sequence[str], rung: int, episodes: int) -> list[str]:
    """Roll the checkpoint of each trial at a rung out on the first selection seeds; a trial that cannot be is a failed one."""
    from tendon.runs.rungs import has_rung, save_rung

    def work(outcome: TrialOutcome) -> TrialOutcome:
        if not has_rung(run, rung, outcome.trial):
            config = run.config_of(outcome.trial)
            config = replace(config, eval=replace(config.eval, n_episodes=episodes, videos=0))
            where = join(run.trial_uri(outcome.trial), "evaluations")
            table = evaluate(
                bundle_uri=outcome.checkpoint_uri, config=config, block="selection", run_id="", evaluations_uri=where
            )
            save_rung(run, rung, outcome.trial, table)
        return outcome

    run = load_plan(run_uri)
    return [_soft(run, "evaluate", TrialOutcome.from_json(outcome), work) for outcome in outcomes]


@dataclass(frozen=True)
class PruneResult:
    """Who goes on after a rung."""

    kept: list[str]
    groups: list[list[str]]


def prune(*, run_uri: str, rung: int, trials_per_pod: int = 1) -> PruneResult:
    """End the trials that can hardly win, as the rung scored them; the others in groups for the next loop."""
    from tendon.runs.budget import STOPPED
    from tendon.runs.outcomes import load_outcomes
    from tendon.runs.remaining import groups_of
    from tendon.runs.rungs import decide_rung

    run = load_plan(run_uri)
    with recording_failures(run_uri, "prune"):
        stopped = [name for name, outcome in load_outcomes(run).items() if outcome.status == STOPPED]
        # A decision is final, so none is made without the trials that a larger budget would bring to this rung.
        kept = stopped or decide_rung(run, rung)
    log.info("prune: after rung %d, %d of %d trials go on: %s", rung, len(kept), len(run.trials), ", ".join(kept))
    return PruneResult(kept, [list(group) for group in groups_of(kept, trials_per_pod)])


def evaluation_shares(*, run_uri: str, trials_per_pod: int = 1, workers: int = 1) -> list[tuple[list[str], str]]:
    """The trials that have a bundle and no table yet, in groups, each with the shares of its seeds: ``(["lr_0.1"], "0/2")``."""
    from tendon.runs.outcomes import has_ended, load_outcomes
    from tendon.runs.remaining import groups_of, shares_of_groups

    known = load_outcomes(load_plan(run_uri))
    left = [name for name, outcome in known.items() if outcome.bundle_uri and not has_ended(outcome)]
    groups = groups_of(
        left or list(known)[:1], trials_per_pod
    )  # a loop over nothing is a risk; one item finds all done
    return shares_of_groups(groups, workers) or [(list(group), "0/1") for group in groups]


def evaluate_share(*, run_uri: str, trials: Sequence[str], share: str) -> list[str]:
    """Roll the bundles of trials out on one machine's share of the selection seeds; the whole of them is a table at once."""
    from tendon.runs.outcomes import load_outcomes

    def work(outcome: TrialOutcome) -> TrialOutcome:
        if outcome.bundle_uri and not outcome.evaluation_uri:
            config = run.config_of(outcome.trial)
            evaluate_part(bundle_uri=outcome.bundle_uri, config=config, share=share, block="selection")
        return outcome

    run = load_plan(run_uri)
    known = load_outcomes(run)
    if share == "0/1":
        return evaluate_trials(run_uri=run_uri, outcomes=[known[name].to_json() for name in trials if name in known])
    return [_soft(run, "evaluate", known[name], work) for name in trials if name in known]


def _evaluate_shared(run: RunPlan) -> None:
    """Make the tables of trials whose seeds were shared by several machines; what one of them left is rolled out here."""
    from tendon.runs.outcomes import has_ended, load_outcomes

    shared = [one.to_json() for one in load_outcomes(run).values() if one.bundle_uri and not has_ended(one)]
    if shared:
        evaluate_trials(run_uri=run.run_uri, outcomes=shared)


def evaluate(*, bundle_uri: str, config: TrainConfig, block: str, run_id: str, evaluations_uri: str = "") -> Evaluation:
    """The table of a bundle on a block of seeds, rolled out or found."""
    from tendon.config.compose import to_dict
    from tendon.evaluate.table import evaluate_bundle
    from tendon.runs.measured import evaluation_kind, measuring, store_of, trial_of

    with measuring(store_of(bundle_uri), evaluation_kind(to_dict(config)), trial_of(bundle_uri)) as taken:
        table = evaluate_bundle(
            bundle_uri, config.env, config.eval, **_asked(bundle_uri, config, block, run_id, evaluations_uri)
        )
        taken.units, taken.stored = table.played, table.uri
        if table.played == len(table.rows):
            taken.work_s = float(table.summary["wall_s"])
    log.info("evaluate: %s", rate_of(table))
    return table


def evaluate_part(
    *, bundle_uri: str, config: TrainConfig, share: str, block: str, run_id: str = "", evaluations_uri: str = ""
) -> int:
    """Roll a bundle out on one machine's share of a block of seeds, ``0/2``; how many episodes it has."""
    from tendon.data.convert import parse_share
    from tendon.evaluate.table import evaluate_share as roll_out_share

    number, of = parse_share(share)
    asked = _asked(bundle_uri, config, block, run_id, evaluations_uri)
    return roll_out_share(bundle_uri, config.env, config.eval, **asked, share=number, shares=of)


def _asked(bundle_uri: str, config: TrainConfig, block: str, run_id: str, evaluations_uri: str) -> dict[str, Any]:
    """Block, seeds and place of an evaluation."""
    from tendon.evaluate.seeds import confirmation, selection

    count = config.eval.n_episodes
    seeds = selection(count) if block == "selection" else confirmation(run_id).take(count)
    where = evaluations_uri or join(bundle_uri.rstrip("/").rsplit("/", 1)[0], "evaluations")
    return {"block": block, "seeds": seeds, "evaluations_uri": where}


def robustness_card(
    *, bundle_uri: str, config: TrainConfig, block: str, run_id: str, perturb: str, evaluations_uri: str = ""
) -> tuple[Card, str]:
    """A bundle under perturbations on a block of seeds, each beside the clean arm; the card, and where it is kept as JSON and HTML."""
    from tendon.config.digest import digest
    from tendon.evaluate.robustness import make_card, parse_perturbations
    from tendon.evaluate.table import evaluate_bundle
    from tendon.report.card_page import render_card

    names = parse_perturbations(perturb)
    asked = _asked(bundle_uri, config, block, run_id, evaluations_uri)
    settings = replace(config.eval, videos=0)
    card = make_card(names, config.env, lambda env: evaluate_bundle(bundle_uri, env, settings, **asked), block)
    uri = join(asked["evaluations_uri"], f"card-{digest(card.table, names)}")
    store = open_store(uri)
    store.write("card.json", to_json(card.to_dict(), indent=1).encode())
    store.write("card.html", render_card(card, bundle_uri).encode())
    return card, uri


def rate_of(table: Evaluation) -> str:
    """A success rate as it may be shown: with counts, interval, crashes and block."""
    from tendon.evaluate.confidence import describe_rate

    found = table.summary
    return describe_rate(found["successes"], found["n"], found["crashed"], found["block"])


def _begin(run_uri: str, step: str, trial: str = "") -> RunPlan:
    """The plan of the run; the log of every step begins with the command that does it again by hand."""
    from tendon.report.reproduce import commands

    run = load_plan(run_uri)
    log.info("%s: by hand: %s", step, commands(run)["/".join(filter(None, (step, trial)))])
    return run


@contextmanager
def _timed(uri: str, step: str) -> Iterator[None]:
    """Keep how long real work took and in which image, beside what it made; whoever finds it finished does not overwrite it."""
    started = time.monotonic()
    yield
    if not uri:
        return
    from tendon.runs.machine import machine

    noted = {"step": step, "seconds": round(time.monotonic() - started, 3), "image": running_image()}
    noted |= {"machine": machine()}
    open_store(uri).write(f"timings/{step}.json", json.dumps(noted).encode())


def _soft(run: RunPlan, step: str, outcome: TrialOutcome, work: Callable[[TrialOutcome], TrialOutcome]) -> str:
    """Run a step of a trial and keep its outcome. What fails is written into it; only an interruption leaves, to be retried."""
    from tendon.runs.outcomes import save_outcome

    if outcome.status != "ok":
        log.warning("%s: skipped, %s of trial %s failed", step, outcome.failed_step, outcome.trial)
        return outcome.to_json()
    try:
        with recording_failures(run.run_uri, step, outcome.trial, soft=True):
            outcome = work(outcome)
    except Interrupted:
        raise
    except TendonError as error:
        log.error("%s: trial %s failed; its siblings go on\n%s", step, outcome.trial, error)
        outcome = replace(outcome, status="failed", failed_step=step, error=str(error))
    save_outcome(run.run_uri, outcome)
    return outcome.to_json()


def _in_run(step: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """For a step of a run: what ends it is kept in the run's folder."""

    def around(function: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(function)
        def wrapped(*, run_uri: str, **given: Any) -> R:
            with recording_failures(run_uri, step):
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
def select(*, run_uri: str) -> SelectionResult:
    """Rank the trials on the selection seeds, as the store has their outcomes; dead trials come last, with what killed them."""
    from tendon.runs.leaderboard import rank_run
    from tendon.runs.outcomes import load_outcomes

    run = load_plan(run_uri)
    known = load_outcomes(run)
    trials = {trial.name: known.get(trial.name) or _never_ended(trial) for trial in run.trials}
    ranked = rank_run(run, trials)
    board = ranked.rows
    winner = board[0].name if board and board[0].rank else ""
    rows = [asdict(row) for row in board]
    saved: dict[str, Any] = {
        "winner": winner,
        "leaderboard": rows,
        "outcomes": [asdict(trial) for trial in trials.values()],
    }
    saved["comparison"] = ranked.comparison.to_dict() if ranked.comparison else None  # by configuration
    open_store(run_uri).write("selection.json", to_json(saved, indent=1).encode())
    log.info("select: %s of %d trial(s)", f"winner is {winner}" if winner else "nothing to choose", len(trials))
    return SelectionResult(winner, rows, dict(trials[winner].metrics) if winner else {})


def _never_ended(trial: PlannedTrial) -> TrialOutcome:
    error = "no step of this trial has ended yet: start the same run again"
    return TrialOutcome(trial.name, trial.run_key, status="failed", failed_step="train", error=error)


@dataclass(frozen=True)
class ConfirmationResult:
    """The winner's rate on seeds that chose nothing, and what it means beside the champion's."""

    metrics: dict[str, float]
    verdict: str


@_in_run("confirm")
def confirm(*, run_uri: str) -> ConfirmationResult:
    """Roll out winner and champion on the same fresh seeds and say which is better, or that it cannot be told."""
    from tendon.registry.confirmation import confirm_winner
    from tendon.registry.subset import decide_subset

    run = _begin(run_uri, "confirm")
    subset = decide_subset(run, evaluate)
    if subset:
        log.info("confirm: %s", subset.sentence)
    confirmation = confirm_winner(run, evaluate)
    open_store(run_uri).write("confirmation.json", confirmation.to_json().encode())
    log.info("confirm: %s", confirmation.verdict.sentence)
    return ConfirmationResult(confirmation.metrics(), confirmation.verdict.sentence)


@_in_run("robustness")
def robustness(*, run_uri: str) -> str:
    """Play the winner under the run's perturbations, each beside the clean arm on the same seeds; the card in a sentence."""
    from tendon.registry.card import make_run_card

    run = _begin(run_uri, "robustness")
    card = make_run_card(run) if run.perturb else None
    sentence = card.sentence() if card else "no perturbation was asked for, or there is no winner"
    log.info("robustness: %s", sentence)
    return sentence


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
            NO_TRIAL_FINISHED,
            where=run_uri,
            why=confirmation.verdict.sentence,
            fix="read the errors of the trials in the report",
        )
    if not (run.promote or force):
        return PromotionResult(False, "promotion is off (promote=true, or `tendon promote`)")
    result = promote_winner(run, confirmation)
    log.info("promote: %s", result.reason)
    return PromotionResult(result.promoted, result.reason)


@dataclass(frozen=True)
class ConclusionResult:
    """What the run came to: the confirmed rate, the verdict, the page."""

    metrics: dict[str, float]
    verdict: str
    html: str
    winner: str
    promoted: bool


@_in_run("conclude")
def conclude(*, run_uri: str, job_id: str = "") -> ConclusionResult:
    """Select, confirm, perturb if asked, report and promote, then the mark of a good end; or the mark that trials are left."""
    from tendon.registry.standing import champion_now
    from tendon.report.failure_page import describe_part
    from tendon.runs.budget import STOPPED, describe_spent
    from tendon.runs.conclusion import mark_concluded, mark_part
    from tendon.runs.outcomes import has_ended, is_evaluated, load_outcomes

    run = load_plan(run_uri)
    _evaluate_shared(run)
    known = load_outcomes(run)
    left = [trial.name for trial in run.trials if not has_ended(known.get(trial.name))]
    stopped = [name for name, outcome in known.items() if outcome.status == STOPPED]
    if left or (stopped and not any(map(is_evaluated, known.values()))):
        why = f"{describe_spent(run_uri, run.budget)}; " if stopped else ""
        mark = mark_part(run, job_id, len({*left, *stopped}), why)
        log.info("conclude: %s; start the same run again", mark.verdict)
        return ConclusionResult({}, mark.verdict, describe_part(run, mark.verdict).html, "", False)
    winner = select(run_uri=run_uri).winner
    confirmed = confirm(run_uri=run_uri)
    if run.perturb:
        robustness(run_uri=run_uri)
    page = report(run_uri=run_uri)
    promotion = promote(run_uri=run_uri)
    champion = champion_now(run)
    mark_concluded(
        run, job_id, winner=winner, verdict=confirmed.verdict, promoted=promotion.promoted, champion=champion
    )
    return ConclusionResult(confirmed.metrics, confirmed.verdict, page.html, winner, promotion.promoted)


# ---------------------------------------------------------------------------------------------- around a run: end, bundle


@dataclass(frozen=True)
class FinishResult:
    """The page of a run that ended, however it ended."""

    html: str
    headline: str
    report_uri: str
    notified: bool
    ending: str  # succeeded, nothing to do, part done, failed, stopped, never planned


def finish(
    *,
    job_id: str,
    store_uri: str,
    state: str,
    error: str = "",
    notify_when: str = "failure",
    link: str = "",
    artifact_uri: str = "",
    remember: bool = False,
) -> FinishResult:
    """Last of all, whatever happened: what the run came to as the store has it, its page, a message, the mark of a schedule.

    ``state`` and ``error`` are the engine's words: logged and shown, never believed.
    """
    from tendon.registry.protocol import protocol_of_run
    from tendon.report.failure_page import describe_end, keep_page
    from tendon.runs.endings import find_end, remember_end, unreadable
    from tendon.runs.jobs import job_folder
    from tendon.runs.webhook import notify, run_link

    store_uri = store_uri or store_beside(artifact_uri)
    folder = job_folder(store_uri, job_id)
    log.info("finish: the engine says %s", " ".join(filter(None, (state, error))) or "nothing")
    try:
        end = find_end(store_uri, job_id)
        page = describe_end(end, error)
    except TendonError as problem:
        end = unreadable(str(problem))
        page = describe_end(end, str(problem))
    report_uri = keep_page(end, page.html, folder)
    remember_end(end, store_uri, job_id, report_uri, trained_task=protocol_of_run if remember else None)
    why = next((failure.text for failure in end.failures if not failure.soft), error if end.is_bad else "")
    fields = {
        "ending": end.ending,
        "run": end.job.run_uri,
        "report": report_uri,
        "link": link or run_link(job_id),
        "error": why[:MOST_ERROR],
    }
    notified = notify(f"tendon: {end.headline}", fields, failed=end.is_bad, when=notify_when)
    log.info("finish: %s: %s%s", end.ending, end.headline, ", told the webhook" if notified else "")
    return FinishResult(page.html, end.headline, report_uri, notified, end.ending)


def unfinished_jobs(store_uri: str) -> list[UnfinishedJob]:
    """Jobs of this store that left no end: they still run, or were killed together with their exit task."""
    from tendon.runs.jobs import unfinished_jobs as find_unfinished

    return find_unfinished(store_uri)


def curate(
    *,
    source_uri: str,
    store_uri: str,
    dataset_name: str,
    config: str,
    folds: int = 3,
    leave_out: float | None = None,
) -> Curation:
    """Rank the demonstrations by findings, by the loss of policies that never saw them, and by influence; what a run is to decide."""
    from tendon.curate.curation import curate as rank_episodes
    from tendon.curate.curation import save_curation
    from tendon.runs.planner import make_plan, run_key

    run = make_plan(source_uri=source_uri, store_uri=store_uri, dataset_name=dataset_name, config=config, sweep=[], episodes=1,
                    confirm_episodes=1, champion="champion", promote=False)  # fmt: skip
    dataset = convert(source_uri=source_uri, source_digest=run.source_digest, store_uri=store_uri, dataset_name=dataset_name,
                      workers=0, **run.conversion)  # fmt: skip

    def trained(fold: TrainConfig) -> str:
        trial_uri = join(store_uri, "trials", run_key(fold))
        train(config=fold, dataset_uri=dataset.dataset_uri, trial_uri=trial_uri)
        return trial_uri

    base = run.config_of(run.trials[0].name)
    curation = rank_episodes(base, dataset.dataset_uri, folds=folds, leave_out=leave_out, train=trained)
    save_curation(store_uri, curation)
    log.info("curate: %s", curation.rule)
    return curation


@dataclass(frozen=True)
class BundleEvaluation:
    """The rate of a bundle that exists, beside another's if there is one."""

    metrics: dict[str, float]
    verdict: str
    html: str


def evaluate_bundle(
    *,
    bundle_uri: str,
    baseline_uri: str = "",
    episodes: int = 50,
    overrides: str = "",
    store_uri: str = "",
    artifact_uri: str = "",
    job_id: str = "",
) -> BundleEvaluation:
    """Roll an existing bundle out on confirmation seeds, and say whether it is better than another on the same seeds."""
    from tendon.config.digest import digest
    from tendon.report.failure_page import describe_measurement
    from tendon.runs.jobs import job_folder

    tables = {}
    folder = job_folder(store_uri or store_beside(artifact_uri), job_id) if job_id else ""
    with recording_failures(folder, "evaluate_bundle"):
        seeds_id = compared_seeds(bundle_uri, baseline_uri, overrides.split())
        for role, uri in (("winner", bundle_uri), ("champion", baseline_uri)):
            if uri:
                uri = policy_at(uri)
                table_uri = join(store_uri, "evaluations", digest(uri)) if store_uri else ""
                settings = bundle_config(bundle_uri, [*overrides.split(), f"eval.n_episodes={episodes}"])
                tables[role] = evaluate(
                    bundle_uri=uri, config=settings, block="confirmation", run_id=seeds_id, evaluations_uri=table_uri
                )
    shown = describe_measurement(bundle_uri, baseline_uri, tables)
    return BundleEvaluation(shown.metrics, shown.headline, shown.html)


def compare_bundles(*, bundle_uris: Sequence[str], overrides: Sequence[str] = ()) -> ManyCompared:
    """Roll each bundle out on common confirmation seeds, and say which can be told apart."""
    from tendon.report.comparison import compare_bundles as compare

    return compare(bundle_uris, lambda uri: bundle_config(uri, overrides), evaluate)


def compared_seeds(bundle_uri: str, other_uri: str = "", overrides: Sequence[str] = ()) -> str:
    """What the confirmation seeds of one bundle, or of two, are drawn by: what they do and their task, not where they are."""
    from tendon.export.bundle import bundle_digest
    from tendon.registry.confirmation import compared
    from tendon.registry.protocol import protocol_of

    digests = [bundle_digest(uri) if uri else "" for uri in (bundle_uri, other_uri)]
    return compared(digests[0], digests[1], protocol_of(bundle_config(bundle_uri, overrides).env))


def bundle_of(uri: str, overrides: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The bundle or checkpoint that an address means; another system's policy on this machine as a bundle in outputs/imported.

    Returns its address, and the overrides that a bundle takes: of another system's policy, ``env=...`` is in it already.
    """
    from pathlib import Path

    path, ours = Path(uri), policy_at(uri)
    if ours != uri or not path.is_dir() or (path / "policy.json").is_file():
        return ours, overrides
    from tendon.export.foreign import import_weights
    from tendon.weights.foreign import recognised
    from tendon.weights.spec import content_sha256

    found = recognised(path)
    if found is None:
        return uri, overrides
    bundle_uri = join("outputs/imported", f"{path.name}-{content_sha256(path)[:16]}", "bundle")
    if not has_tree(open_store(bundle_uri), ""):
        _, notes = import_weights(str(path), bundle_uri, overrides, found.name)
        for note in notes:
            log.info("evaluate: %s", note)
    return bundle_uri, [one for one in overrides if not one.startswith("env=")]


def bundle_config(bundle_uri: str, overrides: Sequence[str]) -> TrainConfig:
    """The configuration inside a bundle, with changes."""
    from pathlib import Path

    from tendon.config.compose import compose
    from tendon.train.state.checkpoint import policy_file

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_bytes(policy_file(bundle_uri, "config.yaml"))
        return compose(overrides, config_dir=folder, config_name="config")


@contextmanager
def saved_config(folder: str | None, name: str | None) -> Iterator[tuple[str | None, str | None]]:
    """Folder and name to compose from; of a checkpoint, here or in a store, the configuration that it was trained with."""
    from pathlib import Path

    from tendon.train.state.checkpoint import FOLDER, config_folder, policy_file

    found = policy_at(folder) if folder else ""
    with tempfile.TemporaryDirectory() as scratch:
        if folder and has_tree(open_store(found), ""):
            name = (name or "config").removesuffix(".yaml")
            (Path(scratch) / f"{name}.yaml").write_bytes(policy_file(found, f"{name}.yaml"))
            yield scratch, name
        elif folder and ("://" in folder or (f"/{FOLDER}/" in folder and not Path(folder).is_dir())):
            yield str(config_folder(folder, Path(scratch))), name
        else:
            yield folder, name
