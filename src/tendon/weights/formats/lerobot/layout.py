"""How LeRobot describes features and processors in JSON, of its three ages, and the JSON that we write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tendon.data.features import Feature
from tendon.errors import DataError
from tendon.policies.base import Policy
from tendon.policies.processing.normalize import Mode
from tendon.policies.spec import PolicySpec
from tendon.policies.windows import ACTION
from tendon.weights.formats.lerobot.statistics import MODES

BEFORE, AFTER = "policy_preprocessor", "policy_postprocessor"
ENVIRONMENT = "observation.environment_state"
OLD_MODES: Mapping[str, Mode] = {"mean_std": "mean_std", "min_max": "min_max"}


@dataclass(frozen=True)
class Layout:
    """The JSON files of the processors, and the names of the files with statistics."""

    texts: Mapping[str, str]
    states: tuple[str, ...]

    @classmethod
    def of(cls, config: Mapping[str, Any], before: Mapping[str, str]) -> Layout:
        """For a config.json; ``before``: the processors of the folder that a policy came from, whose other steps stay."""
        texts = {}
        for name, default in ((BEFORE, _preprocessor(config)), (AFTER, _postprocessor(config))):
            pipeline = json.loads(before.get(f"{name}.json", json.dumps(default)))
            scaling = {"features": _scaled(config, name), "norm_map": config["normalization_mapping"]}
            for step in pipeline["steps"]:
                if step.get("registry_name") in ("normalizer_processor", "unnormalizer_processor"):
                    step["config"] = {**step["config"], **scaling}
            texts[f"{name}.json"] = json.dumps(pipeline, indent=2)
        return cls(texts, processor_texts(texts).states)


def processor_texts(texts: Mapping[str, str]) -> Layout:
    """The processors among the JSON files of a folder."""
    found = {name: text for name, text in texts.items() if name in (f"{BEFORE}.json", f"{AFTER}.json")}
    steps = [step for text in found.values() for step in json.loads(text)["steps"]]
    return Layout(found, tuple(step["state_file"] for step in steps if "state_file" in step))


def features_of(config: Mapping[str, Any], where: str) -> tuple[dict[str, Feature], dict[str, str], dict[str, Mode]]:
    """Our features, LeRobot's type of each, and the mode of each type.

    Raises:
        DataError: a type, a mode or a shape that tendon does not have.
    """
    if "input_shapes" in config:
        return _features_of_old(config, where)
    shapes = {**config["input_features"], **config["output_features"]}
    types = {key: str(one["type"]) for key, one in shapes.items()}
    features = {key: _feature(key, types[key], one["shape"], where) for key, one in shapes.items()}
    modes: dict[str, Mode] = {}
    for type_name in set(types.values()):
        asked = config["normalization_mapping"].get(type_name, "IDENTITY")
        if asked not in MODES:
            why = f"the modes are {', '.join(MODES)}"
            raise DataError(f"{type_name} is scaled by {asked}", where=where, why=why, fix="train it here")
        modes[type_name] = MODES[asked]
    return features, types, modes


def their_features(info: PolicySpec, policy: Policy) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """What LeRobot writes of the features that are read and of those that are predicted, and the type of each."""
    types = {key: _type(info.features[key]) for key in (*info.features,) if key in (*policy.reads, *policy.writes)}
    described = {key: {"type": one, "shape": _their_shape(info.features[key])} for key, one in types.items()}
    inputs = {key: one for key, one in described.items() if key in policy.reads}
    return inputs, {key: described[key] for key in policy.writes}, types


def _features_of_old(
    config: Mapping[str, Any], where: str
) -> tuple[dict[str, Feature], dict[str, str], dict[str, Mode]]:
    """Before 2025: shapes and modes by key; a type follows from the key."""
    shapes = {**config["input_shapes"], **config["output_shapes"]}
    types = {key: _old_type(key) for key in shapes}
    features = {key: _feature(key, types[key], shape, where) for key, shape in shapes.items()}
    asked = {**config["input_normalization_modes"], **config["output_normalization_modes"]}
    modes: dict[str, Mode] = {}
    for key, type_name in types.items():
        mode = OLD_MODES[asked[key]] if key in asked else "identity"
        if modes.setdefault(type_name, mode) != mode:
            why = f"{key} is scaled by {mode}, others of its kind by {modes[type_name]}"
            raise DataError("features of one kind are scaled differently", where=where, why=why, fix="train it here")
    return features, types, modes


def _old_type(key: str) -> str:
    if key == ACTION:
        return "ACTION"
    return "VISUAL" if key.startswith("observation.image") else "ENV" if key == ENVIRONMENT else "STATE"


def _feature(key: str, type_name: str, shape: list[int], where: str) -> Feature:
    sizes = tuple(int(size) for size in shape)
    if type_name == "VISUAL":
        return Feature(key, "image", (*sizes[1:], sizes[0]), "uint8")
    if type_name not in ("STATE", "ENV", "ACTION"):
        why = "tendon's have STATE, ENV, VISUAL and ACTION"
        raise DataError(f"{key} is {type_name}", where=where, why=why, fix="train it here")
    return Feature(key, "action" if type_name == "ACTION" else "state", sizes, "float32")


def _type(feature: Feature) -> str:
    if feature.kind == "image":
        return "VISUAL"
    return "ACTION" if feature.kind == "action" else "ENV" if feature.key == ENVIRONMENT else "STATE"


def _their_shape(feature: Feature) -> list[int]:
    if feature.kind == "image":
        return [feature.shape[-1], *feature.shape[:-1]]
    return [feature.dim]


def _scaled(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Outputs alone behind the network."""
    outputs: dict[str, Any] = config["output_features"]
    return outputs if name == AFTER else {**config["input_features"], **outputs}


def _preprocessor(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": BEFORE,
        "steps": [
            {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
            {"registry_name": "to_batch_processor", "config": {}},
            _on_device(config["device"]),
            _scaler("normalizer_processor", BEFORE, 3),
        ],
    }


def _postprocessor(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": AFTER, "steps": [_scaler("unnormalizer_processor", AFTER, 0), _on_device("cpu")]}


def _on_device(device: str) -> dict[str, Any]:
    return {"registry_name": "device_processor", "config": {"device": device, "float_dtype": None}}


def _scaler(registry_name: str, pipeline: str, index: int) -> dict[str, Any]:
    file = f"{pipeline}_step_{index}_{registry_name}.safetensors"
    return {"registry_name": registry_name, "config": {"eps": 1e-8}, "state_file": file}
