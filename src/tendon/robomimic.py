"""A robomimic user's training: its JSON and its HDF5 in, a trained policy out. Called by ``tendon train --config`` and by hand.

tree = robomimic.read_json("bc_transformer.json")
tree["train"]["batch_size"] = 16
result = robomimic.train(tree, "lift.hdf5", store_uri="outputs/train")
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tendon import steps
from tendon.config.compose import compose
from tendon.config.foreign.robomimic import read_json, translate
from tendon.config.override_text import quote
from tendon.config.tree import CONF
from tendon.data.dataset import open_dataset
from tendon.errors import ConfigError
from tendon.registry.planner import pinned, run_key
from tendon.storage import join

if TYPE_CHECKING:
    from tendon.config.schema import TrainConfig
    from tendon.train.status import TrainResult

__all__ = ["configure", "read_json", "train"]
log = logging.getLogger(__name__)


def configure(
    config: str | Path | Mapping[str, Any],
    dataset: str | Path | None = None,
    store_uri: str = "outputs/train",
    overrides: Sequence[str] = (),
) -> TrainConfig:
    """A robomimic configuration with its dataset, converted, as ours; what has no meaning here is logged.

    Args:
        config: a JSON file of v0.1 to v0.5, or its content.
        dataset: HDF5 to convert, instead of ``train.data``.
        store_uri: where the converted dataset is kept.
        overrides: of our configuration, applied last.

    Raises:
        ConfigError: with everything that cannot be kept; before anything is converted.
    """
    tree = config if isinstance(config, Mapping) else read_json(config)
    place = "robomimic configuration" if isinstance(config, Mapping) else str(config)
    given = dataset or tree.get("train", {}).get("data")
    if not isinstance(given, (str, Path)) or not str(given):
        why = "train.data is not a path, and no other dataset is named"
        raise ConfigError("there is no dataset", where=place, why=why, fix="--dataset FILE.hdf5")
    translate(tree, place, steps_per_pass=1)
    uri = str(given)
    source = uri if "://" in uri else str(Path(uri).resolve())
    name = Path(uri).stem.replace(".", "_")
    converted = steps.convert(source_uri=source, store_uri=store_uri, dataset_name=name)
    manifest = open_dataset(converted.dataset_uri).manifest
    split = tree.get("train", {}).get("hdf5_filter_key")
    frames = manifest.splits[split].steps if split in manifest.splits else manifest.steps
    passes = max(1, frames // int(tree.get("train", {}).get("batch_size", 100)))
    translation = translate(tree, place, steps_per_pass=passes, splits=tuple(manifest.splits))
    for note in translation.notes:
        log.info("note: %s", note)
    env = _env(str(manifest.metadata.get("env_name", manifest.metadata.get("env_args", {}).get("env_name", ""))))
    return pinned(compose([*env, *translation.overrides, f"data.uri={quote(converted.dataset_uri)}", *overrides]))


def train(
    config: str | Path | Mapping[str, Any],
    dataset: str | Path | None = None,
    store_uri: str = "outputs/train",
    overrides: Sequence[str] = (),
) -> TrainResult:
    """Train as ``tendon train --config`` does; the arguments are those of ``configure``."""
    made = configure(config, dataset, store_uri, overrides)
    return steps.train(config=made, dataset_uri=made.data.uri, trial_uri=join(store_uri, "trials", run_key(made)))


def _env(task: str) -> list[str]:
    """The environment whose task the file names; without one, the policy is evaluated by whoever chooses an ``env``."""
    for file in (CONF / "env").glob("*.yaml"):
        if compose([f"env={file.stem}", "data.uri=x"]).env.task == task:
            return [f"env={file.stem}"]
    return ["env=lift", "env.name=unknown", f"env.task={quote(task or 'unknown')}"]
