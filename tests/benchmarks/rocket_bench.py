"""``make bench``: seed 003 at full size on this machine: built, counted, one step of eight frames; what eight GPUs would hold.

The bytes of an activation are measured by autograd's saved tensors and scale with the frames; weights, gradients, moments
and average are counted. Printed, not bounded: there is no GPU here to hold them against.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from tests.benchmarks.rows import row

WIN_LEN, GPU_FRAMES = 8, 8 * 128
H200_TFLOPS = 400  # of bf16 in practice, for the estimate of a step's time


def saved_bytes(function: Any) -> tuple[Any, int]:
    """What a forward pass keeps for its backward pass, each storage once."""
    import torch

    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        return function(), sum(kept.values())


@row(
    "bench",
    "minestudio-seed003",
    "parameters of seed 003's network, one step of 8 frames done on this CPU",
    "== 106651930",
)
def seed003() -> float:
    """As the tutorial says, with win_len 8 and a batch of 1."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tendon.config.compose import compose
    from tendon.policies.registry import make_policy
    from tendon.policies.rocket1.features import features_of_world
    from tendon.train.loop.optimizer import freeze, make_optimizer
    from tests.golden.minestudio import seeded
    from tests.policies.rocket1.golden import batch_of

    config = compose(["policy=rocket1-seed", "data.uri=x"])
    torch.manual_seed(0)
    policy = make_policy(config.policy, features_of_world(), {})
    freeze(policy, policy.frozen())
    optimizer = make_optimizer(config.training, policy)
    batch = batch_of(seeded.window("full", 1, WIN_LEN, (224, 224)))
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        policy.loss(batch)
    began = time.perf_counter()
    output, activations = saved_bytes(lambda: policy.loss(batch))
    (0.01 * output.loss).backward()
    torch.nn.utils.clip_grads_with_norm_(policy.parameters(), 1.0, torch.tensor(1.0))
    optimizer.step()
    step_s = time.perf_counter() - began
    num = sum(parameter.numel() for parameter in policy.net.parameters())
    frozen = {name for name, parameter in policy.named_parameters() if not parameter.requires_grad}
    learning = sum(parameter.numel() for name, parameter in policy.named_parameters() if name not in frozen)
    held = 4 * (num + learning * 4)  # weights; gradients, two moments, average
    on_gpu = activations / WIN_LEN * GPU_FRAMES / 2  # bf16
    seconds = 3 * 2 * flops.get_total_flops() / 2 / WIN_LEN * GPU_FRAMES / (H200_TFLOPS * 1e12)
    rows = {
        "loss of the first step": f"{0.01 * output.loss.item():.2f}",
        "nat of a button": f"{float(output.metrics['button_nll']):.3f}, a uniform guess {np.log(8641):.3f}",
        "seconds of this step": f"{step_s:.1f} for {WIN_LEN} frames on {torch.get_num_threads()} thread(s)",
        "each of 8 GPUs holds": f"{held / 2**30:.1f} GiB of weights and optimiser, {on_gpu / 2**30:.0f} GiB of activations "
        f"({GPU_FRAMES} frames, bf16)",
        "a step on each GPU": f"{seconds:.2f} s of arithmetic at {H200_TFLOPS} TFLOP/s, if nothing else cost time",
    }
    for name, value in rows.items():
        print(f"  {name:<24} {value}", file=sys.stderr)
    return float(num)
