"""Does a converted policy act as the one it came from: the same fixed inputs through both, and the largest difference.

Every file that export makes carries such a record; one that does not hold is an error of the export, never a footnote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tendon.data.features import Feature
from tendon.errors import DataError
from tendon.policies.base import Batch, Policy
from tendon.policies.processing.processing import batch_shape

NUM_INPUTS = 64  # episodes of the fixed inputs
NUM_SEEN_INPUTS = 8  # of a policy with cameras
NUM_STEPS = 12  # actions asked in a row: a policy's memory is compared too, and its fresh start after ten steps
SEED = 20240725


@dataclass(frozen=True)
class ParityRecord:
    """Two policies on the same inputs."""

    what: str
    inputs: str  # sha256 of the inputs' bytes
    max_abs_difference: float
    tolerance: float
    holds: bool

    def to_json(self) -> dict[str, Any]:
        """As written to parity.json."""
        return asdict(self)


def fixed_inputs(policy: Policy, features: Mapping[str, Feature], num_texts: int = 1) -> list[Batch]:
    """Observations ``[B, T, ...]`` for a few steps, from a fixed seed: a wide normal, some rows far out; any bytes, any text."""
    sees = any(features[key].kind in ("image", "depth", "mask") for key in policy.windows.acting)
    num_inputs = NUM_SEEN_INPUTS if sees else NUM_INPUTS
    generator = torch.Generator().manual_seed(SEED)
    spread_B = torch.logspace(-1, 1, num_inputs)

    def values(key: str) -> torch.Tensor:
        feature = features[key]
        sizes = (num_inputs, len(policy.windows.acting[key].deltas), *batch_shape(feature))
        if feature.kind in ("image", "mask"):
            most = 256 if feature.kind == "image" else 2
            return torch.randint(0, most, sizes, generator=generator, dtype=torch.uint8)
        if feature.is_integer:
            most = max(1, num_texts if feature.kind == "text" else len(feature.names))
            return torch.randint(0, most, sizes, generator=generator)
        return spread_B.view(-1, *[1] * (len(sizes) - 1)) * torch.randn(sizes, generator=generator)

    return [{key: values(key) for key in policy.windows.acting} for _ in range(NUM_STEPS)]


def actions_over(policy: Policy, inputs: Sequence[Batch]) -> list[Batch]:
    """What the policy does at each of the inputs, taken as consecutive steps of as many episodes as a batch has rows."""
    memory = policy.start(*range(len(next(iter(inputs[0].values())))))
    actions = []
    for observation in inputs:
        step, memory = policy.act(observation, memory)
        actions.append({key: action.cpu() for key, action in step.items()})
    return actions


def compare(
    what: str, source: Policy, result: Policy | Sequence[Batch], inputs: Sequence[Batch], tolerance: float = 0.0
) -> ParityRecord:
    """Actions of both over the inputs as consecutive steps; ``result`` may be the actions of another process."""
    expected = actions_over(source, inputs)
    actions = actions_over(result, inputs) if isinstance(result, Policy) else result
    difference = 0.0 if len(actions) == len(expected) else float("inf")
    for one, other in zip(expected, actions, strict=False):
        for step in _differences(one, other):
            difference = max(difference, step) if step == step else float("inf")  # a NaN on either side never holds
    return ParityRecord(what, _digest(inputs), difference, tolerance, difference <= tolerance)


def _differences(one: Batch, other: Batch) -> list[float]:
    """The largest difference of each action of a step."""
    if {key: action.shape for key, action in one.items()} != {key: action.shape for key, action in other.items()}:
        return [float("inf")]
    return [(one[key].double() - other[key].double()).abs().max().item() for key in one]


def demand(record: ParityRecord, where: str) -> ParityRecord:
    """The record, if it holds.

    Raises:
        DataError: it does not.
    """
    if not record.holds:
        raise DataError(
            f"{record.what} does not act as the policy it was made from",
            where=where,
            why=f"the largest difference of an action is {record.max_abs_difference:g}, allowed {record.tolerance:g}",
            fix="export again; if it stays, the checkpoint and this version of tendon do not belong together",
        )
    return record


def _digest(inputs: Sequence[Batch]) -> str:
    sha256 = hashlib.sha256()
    for observation in inputs:
        for key in sorted(observation):
            sha256.update(key.encode())
            sha256.update(observation[key].numpy().tobytes())
    return sha256.hexdigest()
