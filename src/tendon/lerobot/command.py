"""``tendon lerobot train``: the words of LeRobot's page of 2024, or today's flags, become one trial of ours, or several (-m).

In order: words to a Request, its dataset found and said, every problem at once, conversion, training into the run's folder.
"""

from __future__ import annotations

import itertools
import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tendon import steps
from tendon.config.compose import compose, to_dict
from tendon.config.override_text import quote, shown
from tendon.config.yaml_text import read_yaml
from tendon.data.dataset import open_dataset
from tendon.data.features import Feature
from tendon.data.sources.source import open_source
from tendon.errors import ConfigError, Problem
from tendon.evaluate.feature_table import feature_table
from tendon.evaluate.online_check import online_problems
from tendon.lerobot.datasets import FoundDataset, find_dataset
from tendon.lerobot.expressions import evaluate
from tendon.lerobot.features import declared_problems
from tendon.lerobot.page import flat, read_page, scale_pictures
from tendon.lerobot.request import Request
from tendon.lerobot.today import is_today, parse_flags, read_today
from tendon.runs.planner import pinned
from tendon.storage import join, open_store
from tendon.train.state import checkpoint

if TYPE_CHECKING:
    from tendon.config.schema import TrainConfig
    from tendon.train.state.status import TrainResult

log = logging.getLogger(__name__)

STORE = "outputs/train"
RUN_DIR = "outputs/train/${now:%Y-%m-%d}/${now:%H-%M-%S}_${env.name}_${policy.name}_${hydra.job.name}"
SWEEP_DIR = "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}"
OPTIONS = {
    "--config-dir": "config_dir", "-cd": "config_dir", "--config-path": "config_dir", "-cp": "config_dir",
    "--config-name": "config_name", "-cn": "config_name", "--root": "root", "--store-uri": "store_uri",
}  # fmt: skip
SWITCHES = {"--multirun": "multirun", "-m": "multirun", "--plan": "plan"}
LATE = re.compile(r"training\.lr_warmup_steps is (\d+), training\.offline_steps (\d+)")
NO_ENV = ("env.name=none", "env.task=none")


@dataclass
class CommandLine:
    """Options, and the words that are left."""

    words: list[str] = field(default_factory=list)
    config_dir: str = ""
    config_name: str = "config"
    root: str = ""
    store_uri: str = STORE
    multirun: bool = False
    plan: bool = False


@dataclass(frozen=True)
class Prepared:
    """One trial, checked: nothing was made yet."""

    request: Request
    config: TrainConfig
    datasets: tuple[FoundDataset, ...]
    run_dir: str


@dataclass(frozen=True)
class TrainedRun:
    """One trial that ended."""

    run_dir: str
    overrides: tuple[str, ...]
    result: TrainResult


def train(words: Sequence[str]) -> list[TrainedRun]:
    """Train as ``python lerobot/scripts/train.py WORDS`` or ``lerobot-train WORDS`` would.

    Raises:
        ConfigError: with every key that cannot be kept, before anything is made.

    Example:
        ``train(["policy=act", "env=aloha", "training.offline_steps=100"])``
    """
    line = parse_line(words)
    jobs, prepared = expand_sweep(line), []
    now = datetime.now().astimezone()
    for number, (job, swept) in enumerate(jobs):
        folder = join(named(_sweep_dir(line), now), str(number)) if line.multirun else ""
        prepared.append((prepare(job, now, folder), tuple(swept)))
    if line.plan:
        return []
    return [TrainedRun(one.run_dir, swept, carry_out(one, line.store_uri)) for one, swept in prepared]


def parse_line(words: Sequence[str]) -> CommandLine:
    """Hydra's options, and ours: --root, --store-uri, --plan; the rest are overrides or flags."""
    line, left = CommandLine(), list(words)
    while left:
        word = left.pop(0)
        name, equals, value = word.partition("=")
        if name in OPTIONS and (equals or left):
            setattr(line, OPTIONS[name], value if equals else left.pop(0))
        elif word in SWITCHES:
            setattr(line, SWITCHES[word], True)
        else:
            line.words.append(word)
    return line


def expand_sweep(line: CommandLine) -> list[tuple[CommandLine, list[str]]]:
    """One command line for each job of ``-m``, as Hydra's basic sweeper multiplies them, and what is its own."""
    if not line.multirun:
        return [(line, [])]
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser, choices = OverridesParser.create(), []
    for word in line.words:
        parsed = parser.parse_override(word)
        if not parsed.is_sweep_override():
            choices.append([word])
        else:
            choices.append([f"{parsed.key_or_group}={value}" for value in parsed.sweep_string_iterator()])
    jobs = []
    for combination in itertools.product(*choices):
        swept = [word for word, options in zip(combination, choices, strict=True) if len(options) > 1]
        jobs.append((replace(line, words=list(combination)), swept))
    return jobs


def prepare(line: CommandLine, now: datetime, run_dir: str = "") -> Prepared:
    """Everything that can be known before something is made.

    Raises:
        ConfigError: with every problem.
    """
    with tempfile.TemporaryDirectory() as scratch:
        saved = _saved_folder(line, Path(scratch))
        request, base = _read(line, saved)
        request.root = line.root or request.root
        if not request.repo_ids and not base and not request.resume:
            why, fix = "there is nothing to learn from", "dataset_repo_id=lerobot/pusht"
            request.refuse("dataset_repo_id", list(request.repo_ids), why, fix)
        _raise(request.problems)
        if request.resume:
            return _resumed(request, base)
        datasets = tuple(find_dataset(name, request.root, line.store_uri) for name in request.repo_ids)
        recorded = _recorded(datasets[0]) if datasets else {}
        config = _composed(request, base, saved if base else None, recorded)
    problems = _misfits(request, config, recorded)
    problems += _other_windows(request, config, recorded)
    problems += online_problems(config, recorded or None, plays_here=True)
    _raise(problems)
    _check_device(config)
    folder = run_dir or named(request.run_dir or RUN_DIR, now, config)
    for note in request.notes:
        log.info("note: %s", note)
    for found in datasets:
        log.info("dataset_repo_id=%s: found in the %s: %s", found.repo_id, found.place, found.uri)
    return Prepared(request, config, datasets, folder)


def carry_out(prepared: Prepared, store_uri: str) -> TrainResult:
    """Convert what is not converted, and train."""
    config, request = prepared.config, prepared.request
    if prepared.datasets:
        uris = [_converted(found, store_uri) for found in prepared.datasets]
        skipped = _skipped(uris[0], request.episodes)
        config = replace(config, data=replace(config.data, uri=uris[0], mixture=tuple(uris[1:]), skip_episodes=skipped))
    return steps.train(config=pinned(config), dataset_uri=config.data.uri, trial_uri=prepared.run_dir)


def named(pattern: str, now: datetime, config: TrainConfig | None = None) -> str:
    """A folder's name with Hydra's interpolations filled in."""
    values = {"hydra.job.name": "default"}
    if config is not None:
        values |= {"env.name": config.env.name, "policy.name": config.policy.name, "env.task": config.env.task}

    def filled(found: re.Match[str]) -> str:
        kind, _, form = found[1].partition(":")
        return now.strftime(form) if kind == "now" else values.get(found[1], found[0])

    return re.sub(r"\$\{([^}]+)\}", filled, pattern)


# ------------------------------------------------------------------------------------------------------------- reading


def _saved_folder(line: CommandLine, scratch: Path) -> Path | None:
    """The folder of a saved configuration on this machine, wherever it was."""
    if not line.config_dir:
        return None
    return checkpoint.config_folder(line.config_dir, scratch)


def _read(line: CommandLine, saved: Path | None) -> tuple[Request, dict[str, Any]]:
    """The request; of a configuration that tendon saved, its tree too."""
    if saved is None and is_today(line.words):
        return read_today(parse_flags(line.words)), {}
    pairs = parse_overrides(line.words)
    if saved is None:
        return read_page(pairs), {}
    file = saved / f"{line.config_name.removesuffix('.yaml')}.yaml"
    if not file.is_file():
        names = ", ".join(sorted(one.name for one in saved.glob("*.yaml"))) or "no .yaml file"
        raise ConfigError(
            f"there is no configuration {line.config_name}",
            where=f"--config-dir {line.config_dir}",
            why=f"it has {names}",
            fix="--config-name config",
        )
    tree = read_yaml(file).tree
    assert isinstance(tree, dict)
    chosen = [key for key, _ in pairs if key in ("policy", "env")]
    if chosen:
        why = "a saved configuration is whole: there are no groups to choose from"
        _raise(
            [
                Problem(f"{key}= cannot be chosen", "command line", why, f"change single keys, {key}.<key>=<value>")
                for key in chosen
            ]
        )
    if "dataset_repo_id" in tree:  # LeRobot's own
        resolved = _resolved(tree, str(file))
        return read_page([*_choices(resolved), *flat(resolved), *pairs]), {}
    request = read_page(pairs, saved_policy=str(tree["policy"]["name"]))
    return request, tree


def _resolved(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """``${fps}`` as what it stands for: LeRobot saves interpolations as they were written."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        resolved = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        why, fix = str(error).splitlines()[0], "write the value itself"
        raise ConfigError("an interpolation is not resolved", where=where, why=why, fix=fix) from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _choices(tree: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Which files LeRobot's own configuration came from."""
    return [(group, tree[group]["name"]) for group in ("policy", "env") if "name" in (tree.get(group) or {})]


def parse_overrides(words: Sequence[str]) -> list[tuple[str, Any]]:
    """Hydra's overrides as keys and values.

    Raises:
        ConfigError: with every word that is none.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, pairs, problems = OverridesParser.create(), [], []
    for word in words:
        try:
            parsed = parser.parse_override(word)
        except HydraException as error:
            why = str(error).splitlines()[0]
            problems.append(Problem(f"{word} is no override", "command line", why, "key=value, as the page has it"))
            continue
        if parsed.is_sweep_override():
            why = "several values are a sweep"
            problems.append(Problem(f"{word} gives several values", "command line", why, f"-m {word}"))
        elif parsed.is_delete():
            why = "every key has a value here"
            problems.append(Problem(f"{word} removes a key", "command line", why, f"leave {word} out"))
        elif parsed.key_or_group.startswith("defaults."):
            fix = f"{parsed.key_or_group.removeprefix('defaults.')}={parsed.value()}"
            problems.append(Problem(f"{word} is no key", "command line", "a file is picked by the bare name", fix))
        else:
            pairs.append((parsed.key_or_group, _plain(parsed.value())))
    _raise(problems)
    return pairs


def _plain(value: Any) -> Any:
    """Hydra's quoted texts as texts."""
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return getattr(value, "text", value) if type(value).__name__ == "QuotedString" else value


def _sweep_dir(line: CommandLine) -> str:
    given = [word.partition("=")[2] for word in line.words if word.startswith("hydra.sweep.dir=")]
    return given[-1] if given else SWEEP_DIR


# ------------------------------------------------------------------------------------------------------------ checking


def _recorded(found: FoundDataset) -> dict[str, Feature]:
    if found.is_converted:
        return {feature.key: feature for feature in open_dataset(found.uri).manifest.schema.features}
    return {feature.key: feature for feature in open_source(found.uri).describe().schema.features}


def _composed(
    request: Request, base: Mapping[str, Any], saved: Path | None, recorded: Mapping[str, Feature]
) -> TrainConfig:
    for key in [
        key
        for key, one in request.statistics.items()
        if key in recorded and _width(one) not in (0, _dim(recorded[key]))
    ]:
        request.note(f"override_dataset_stats.{key} is for {_width(request.statistics[key])} numbers and left out")
        del request.statistics[key]
    policy = str(base["policy"]["name"]) if base else request.choices["policy"].split("_")[0]
    scale_pictures(request, policy)
    more, folder = ["data.uri=pending"] if not base or request.repo_ids else [], str(saved) if base else None
    if request.observations == () and "env" not in request.choices:
        keys = [
            key for key, one in recorded.items() if key.startswith("observation.") and one.kind in ("state", "image")
        ]
        more += [*NO_ENV, f"env.observation={quote(keys)}"]
    try:
        return compose([*request.words(), *more], config_dir=folder, config_name="config" if folder else None)
    except ConfigError as error:
        found = [LATE.match(problem.what) for problem in error.problems]
        if not all(found):
            raise
        assert found[0] is not None
        warmup, num_steps = found[0].groups()
    request.note(
        f"training.lr_warmup_steps={warmup} is longer than the training, {num_steps} is taken; LeRobot would end inside it"
    )
    request.set("training.lr_warmup_steps", int(num_steps))
    return compose([*request.words(), *more], config_dir=folder, config_name="config" if folder else None)


def _dim(feature: Feature) -> int:
    return feature.shape[-1] if feature.kind == "image" else feature.dim


def _width(statistics: Mapping[str, Sequence[float]]) -> int:
    return len(next(iter(statistics.values()), ()))


def _misfits(request: Request, config: TrainConfig, recorded: Mapping[str, Feature]) -> list[Problem]:
    """What the policy's file reads that the dataset or the simulator has not."""
    if not recorded:
        return []
    if request.declared is not None and "policy" in request.choices:
        problems = [*declared_problems(request.choices["policy"], request.declared, recorded, config.env)]
        if problems:
            return problems
    return [] if config.env.name == "none" else [*feature_table(config.policy, config.env, recorded).problems]


def _other_windows(request: Request, config: TrainConfig, recorded: Mapping[str, Feature]) -> list[Problem]:
    """delta_timestamps must be those of the policy: its windows follow from its own keys."""
    if not request.deltas:
        return []
    values = {"fps": config.env.fps, "env.fps": config.env.fps}
    values |= {key: value for key, value in flat(to_dict(config)) if isinstance(value, (int, float))}
    chosen = {key: one for key, one in recorded.items() if key.startswith(("observation.", "action"))}
    spans = config.policy.windows(chosen).training if chosen else {}
    problems = []
    for key, given in request.deltas.items():
        if given is None:
            continue
        where = f"training.delta_timestamps.{key}"
        seconds = evaluate(given, values, where) if isinstance(given, str) else [float(one) for one in given]
        steps_given = tuple(round(one * config.env.fps) for one in seconds)
        steps_here = tuple(spans[key].deltas) if key in spans else ()
        if steps_given != steps_here and spans:
            policy = config.policy.name
            why = f"{policy} takes the steps {shown(list(steps_here))} of {key}: they follow from its own keys"
            fix = "policy.chunk_size" if policy == "act" else "policy.horizon and policy.n_obs_steps"
            problems.append(Problem(f"{where} is {shown(list(steps_given))} in steps", where, why, f"change {fix}"))
    return problems


def _check_device(config: TrainConfig) -> None:
    if config.device.startswith("cuda"):
        from tendon.train.loop.device import pick_device

        pick_device(config.device)


def _raise(problems: Sequence[Problem]) -> None:
    if problems:
        raise ConfigError.of(list(problems))


# ----------------------------------------------------------------------------------------------------------- carrying out


def _resumed(request: Request, base: Mapping[str, Any]) -> Prepared:
    """``resume=true``: the checkpoint's configuration counts, as in LeRobot; what was given besides is said."""
    run_dir = request.run_dir
    names = checkpoint.complete(open_store(run_dir)) if run_dir else []
    if not names:
        raise ConfigError(
            "there is nothing to resume",
            where=f"hydra.run.dir={run_dir}",
            why="it has no checkpoints/last" if run_dir else "hydra.run.dir says which run goes on",
            fix="hydra.run.dir=<the folder of the run>, or leave resume=true out",
        )
    with tempfile.TemporaryDirectory() as scratch:
        uri = join(checkpoint.checkpoint_uri(run_dir, names[0]), "pretrained_model")
        config = compose([], config_dir=str(checkpoint.config_folder(uri, Path(scratch))), config_name="config")
    before = dict(flat(to_dict(config)))
    for key, word in request.overrides.items():
        given = word.partition("=")[2]
        if key in before and given != _text(before[key]):
            log.warning("resume=true: the checkpoint's %s=%s counts, not %s", key, _text(before[key]), given)
    return Prepared(request, config, (), run_dir)


def _text(value: Any) -> str:
    try:
        return quote(value)
    except TypeError:
        return shown(value)


def _converted(found: FoundDataset, store_uri: str) -> str:
    if found.is_converted:
        return found.uri
    name = found.repo_id.rstrip("/").rpartition("/")[2].replace(".", "_")
    source = found.uri if "://" in found.uri else str(Path(found.uri).resolve())
    return steps.convert(source_uri=source, store_uri=store_uri, dataset_name=name).dataset_uri


def _skipped(dataset_uri: str, episodes: Sequence[int] | None) -> tuple[str, ...]:
    """Names of the episodes that are left out, where numbers of some were given."""
    if episodes is None:
        return ()
    names = list(open_dataset(dataset_uri).rows.ids())
    beyond = [number for number in episodes if not 0 <= number < len(names)]
    if beyond:
        why = f"the dataset has {len(names)}"
        raise ConfigError(f"there is no episode {beyond[0]}", where="dataset.episodes", why=why, fix="name others")
    return tuple(name for number, name in enumerate(names) if number not in set(episodes))
