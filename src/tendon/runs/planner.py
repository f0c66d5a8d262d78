"""From the parameters of a run to its plan: every trial composed, checked and keyed, every problem reported at once.

Called by steps.plan and by ``tendon run --plan``; touches nothing but the source's digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from tendon.config.compose import compose, to_dict
from tendon.config.crops import crop_problems, keypoint_problems
from tendon.config.digest import code_version, digest, running_image
from tendon.config.feature_map import FeatureMap
from tendon.config.numerics import rollout_numerics, training_numerics
from tendon.config.override_text import quote, split_overrides
from tendon.config.python_files import untrusted_files
from tendon.config.schema import (
    CONVERSION,
    DATA_LATER,
    DATA_MEANS,
    ONLINE_SETTINGS,
    SAVE_LATER,
    DataConfig,
    TrainConfig,
)
from tendon.config.sweep import Trial, expand, parse_sweep
from tendon.data.features import Feature
from tendon.data.images import planned_cameras
from tendon.data.plan import ConversionOptions, dataset_uri, option_values, plan_digest
from tendon.data.sources.episodes import no_exact_copy
from tendon.data.sources.source import Source
from tendon.errors import ConfigError, Problem, TendonError
from tendon.evaluate.adapters import is_known, sim_numerics
from tendon.evaluate.demo_uri import identified, is_demo
from tendon.evaluate.feature_table import feature_table
from tendon.evaluate.online_check import online_problems
from tendon.evaluate.robustness import parse_perturbations
from tendon.runs.budget import RunBudget
from tendon.runs.gate_rule import GateRule
from tendon.runs.plan import PlannedTrial, RunPlan
from tendon.runs.search import Round, next_round
from tendon.storage import open_store

MOST_WORKERS = 64  # each is a pod
MOST_PER_POD = 100
MOST_RETRIES = 20
UNDECISIVE = ("trial_retries", "code_version", "budget")  # fields of a plan that change no result
SHARED = ("data.", "env.", "eval.")  # one dataset, one task, one yardstick per run
SWEPT = ("data.skip_episodes",)  # of these: which episodes of that one dataset are trained on


class SizedPlan(NamedTuple):
    """What is planned."""

    run: RunPlan
    source_bytes: int
    search: Round | None  # of a sweep whose trials are chosen by the scores of those before


def make_plan(**parameters: Any) -> RunPlan:
    """The plan of a run alone; arguments and errors as ``make_sized_plan``."""
    return make_sized_plan(**parameters).run


def make_sized_plan(
    *,
    source_uri: str,
    store_uri: str,
    dataset_name: str,
    config: str,
    sweep: Sequence[dict[str, Any]],
    episodes: int,
    confirm_episodes: int,
    champion: str,
    promote: bool,
    convert_workers: int = 1,
    evaluate_workers: int = 1,
    trials_per_pod: int = 1,
    trial_retries: int = 2,
    gate: GateRule = GateRule(),  # noqa: B008 - frozen
    budget: RunBudget = RunBudget(),  # noqa: B008 - frozen
    perturb: str = "",
    train_image: str = "",
    sim_image: str = "",
) -> SizedPlan:
    """What is planned; a ConfigError with every problem of every trial, or the source's own."""
    problems = _check_parameters(dataset_name, champion, episodes, confirm_episodes)
    problems += [
        *_check_pods(convert_workers, evaluate_workers, trials_per_pod, trial_retries),
        *gate.problems(),
        *budget.problems(),
        *_check_perturb(perturb),
    ]
    overrides = split_overrides(config)
    base = _composed([*overrides, "data.uri=pending", f"eval.n_episodes={max(episodes, 1)}"], "config", problems)
    trials = _expanded(sweep, problems)
    if problems or base is None:
        raise ConfigError.of(problems)
    digest_of_source, source = identified(source_uri)
    source_bytes = source.describe().num_bytes if source is not None else 0  # an expert's are small, and not made yet
    options = conversion_options(base.data)
    if options.exact and is_demo(source_uri):
        raise no_exact_copy(source_uri)
    uri = dataset_uri(store_uri, dataset_name, plan_digest(digest_of_source, options))
    parameters, search = parse_sweep(list(sweep)), None
    if parameters.search is not None:
        search = next_round(store_uri, parameters, [overrides, uri, episodes])
        trials = search.trials(parameters, "")
    fixed = [*overrides, f"eval.n_episodes={episodes}", f"data.uri={quote(uri)}"]
    recorded = _source_features(source, options)
    planned = [_planned(trial, fixed, recorded, problems, (train_image, sim_image)) for trial in trials]
    if problems:
        raise ConfigError.of(problems)
    code = code_version("data", "loader", "policies", "train", "export", "sim", "evaluate")
    run = RunPlan(
        run_id="",
        store_uri=store_uri,
        source_uri=source_uri,
        source_digest=digest_of_source,
        dataset_name=dataset_name,
        dataset_uri=uri,
        conversion=option_values(options) | ({"strict": True} if base.data.strict else {}),
        config=config,
        episodes=episodes,
        confirm_episodes=confirm_episodes,
        champion=champion,
        promote=promote,
        code_version=code,
        trials=tuple(trial for trial in planned if trial is not None),
        trial_retries=trial_retries,
        gate=gate,
        budget=budget,
        perturb=perturb,
    )
    return SizedPlan(replace(run, run_id=_run_id(run)), source_bytes, search)


def _run_id(run: RunPlan) -> str:
    """Digest of what decides the results of a run, and of the versions of the code that rolls out."""
    rollouts = {}
    for trial in run.trials:
        config = run.config_of(trial.name)
        here = sim_numerics(config.env) if is_known(config.env.simulator) else {}  # it may be in another image only
        rollouts[trial.name] = {**rollout_numerics(config.policy), **here}
    decisive = {field.name: getattr(run, field.name) for field in fields(run) if field.name not in UNDECISIVE}
    if run.gate == GateRule():  # runs from before there was a choice are found again
        del decisive["gate"]
    if not run.perturb:
        del decisive["perturb"]
    return digest(decisive, rollouts)


def _check_perturb(perturb: str) -> list[Problem]:
    try:
        parse_perturbations(perturb)
    except ConfigError as error:
        return [replace(problem, where="parameters") for problem in error.problems]
    return []


def conversion_options(data: DataConfig) -> ConversionOptions:
    """What the configuration says of how demonstrations are converted."""
    return ConversionOptions(
        skip_episodes=data.skip_episodes,
        jpeg_quality=data.jpeg_quality,
        resize=(data.resize[0], data.resize[1]) if data.resize else None,
        codec=data.codec,
        exact=data.exact,
        split_ratio=data.split_ratio,
        shuffle_episodes=data.shuffle_episodes,
    )


def shares_of(source_uri: str, convert_workers: int) -> list[str]:
    """The shares of a conversion; the demonstrations of a scripted expert are one file, which its converter records."""
    of = 1 if is_demo(source_uri) else convert_workers
    return [f"{number}/{of}" for number in range(of)]


def run_key(config: TrainConfig) -> str:
    """The key of a trial's work: the data (its prefix is a digest), what training reads, and the versions of the code that trains."""
    effective = to_dict(config)
    for section in ("eval", "wandb", "track"):
        effective.pop(section)
    names = {key: effective["env"][key] for key in ("observation", "goal")}
    features = FeatureMap.of(config.env)
    told = {"features": features.renamed, "action": dict(features.action)}
    effective["env"] = names | {key: value for key, value in told.items() if value}
    effective["data"] = {
        key: value
        for key, value in effective["data"].items()
        if key not in DATA_MEANS + CONVERSION and (key not in DATA_LATER or value != DATA_LATER[key])
    }
    effective["data"]["uri"] = effective["data"]["uri"].rstrip("/").rsplit("/", 1)[-1]
    for key in SAVE_LATER:
        effective["save"].pop(key)
    _with_its_simulator(effective, config)
    _weights_by_content(effective)
    return digest("trial", effective, training_numerics(config.policy))


def _with_its_simulator(effective: dict[str, Any], config: TrainConfig) -> None:
    """An online phase plays in the environment, so that all of it counts; without one its keys are no part of the run key."""
    training = effective["training"]
    if not config.training.online_steps:
        for key in ("online_steps", *ONLINE_SETTINGS):
            training.pop(key, None)
        return
    effective["env"] = config.env.identity
    here = sim_numerics(config.env) if is_known(config.env.simulator) else {}
    training["plays"] = {**rollout_numerics(config.policy), **here}


def pinned(config: TrainConfig) -> TrainConfig:
    """The configuration with the very step that ``training.resume_from`` means now: a trial's newest is another one later.

    Raises:
        ConfigError: there is no such checkpoint, or nothing where ``policy.init_from`` says.
    """
    from tendon.train.state.checkpoint import named_step, policy_at
    from tendon.weights.address import check_address

    begins, hash_sign, format_name = config.policy.init_from.partition("#")
    if begins:
        begins = begins if hash_sign else policy_at(begins)
        config = replace(config, policy=replace(config.policy, init_from=f"{begins}{hash_sign}{format_name}"))
        check_address(config.policy.init_from, "policy.init_from")
    if not config.training.resume_from:
        return config
    return replace(config, training=replace(config.training, resume_from=named_step(config.training.resume_from)))


def _weights_by_content(effective: dict[str, Any]) -> None:
    """Where training begins, as the run key sees it: by content, and not at all where nothing is said."""
    training, policy = effective["training"], effective["policy"]
    if training["master_weights"] == "fp32":
        del training["master_weights"]
    begins = training.pop("resume_from")
    if begins:
        training["resume_from"] = begins.rstrip("/").split("/")[-3:]  # trials are named by their keys
    uri, _, format_name = policy.pop("init_from").partition("#")
    if uri:
        policy["init_from"] = [_content(uri), format_name]


def _content(uri: str) -> str:
    """A digest of a bundle, checkpoint or local file; another address stands for itself."""
    from tendon.export.bundle import bundle_digest
    from tendon.storage.trees import has_tree
    from tendon.weights.spec import content_sha256

    if has_tree(open_store(uri), ""):
        return bundle_digest(uri)
    return content_sha256(Path(uri)) if Path(uri).exists() else uri


def _source_features(source: Source | None, options: ConversionOptions) -> dict[str, Feature] | None:
    """What the demonstrations have, as it will be converted, by key; None: a scripted expert's have what the simulator has."""
    if source is None:
        return None
    schema = source.describe().schema
    planned = replace(schema, cameras=planned_cameras(schema.cameras, options.resize, options.codec))
    return {feature.key: feature for feature in planned.features}


def _feature_problems(config: TrainConfig, recorded: Mapping[str, Feature] | None) -> list[Problem]:
    """A feature that somebody lacks; a crop that is larger than the demonstrations' images, or than those that the simulator draws."""
    table = feature_table(config.policy, config.env, recorded)
    problems = list(table.problems or config.policy.feature_problems(table.given))
    features = FeatureMap.of(config.env)
    shown: dict[str, tuple[int, int]] = {}
    for name in features.read:
        key = features.stored_key(name, recorded or {})
        if recorded and key in recorded and recorded[key].kind == "image":
            shown[name] = (recorded[key].shape[0], recorded[key].shape[1])
    drawn = {camera.observation: camera.size for camera in features.read_cameras}
    crops = [*crop_problems(config.policy, shown, "the source (after data.resize)")]
    crops = crops or [*crop_problems(config.policy, drawn, "the simulator (env.cameras)")]
    return problems + (crops or [*keypoint_problems(config.policy, shown or drawn)])


def _planned(
    trial: Trial,
    fixed: Sequence[str],
    recorded: Mapping[str, Feature] | None,
    problems: list[Problem],
    images: tuple[str, str],
) -> PlannedTrial | None:
    config = _composed([*fixed, *trial.overrides], f"trial {trial.name}", problems)
    if config is None:
        return None
    found = [*untrusted_files(config), *_feature_problems(config, recorded)]
    found += online_problems(
        config, recorded, plays_here=not running_image(), train_image=images[0], sim_image=images[1]
    )
    problems += [replace(problem, where=f"trial {trial.name}: {problem.where}") for problem in found]
    return PlannedTrial(trial.name, trial.overrides, to_dict(config), run_key(config))


def _composed(overrides: Sequence[str], where: str, problems: list[Problem]) -> TrainConfig | None:
    try:
        return pinned(compose(overrides))
    except ConfigError as error:
        known = {problem.what for problem in problems}
        problems += [replace(p, where=f"{where}: {p.where}") for p in error.problems if p.what not in known]
        return None


def _expanded(sweep: Sequence[dict[str, Any]], problems: list[Problem]) -> tuple[Trial, ...]:
    try:
        parameters = parse_sweep(list(sweep))
        trials = expand(parameters, "base" if not parameters else "")
    except TendonError as error:
        problems += error.problems
        return ()
    for parameter in parameters:
        if parameter.key.startswith(SHARED) and parameter.key not in SWEPT:
            problems.append(
                Problem(
                    f"{parameter.key} cannot be swept",
                    "sweep",
                    "trials of one run share the data, the task and the seeds, or their scores could not be compared",
                    "start one run per value",
                )
            )
    return trials


def _check_pods(convert_workers: int, evaluate_workers: int, trials_per_pod: int, trial_retries: int) -> list[Problem]:
    problems = []
    for name, workers in (("data_convert_workers", convert_workers), ("evaluate_workers", evaluate_workers)):
        if not 1 <= workers <= MOST_WORKERS:
            why = f"each worker is a pod; there can be 1 to {MOST_WORKERS}"
            problems.append(Problem(f"{name} is {workers}", "parameters", why, f"{name}=8"))
    if not 1 <= trials_per_pod <= MOST_PER_POD:
        why = f"a pod of the loop does 1 to {MOST_PER_POD} trials; their outcomes are one argument of the next pod"
        problems.append(
            Problem(f"policy_trials_per_pod is {trials_per_pod}", "parameters", why, "policy_trials_per_pod=1")
        )
    if not 0 <= trial_retries <= MOST_RETRIES:
        why = f"a training that died is tried again 0 to {MOST_RETRIES} times"
        problems.append(
            Problem(f"policy_trial_retries is {trial_retries}", "parameters", why, "policy_trial_retries=2")
        )
    return problems


def _check_parameters(dataset_name: str, champion: str, episodes: int, confirm_episodes: int) -> list[Problem]:
    problems = []
    for name, count in (("evaluate_episodes", episodes), ("evaluate_confirm_episodes", confirm_episodes)):
        if count < 1:
            problems.append(
                Problem(f"{name} is {count}", "parameters", "a rate needs at least one episode", f"{name}=50")
            )
    for name, text in (("data_name", dataset_name), ("gate_champion", champion)):
        if not text or not text.replace("-", "").replace("_", "").isalnum():
            problems.append(
                Problem(f"{name} is {text!r}", "parameters", "it becomes a folder name", "use letters, digits, - and _")
            )
    return problems
