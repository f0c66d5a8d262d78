"""Whole weights as Hugging Face lays them out: safetensors in shards with an index, and policy.json beside them.

Adapters and base weights are merged, names are ours. The folder can be the base of another policy or what it starts from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tendon.policies.base import Policy
from tendon.policies.spec import PolicySpec
from tendon.weights.build import build_merged
from tendon.weights.foreign import ForeignPolicy, WeightFormat
from tendon.weights.load import SHARD_BYTES, write_sharded
from tendon.weights.lora import merged_state


class Safetensors(WeightFormat):
    """The entry of the table."""

    name = "safetensors"

    def __init__(self, shard_bytes: int = SHARD_BYTES) -> None:
        self.shard_bytes = shard_bytes

    def sniff(self, path: Path) -> bool:
        """A folder with policy.json and safetensors."""
        return (path / "policy.json").is_file() and any(path.glob("*.safetensors"))

    def read(self, path: Path) -> ForeignPolicy:
        """The policy that the folder describes."""
        info = PolicySpec.from_json(json.loads((path / "policy.json").read_text()), str(path / "policy.json"))
        return ForeignPolicy(build_merged(info.config, info.features, path, str(path)).eval(), info)

    def write(self, policy: Policy, info: PolicySpec, path: Path, version: str, kept: Mapping[str, Any]) -> None:
        """A folder; one that is there is added to."""
        write_sharded({name: tensor.cpu() for name, tensor in merged_state(policy).items()}, path, self.shard_bytes)
        (path / "policy.json").write_text(json.dumps(info.to_json(), indent=1) + "\n")


FORMAT = Safetensors()
