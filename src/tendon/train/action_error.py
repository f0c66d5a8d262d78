"""Action error: the policy sees held-out recorded episodes step by step, and its actions are compared with theirs.

It sees what it would see when acting: the steps of ``windows.acting``, never a later one. Its actions change nothing, so
errors do not add up: a policy whose success rate is 0 can still be told from one that has learnt nothing. Episodes run
side by side, each with a memory of its own. Axes: E episodes, T time, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from tendon.data.features import Feature
from tendon.loader.windows import steps_of
from tendon.policies.base import GOAL, Batch, Memory, Policy
from tendon.policies.processing.processing import batch_shape
from tendon.train.feed import Episode

Act = Callable[[Batch, Memory], tuple[Batch, Memory]]


@torch.no_grad()
def action_error(policy: Policy, act: Act, episodes: Sequence[Episode], device: torch.device) -> dict[str, float]:
    """Mean squared and mean absolute error of the executed actions, over all steps and dimensions of the episodes."""
    windows = policy.windows
    lengths = np.array([len(episode[policy.writes[0]]) for episode in episodes])
    memory = policy.start(*range(len(episodes)))
    squared = absolute = torch.zeros((), dtype=torch.float64)
    count = 0
    for t in range(0, int(lengths.max()), windows.execute):
        now_E = np.full(len(episodes), t)
        observation = {
            key: _gathered(episodes, policy.features[key], steps_of(now_E, lengths, np.array(span.deltas))[0]).to(
                device
            )
            for key, span in windows.acting.items()
        }
        actions, memory = act(observation, memory)
        done, beyond = steps_of(now_E, lengths, np.arange(windows.execute))
        for key in policy.writes:
            executed_END = actions[key][:, : windows.execute].cpu().double()
            error_END = executed_END - _gathered(episodes, policy.features[key], done).double()
            error = error_END[torch.from_numpy(~beyond)]
            squared, absolute = squared + error.square().sum(), absolute + error.abs().sum()
            count += error.numel()
    return {"action_mse": float(squared / count), "action_l1": float(absolute / count)}


def _gathered(episodes: Sequence[Episode], feature: Feature, steps_EW: np.ndarray) -> Tensor:
    """``[E, W, ...]`` of a feature, the steps of each episode; the last one of a goal."""
    key = feature.key
    stored, shape = key.removeprefix(GOAL), batch_shape(feature)
    dtype = np.uint8 if feature.kind in ("image", "mask") else np.int64 if feature.is_integer else np.float32
    rows = []
    for episode, steps in zip(episodes, steps_EW, strict=True):
        values = episode[stored][steps] if stored == key else episode[stored][-1:]
        rows.append(np.asarray(values, dtype).reshape(len(values), *shape))
    return torch.from_numpy(np.stack(rows))
