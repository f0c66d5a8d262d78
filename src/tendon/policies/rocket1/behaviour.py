"""How a policy would behave on recorded frames, beside how the recording does: press rates, flips a second, camera jerk.

A loss can fall while play gets worse: a policy whose distributions are right frame by frame, but not from frame to frame,
flickers. Rates and flips are expectations over what the policy would draw, step by step; jerk is that of one draw. Axes: B
rows, T steps, K buttons.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tendon.policies.rocket1.classes import ActionClasses, draw

Numbers = dict[str, Tensor]


def of_policy(
    log_probs: Mapping[str, Tensor], classes: ActionClasses, real_BT: Tensor, fps: float, nucleus: float
) -> Numbers:
    """Of what it would draw."""
    buttons_BTC = log_probs["buttons"].exp()
    pressed_BTK = buttons_BTC @ classes.pressed_table
    before, after = pressed_BTK[:, :-1], pressed_BTK[:, 1:]
    flips_BTK = before * (1 - after) + (1 - before) * after
    generator = torch.Generator("cpu").manual_seed(0)  # the same numbers each time: nothing else is disturbed
    drawn = {}
    for head, values in log_probs.items():
        uniform = torch.rand(values.shape[:2], generator=generator).to(values.device)
        drawn[head] = draw(values, uniform, nucleus)
    _, camera_BT2 = classes.decode(drawn["buttons"], drawn["camera"])
    return _numbers(pressed_BTK, flips_BTK, camera_BT2, real_BT, fps)


def of_data(buttons_BTK: Tensor, camera_BT2: Tensor, real_BT: Tensor, fps: float) -> Numbers:
    """Of what was recorded."""
    pressed_BTK = (buttons_BTK != 0).float()
    flips_BTK = (pressed_BTK[:, 1:] - pressed_BTK[:, :-1]).abs()
    return _numbers(pressed_BTK, flips_BTK, camera_BT2.float(), real_BT, fps)


def _numbers(pressed_BTK: Tensor, flips_BTK: Tensor, camera_BT2: Tensor, real_BT: Tensor, fps: float) -> Numbers:
    """Press rate ``[K]`` per frame; flips of all buttons a second; jerk: degrees a step by which a turn changes its change."""
    real = real_BT.to(pressed_BTK.dtype)
    pairs, triples = real[:, 1:] * real[:, :-1], real[:, 2:] * real[:, 1:-1] * real[:, :-2]
    jerk_BT = (
        camera_BT2.diff(n=2, dim=1).abs().sum(-1) if camera_BT2.shape[1] > 2 else camera_BT2.new_zeros(len(real), 0)
    )
    return {
        "press_rates": (pressed_BTK * real.unsqueeze(-1)).sum((0, 1)) / real.sum().clamp(min=1),
        "flips_per_s": fps * (flips_BTK.sum(-1) * pairs).sum() / pairs.sum().clamp(min=1),
        "camera_jerk": (jerk_BT * triples).sum() / triples.sum().clamp(min=1),
    }
