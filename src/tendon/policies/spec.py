"""Describes a policy without its weights: the content of policy.json, beside every model.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tendon.config.policies import policy_configs
from tendon.config.schema import PolicyConfig
from tendon.data.features import Feature, kind_in_vocabulary
from tendon.errors import DataError
from tendon.policies.windows import GOAL, Span, Windows

FORMAT = 2  # 1 had sizes by key instead of features, one action, and one window for all observations


@dataclass(frozen=True)
class PolicySpec:
    """Enough to build the policy again and to feed it."""

    config: PolicyConfig
    features: Mapping[str, Feature]  # each that it reads or predicts, with the sizes of its dataset
    windows: Windows
    texts: tuple[str, ...] = ()  # the table that a text's index points into, where it reads one

    @property
    def name(self) -> str:
        """The policy's name in the registry."""
        return self.config.name

    @property
    def action_dim(self) -> int:
        """How many numbers one step of all its actions has."""
        return sum(self.features[key].dim for key in self.config.writes(self.features))

    def to_json(self) -> dict[str, Any]:
        """As written to policy.json."""
        config = asdict(self.config)
        del config["init_from"]  # where training began is not what the policy is: config.yaml says it
        features = {key: feature_to_json(feature) for key, feature in self.features.items()}
        texts = {"texts": list(self.texts)} if self.texts else {}
        return {"format": FORMAT, "policy": config, "features": features, "windows": asdict(self.windows)} | texts

    @staticmethod
    def from_json(data: Mapping[str, Any], where: str) -> PolicySpec:
        """Read what ``to_json`` wrote, in either format; ``where`` names the file in an error."""
        try:
            config = _restored(policy_configs()[data["policy"]["name"]], data["policy"])
            if data["format"] == 1:
                features = {key: _feature_of_format_1(key, shape) for key, shape in data["features"].items()}
                return PolicySpec(config, features, config.windows(features))
            features = {key: feature_from_json(key, values) for key, values in data["features"].items()}
            return PolicySpec(config, features, _windows(data["windows"]), tuple(data.get("texts", ())))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(
                "the description of the policy cannot be read",
                where=where,
                why=f"format {data.get('format')!r}, expected {FORMAT}; {type(error).__name__}: {error}",
                fix="use the version of tendon that wrote it, or train and export again",
            ) from error


def feature_to_json(feature: Feature) -> dict[str, Any]:
    """Plain values; the key stands in front of them."""
    names = {"names": list(feature.names)} if feature.names else {}
    return {"kind": feature.kind, "shape": list(feature.shape), "dtype": feature.dtype} | names


def feature_from_json(key: str, values: Mapping[str, Any]) -> Feature:
    """What ``feature_to_json`` wrote."""
    shape = tuple(int(size) for size in values["shape"])
    return Feature(key, values["kind"], shape, values["dtype"], tuple(values.get("names", ())))


def _feature_of_format_1(key: str, shape: Any) -> Feature:
    """D of a vector, (C, L) of a range scan, (C, H, W) of a camera."""
    if isinstance(shape, int):
        return Feature(key, kind_in_vocabulary(key.removeprefix(GOAL)), (shape,), "float32")
    if len(shape) == 2:
        return Feature(key, "depth", (shape[0], shape[1]), "float32")
    channels, height, width = shape
    return Feature(key, "image", (height, width, channels), "uint8")


def _windows(data: Mapping[str, Any]) -> Windows:
    spans = {
        name: {key: Span(tuple(span["deltas"]), span["before"], span["after"]) for key, span in data[name].items()}
        for name in ("training", "acting")
    }
    windows: Windows = _restored(Windows, {**data, **spans})
    return windows


def _restored(kind: type[Any], data: Mapping[str, Any]) -> Any:
    """A frozen dataclass from its JSON: lists were tuples."""
    names = {field.name for field in fields(kind)}
    unknown = sorted(set(data) - names)
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})
