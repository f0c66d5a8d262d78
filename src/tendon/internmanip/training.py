"""An InternManip user's training: its YAML in, a trained policy out. Called by ``tendon train --config`` and by hand."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tendon import steps
from tendon.config.compose import compose, from_dict, to_dict
from tendon.config.feature_map import FeatureMap
from tendon.config.foreign.internmanip import JOINED, ManipRun, read_manip, translate
from tendon.config.override_text import quote
from tendon.data.dataset import Dataset, open_dataset
from tendon.data.features import TASK
from tendon.data.sources.lerobot import MODALITY
from tendon.data.sources.modality import WHOLE
from tendon.data.sources.modality_configs import find_data_config
from tendon.data.stats import DatasetStats, merge_stats
from tendon.data.stats_files import groot_metadata, openpi_norm_stats
from tendon.errors import ConfigError, DataError
from tendon.runs.planner import pinned, run_key
from tendon.storage import join, open_store
from tendon.weights.spec import content_sha256

if TYPE_CHECKING:
    from tendon.config.schema import TrainConfig
    from tendon.train.state.status import TrainResult

log = logging.getLogger(__name__)
GRIPPER = "gripper"
METADATA, NORM_STATS = "experiment_cfg/metadata.json", "experiment_cfg/norm_stats.json"


@dataclass(frozen=True)
class ManipTraining:
    """A run of ours, made of a YAML of theirs."""

    config: TrainConfig
    store_uri: str
    trial_uri: str
    embodiment: str


def configure(
    config: str | Path | Mapping[str, Any],
    dataset: str | Path | None = None,
    store_uri: str = "outputs/train",
    overrides: Sequence[str] = (),
) -> ManipTraining:
    """A YAML with its datasets, converted, as ours; what has no effect here is logged.

    Args:
        config: the file, or its content.
        dataset: instead of ``dataset_path``.
        store_uri: where everything is kept, if ``output_dir`` is empty.
        overrides: of our configuration, applied last.

    Raises:
        ConfigError: with everything that cannot be kept; before anything is converted.
    """
    if isinstance(config, Mapping):
        run = translate({**config, **({"dataset_path": str(dataset)} if dataset else {})})
    else:
        run = read_manip(config, str(dataset) if dataset else "")
    for note in run.notes:
        log.info("note: %s", note)
    store = run.output_dir or store_uri
    datasets = [_converted(address, run, store) for address in run.datasets]
    chosen = {**run.overrides, **_base(run), **_data(run, datasets)}
    texts = [f"{key}={quote(value)}" for key, value in chosen.items() if not isinstance(value, Mapping)]
    tree = to_dict(compose([*_env(run, datasets[0]), f"policy={run.policy}", *texts, *overrides]))
    for key, value in chosen.items():  # an override has no way to write keys with dots
        if isinstance(value, Mapping) and not any(one.lstrip("+~").startswith(f"{key}=") for one in overrides):
            section, _, name = key.partition(".")
            tree[section][name] = dict(value)
    made = pinned(from_dict(tree, "the configuration"))
    return ManipTraining(made, store, join(store, "trials", run_key(made)), run.embodiment)


def train(
    config: str | Path | Mapping[str, Any],
    dataset: str | Path | None = None,
    store_uri: str = "outputs/train",
    overrides: Sequence[str] = (),
) -> TrainResult:
    """Train as ``tendon train --config`` does; the arguments are those of ``configure``."""
    made = configure(config, dataset, store_uri, overrides)
    write_statistics(made.config, made.trial_uri, made.embodiment)
    return steps.train(config=made.config, dataset_uri=made.config.data.uri, trial_uri=made.trial_uri)


def write_statistics(config: TrainConfig, trial_uri: str, embodiment: str) -> None:
    """GR00T's metadata.json and openpi's norm_stats.json of a trial, both from the statistics that it is trained with.

    Datasets of a mixture are one embodiment: their statistics are merged.
    """
    parts = []
    for uri in (config.data.uri, *config.data.mixture):
        ids = set(open_dataset(uri).rows.ids())
        skipped = [name for name in config.data.skip_episodes if name in ids]
        found = steps.stats(dataset_uri=uri, split=config.data.split, skip_episodes=skipped)
        parts.append(DatasetStats.from_json(json.dumps(found.stats)))
    stats, manifest = merge_stats(parts), open_dataset(config.data.uri).manifest
    store = open_store(trial_uri)
    for name, content in (
        (METADATA, groot_metadata(stats, manifest, embodiment)),
        (NORM_STATS, openpi_norm_stats(stats, manifest)),
    ):
        store.write(name, (json.dumps(content, indent=4) + "\n").encode())


def _converted(address: str, run: ManipRun, store: str) -> Dataset:
    """A dataset of ours: as it is, or made of a LeRobot folder."""
    if open_store(address).head("manifest.json") is not None:
        return open_dataset(address)
    if "://" not in address and not Path(address).is_dir():
        raise ConfigError(
            f"there is no dataset {address}",
            where="dataset_path",
            why="no such folder, and nothing is fetched from a hub here",
            fix="download it, and name its folder",
        )
    source = address if "://" in address else str(Path(address).resolve())
    if open_store(source).head(MODALITY) is not None:
        source += f"?data_config={run.data_config}" + ("" if run.policy in JOINED else "&joined=0")
    else:
        log.info("note: %s has no %s: data_config=%s orders and scales nothing", address, MODALITY, run.data_config)
    name = Path(address.rstrip("/")).name.replace(".", "_")
    return open_dataset(steps.convert(source_uri=source, store_uri=store, dataset_name=name).dataset_uri)


def _data(run: ManipRun, datasets: Sequence[Dataset]) -> dict[str, Any]:
    """Splits, mixture, weights, frames that come more often, scaling of parts."""
    first = datasets[0]
    split = "train" if all("train" in each.splits for each in datasets) else "all"
    put: dict[str, Any] = {"data.uri": first.uri, "data.split": split}
    if len(datasets) > 1:
        put["data.mixture"] = [each.uri for each in datasets[1:]]
        if not run.balance_datasets:
            put["data.mixture_weights"] = [1.0] * len(datasets)
    if run.skip_unlabeled:
        put["data.skip_episodes"] = _unlabeled(datasets, split)
    if not run.balance_trajectories:
        put["data.episode_weights"] = _episode_weights(datasets, split, put.get("data.skip_episodes", ()))
    if run.augsteps:
        put |= _repeats(first, run.augsteps)
    return put | _scaling(run, first)


def _unlabeled(datasets: Sequence[Dataset], split: str) -> list[str]:
    """Ids of episodes whose text is empty."""
    skipped = []
    for dataset in datasets:
        rows = dataset.episodes(split)
        unlabeled = [row.episode_id for row in rows if not dataset.texts[dataset.task_numbers[row.index]].strip()]
        if len(unlabeled) == len(rows):
            raise DataError(
                "no episode has a text",
                where=f"skip_unlabeled, {dataset.uri}",
                why=f"the task of all {len(rows)} episodes is empty",
                fix="skip_unlabeled: false, or mend meta/tasks.jsonl",
            )
        skipped += unlabeled
    return sorted(set(skipped))


def _episode_weights(datasets: Sequence[Dataset], split: str, skipped: Sequence[str]) -> dict[str, float]:
    """So that every episode comes equally often: the mean length over its own."""
    weights: dict[str, float] = {}
    for dataset in datasets:
        rows = dataset.episodes(split, [name for name in skipped if name in set(dataset.rows.ids())])
        mean = sum(row.length for row in rows) / len(rows)
        for row in rows:
            weight = round(mean / row.length, 6)
            if weights.setdefault(row.episode_id, weight) != weight:
                raise ConfigError(
                    f"two datasets have an episode {row.episode_id}",
                    where="balance_trajectory_weights: false",
                    why="weights belong to an episode's name, and these differ in length",
                    fix="balance_trajectory_weights: true, or one dataset with both",
                )
    return weights


def _repeats(dataset: Dataset, times: int) -> dict[str, Any]:
    """Frames near a change of a gripper's action."""
    watched = [key for key in dataset.schema.dims if key.startswith("action.") and GRIPPER in key]
    watched = watched or [f"action[{start}:{end}]" for key, start, end in _parts(dataset, "action") if GRIPPER in key]
    if not watched:
        log.info("note: augsteps=%d has no effect: no part of the action is called %s", times, GRIPPER)
        return {}
    return {"data.repeat_changes": "+".join(watched), "data.repeat_times": times}


def _scaling(run: ManipRun, dataset: Dataset) -> dict[str, Any]:
    """The modes of the data configuration: by part of the joined vectors, or by feature."""
    modes = dataset.manifest.metadata.get("modality", {}).get("normalization", {})
    if not modes:
        return {}
    if run.policy not in JOINED:
        by_feature = {
            f"{'observation' if key.startswith('state.') else 'action'}.{key.partition('.')[2]}": mode
            for key, mode in modes.items()
        }
        return {"policy.normalization": by_feature}
    return {
        "policy.normalization": {
            whole: [[start, end, modes[f"{kind}.{key}"]] for key, start, end in _parts(dataset, kind)]
            for kind, whole in (("state", "observation.state"), ("action", "action"))
        }
    }


def _parts(dataset: Dataset, kind: str) -> list[tuple[str, int, int]]:
    """Key, first and end of each part of a joined vector."""
    modality = dataset.manifest.metadata.get("modality", {})
    made, at = [], 0
    for key in modality.get("order", {}).get(kind, ()):
        end = at + modality["parts"][kind][key]["shape"][0]
        made.append((key, at, end))
        at = end
    return made


def _base(run: ManipRun) -> dict[str, Any]:
    """Where weights begin: a bundle or checkpoint of ours, or published weights below what learns."""
    path = run.base_model_path
    if not path:
        return {}
    is_here = "://" not in path
    if is_here and not Path(path).exists():
        why = "no such file or folder, and nothing is fetched from a hub without its content's hash"
        raise ConfigError(
            f"there are no weights {path}", where="base_model_path", why=why, fix="download them, and name the folder"
        )
    store = open_store(path)
    ours = not (is_here and Path(path).is_file()) and any(
        store.head(name) is not None for name in ("policy.json", "pretrained_model/policy.json")
    )
    if ours or run.policy in JOINED:
        return {"policy.init_from": path}
    if not is_here:
        return {"policy.base_model_path": path}  # with policy.base_sha256 on the command line
    return {"policy.base_model_path": str(Path(path).resolve()), "policy.base_sha256": content_sha256(Path(path))}


def _env(run: ManipRun, dataset: Dataset) -> list[str]:
    """The simulator of the data configuration, or none; the policy is shown all that the configuration names."""
    features = dataset.manifest.schema.features
    states = [each.key for each in features if each.kind == "state" and each.key.startswith("observation.")]
    if MODALITY_CONFIG in dataset.manifest.metadata.get("modality", {}):
        wanted = find_data_config(run.data_config, "data_config")[1].state
        named = [WHOLE["state"]] if run.policy in JOINED else [f"observation.{key}" for key in wanted]
        states = [key for key in named if key in states]
    keys = [*states, *(each.name for each in dataset.manifest.schema.cameras), TASK]
    parts = {each.key.partition(".")[2]: each.dim for each in features if each.key.startswith("action.")}
    name = SIMULATORS.get(run.data_config, "")
    if name:
        names = FeatureMap.of(compose([f"env={name}", "data.uri=x"]).env)
        told = [f"env.action={quote(parts)}", "++env.options.parts=true"] if parts else []
        return [f"env={name}", f"env.observation={quote([names.observation_of(key) for key in keys])}", *told]
    fps = dataset.manifest.schema.fps or 10
    return [
        *("env=reach", "env.name=unknown", "env.task=unknown", f"env.fps={fps}", f"env.observation={quote(keys)}"),
        *([f"env.action={quote(parts)}"] if parts else []),
    ]


MODALITY_CONFIG = "normalization"  # of manifest.json: a data configuration was used
SIMULATORS = {
    "genmanip_v1": "genmanip",
    "calvin_abc": "calvin",
    "calvin_abcd": "calvin",
    "bridgedata_v2": "simpler_widowx",
    "bridgedata_v2_q99": "simpler_widowx",
    "google_robot": "simpler_google",
}
