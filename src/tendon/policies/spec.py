"""Describes a policy without its weights: the content of policy.json, beside every model.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tendon.config.policies import policy_configs
from tendon.config.schema import PolicyConfig
from tendon.errors import DataError
from tendon.policies.windows import Shape, Window

FORMAT = 1


@dataclass(frozen=True)
class PolicySpec:
    """Enough to build the policy again and to feed it."""

    config: PolicyConfig
    features: Mapping[str, Shape]  # dimensions of each feature it reads or predicts
    window: Window

    @property
    def name(self) -> str:
        """The policy's name in the registry."""
        return self.config.name

    @property
    def action_dim(self) -> int:
        """How many numbers one action has."""
        dim = self.features[self.window.action_key]
        assert isinstance(dim, int)
        return dim

    def to_json(self) -> dict[str, Any]:
        """As written to policy.json."""
        config, window = asdict(self.config), asdict(self.window)
        del config["init_from"]  # where training began is not what the policy is: config.yaml says it
        return {"format": FORMAT, "policy": config, "features": dict(self.features), "window": window}

    @staticmethod
    def from_json(data: Mapping[str, Any], where: str) -> PolicySpec:
        """Read what ``to_json`` wrote; ``where`` names the file in an error."""
        try:
            config = _restored(policy_configs()[data["policy"]["name"]], data["policy"])
            features = {key: _shape(shape) for key, shape in data["features"].items()}
            return PolicySpec(config, features, _restored(Window, data["window"]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(
                "the description of the policy cannot be read",
                where=where,
                why=f"format {data.get('format')!r}, expected {FORMAT}; {type(error).__name__}: {error}",
                fix="use the version of tendon that wrote it, or train and export again",
            ) from error


def _shape(value: Any) -> Shape:
    return tuple(int(one) for one in value) if isinstance(value, list) else int(value)


def _restored(kind: type[Any], data: Mapping[str, Any]) -> Any:
    """A frozen dataclass from its JSON: lists were tuples."""
    names = {field.name for field in fields(kind)}
    unknown = sorted(set(data) - names)
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})
