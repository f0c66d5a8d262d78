"""Action error: the policy sees held-out recorded episodes step by step, and its actions are compared with theirs.

It sees what it would see when acting: the steps of ``reading_deltas``, never a later one. Its actions change nothing, so
errors do not add up: a policy whose success rate is 0 can still be told from one that has learnt nothing. Episodes run
side by side, each with a memory of its own. Axes: E episodes, T time, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from tendon.loader.windows import steps_of
from tendon.policies.base import GOAL, Batch, Memory, Policy
from tendon.train.loop.data_feeds import Episode

Act = Callable[[Batch, Memory], tuple[Tensor, Memory]]


@torch.no_grad()
def action_error(policy: Policy, act: Act, episodes: Sequence[Episode], device: torch.device) -> dict[str, float]:
    """Mean squared and mean absolute error of the executed actions, over all steps and dimensions of the episodes."""
    window = policy.window
    lengths = np.array([len(episode[window.action_key]) for episode in episodes])
    memory = policy.start(*range(len(episodes)))
    squared = absolute = torch.zeros((), dtype=torch.float64)
    count = 0
    for t in range(0, int(lengths.max()), window.num_actions):
        seen, _ = steps_of(np.full(len(episodes), t), lengths, np.array(window.reading_deltas))
        observation = {key: _gathered(episodes, key, seen).to(device) for key in window.observation_keys}
        actions_END, memory = act(observation, memory)
        done, beyond = steps_of(np.full(len(episodes), t), lengths, np.arange(window.num_actions))
        error_END = actions_END.cpu().double() - _gathered(episodes, window.action_key, done).double()
        error = error_END[torch.from_numpy(~beyond)]
        squared, absolute, count = squared + error.square().sum(), absolute + error.abs().sum(), count + error.numel()
    return {"action_mse": float(squared / count), "action_l1": float(absolute / count)}


def _gathered(episodes: Sequence[Episode], key: str, steps_EW: np.ndarray) -> Tensor:
    """``[E, W, ...]`` of a feature, the steps of each episode; the last one of a goal."""
    stored = key.removeprefix(GOAL)
    rows = []
    for episode, steps in zip(episodes, steps_EW, strict=True):
        values = episode[stored][steps] if stored == key else episode[stored][-1:]
        rows.append(values if values.dtype == np.uint8 else np.asarray(values, np.float32).reshape(len(values), -1))
    return torch.from_numpy(np.stack(rows))
