"""What policies say of episodes that they never saw: the loss, and where its gradient points.

In: a dataset, checkpoints of a policy that was trained without some episodes. Out: a loss and an influence for each of these. The
influence is TracIn between held-out episodes, each gradient cut to length one so that an episode has one vote: the mean over
checkpoints, from the untrained network on, of the product of its direction with the mean direction of the others. A loss stands beside
that of the untrained network on the same episode, since long ways are harder than short ones whoever goes them. Axis: P parameters.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tendon.config.schema import TrainConfig
from tendon.loader.configured import configured_loader
from tendon.train.loop.data_feeds import stored_windows, to_tensors

if TYPE_CHECKING:
    from tendon.policies.base import Batch, Policy

MOST_WINDOWS = 512  # of an episode
BATCH = 128


@dataclass(frozen=True)
class Held:
    """An episode that was held out: its loss before and after training on the others, and its influence over all checkpoints."""

    untrained: float
    loss: float
    influence: float


def held_out_signals(
    policies: Sequence[Policy],
    dataset_uri: str,
    config: TrainConfig,
    held_out: Sequence[str],
    everything: Sequence[str],
    suspects: Set[str] = frozenset(),
) -> dict[str, Held]:
    """Loss and influence of each held-out episode, from checkpoints of one training in their order.

    ``suspects`` are measured too, but have no vote on where the others should point.
    """
    voters = [name for name in held_out if name not in suspects]
    voters = voters if len(voters) > 1 else list(held_out)
    losses: dict[str, list[float]] = {name: [] for name in held_out}
    products = dict.fromkeys(held_out, 0.0)
    for policy in (_untrained(policies[-1], config.seed), *policies):
        directions_P: dict[str, Tensor] = {}
        for name in held_out:
            loss, gradient_P = _gradient(policy, dataset_uri, config, name, everything)
            losses[name].append(loss)
            directions_P[name] = (gradient_P / max(float(gradient_P.norm()), 1e-12)).to(torch.float32)
        total_P = torch.stack([directions_P[name] for name in voters]).sum(0)
        for name, direction_P in directions_P.items():
            is_voter = name in voters
            others_P = (total_P - direction_P * is_voter) / max(1, len(voters) - is_voter)
            products[name] += float(direction_P @ others_P) / (1 + len(policies))
    return {name: Held(losses[name][0], losses[name][-1], products[name]) for name in held_out}


def _untrained(policy: Policy, seed: int) -> Policy:
    """The same network with its layers drawn anew; what it knows of the data's scale stays."""
    fresh = copy.deepcopy(policy)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in fresh.modules():
            learns = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
            if learns and callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return fresh


def _gradient(
    policy: Policy, dataset_uri: str, config: TrainConfig, episode: str, everything: Sequence[str]
) -> tuple[float, Tensor]:
    """Mean loss over the windows of an episode, and its gradient; the same draws for every episode."""
    device = next(policy.parameters()).device
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    policy.zero_grad(set_to_none=True)
    total, windows = 0.0, 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        for batch, size in _batches(policy, dataset_uri, config, episode, everything):
            loss = policy.loss(batch, None, 0).loss
            (loss * size).backward()  # type: ignore[no-untyped-call]
            total, windows = total + float(loss.detach()) * size, windows + size
    parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
    gradient_P = torch.cat([part.detach().flatten().to(torch.float64) for part in parts]) / max(1, windows)
    policy.zero_grad(set_to_none=True)
    return total / max(1, windows), gradient_P


def _batches(
    policy: Policy, dataset_uri: str, config: TrainConfig, episode: str, everything: Sequence[str]
) -> Iterator[tuple[Batch, int]]:
    """The windows of one episode, each once, as batches; evenly spread where there are many."""
    device = next(policy.parameters()).device
    others = tuple(name for name in everything if name != episode)
    data = replace(config.data, skip_episodes=others, episode_weights={}, order="shuffled", repeat_times=1)
    windows = replace(stored_windows(policy.windows), stateful=False, stride=1)
    loader = configured_loader(dataset_uri, config.data.split, windows, BATCH, config.seed, data)
    try:
        left = min(MOST_WINDOWS, loader.num_windows)
        for k in range(math.ceil(left / BATCH)):
            size = min(BATCH, left - k * BATCH)
            arrays = {key: values[:size] if np.ndim(values) else values for key, values in loader.batch(k).items()}
            yield to_tensors(arrays, policy.windows, device), size
    finally:
        loader.close()
