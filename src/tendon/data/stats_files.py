"""Statistics in the files that other projects read: LeRobot's and GR00T's stats.json, GR00T's metadata.json, openpi's norm_stats.json.

Pure: DatasetStats and a Manifest in, JSON values out. Called by ``tendon stats --format``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tendon.data.episode import Schema
from tendon.data.manifest import Manifest
from tendon.data.normalize import MIN_SPAN, MIN_STD
from tendon.data.stats import DatasetStats, FeatureStats

MOMENTS = ("mean", "std", "min", "max", "q01", "q99")
STATE = "observation.state"
EMBODIMENT = "new_embodiment"


def stats_json(stats: DatasetStats, manifest: Manifest) -> dict[str, Any]:
    """meta/stats.json of LeRobot and GR00T: per column mean, std, min, max, q01, q99 and count."""
    return {name: _moments(each) | {"count": [each.count]} for name, each in stats.features.items()}


def groot_metadata(stats: DatasetStats, manifest: Manifest, embodiment: str = EMBODIMENT) -> dict[str, Any]:
    """experiment_cfg/metadata.json of GR00T: statistics and modalities of one embodiment, by the keys of modality.json."""
    schema, modality = manifest.schema, manifest.metadata.get("modality", {})
    video = {
        camera.name.rpartition(".")[2]: {
            "resolution": [camera.width, camera.height],
            "channels": camera.channels,
            "fps": camera.fps or schema.fps,
        }
        for camera in schema.cameras
    }
    statistics: dict[str, Any] = {}
    modalities: dict[str, Any] = {"video": video}
    for kind, part in (("state", _states(stats.features)), ("action", _actions(stats.features))):
        declared = modality.get("parts", {}).get(kind, {})
        keyed = _by_key(part, kind, declared, modality.get("order", {}).get(kind, ()))
        statistics[kind] = {key: _moments(each) for key, each in keyed.items()}
        modalities[kind] = {key: _modality(key, each, declared.get(key, {}), schema) for key, each in keyed.items()}
    return {embodiment: {"statistics": statistics, "modalities": modalities, "embodiment_tag": embodiment}}


def openpi_norm_stats(stats: DatasetStats, manifest: Manifest) -> dict[str, Any]:
    """assets/<id>/norm_stats.json of openpi; the state is ``observation.state``, or all of what is observed in order.

    openpi divides by std and by q99 - q01: both are kept from being so small that noise around a constant explodes.
    """
    features = _in_order(stats, manifest)
    states = _states(features)
    state = [states["state"]] if "state" in states else list(states.values())
    return {"norm_stats": {"state": _floored(state), "actions": _floored(list(_actions(features).values()))}}


FORMATS: Mapping[str, Callable[[DatasetStats, Manifest], dict[str, Any]]] = {
    "lerobot": stats_json,
    "groot": groot_metadata,
    "openpi": openpi_norm_stats,
}


def _in_order(stats: DatasetStats, manifest: Manifest) -> dict[str, FeatureStats]:
    """Statistics in the order of the dataset's columns, which is that of modality.json where there is one."""
    order = dict.fromkeys([*(each.key for each in manifest.schema.columns), *stats.features])
    return {key: stats.features[key] for key in order if key in stats.features}


def _moments(each: FeatureStats) -> dict[str, list[float]]:
    return {key: list(asdict(each)[key]) for key in MOMENTS}


def _by_key(
    part: dict[str, FeatureStats], kind: str, declared: Mapping[str, Any], order: Sequence[str]
) -> dict[str, FeatureStats]:
    """Statistics by the keys of modality.json, also where a data configuration has joined them to one vector."""
    if not order:
        return {key: each for key, each in part.items() if not declared or key in declared}
    at, stats = 0, {}
    for key in order:
        dims = slice(at, at + declared[key]["shape"][0])
        stats[key] = replace(part[kind], **{name: getattr(part[kind], name)[dims] for name in MOMENTS})
        at = dims.stop
    return stats


def _modality(key: str, each: FeatureStats, declared: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """What is known of a part: from modality.json, else from its dtype."""
    dtypes = {feature.key.rpartition(".")[2]: feature.dtype for feature in schema.columns}
    usual = {"absolute": True, "rotation_type": None, "shape": [len(each.mean)]}
    usual["continuous"] = np.dtype(dtypes.get(key, "float32")).kind == "f"
    return {name: declared.get(name, value) for name, value in usual.items()}


def _states(features: Mapping[str, FeatureStats]) -> dict[str, FeatureStats]:
    return {
        name.removeprefix("observation."): each for name, each in features.items() if name.startswith("observation.")
    }


def _actions(features: Mapping[str, FeatureStats]) -> dict[str, FeatureStats]:
    return {name.removeprefix("action."): each for name, each in features.items() if name.split(".")[0] == "action"}


def _floored(parts: list[FeatureStats]) -> dict[str, list[float]]:
    values = {
        key: np.concatenate([np.array(getattr(each, key)) for each in parts]) for key in ("mean", "std", "q01", "q99")
    }
    lacking = np.maximum(MIN_SPAN - (values["q99"] - values["q01"]), 0) / 2
    values["std"] = np.maximum(values["std"], MIN_STD)
    values["q01"], values["q99"] = values["q01"] - lacking, values["q99"] + lacking
    return {key: each.tolist() for key, each in values.items()}
