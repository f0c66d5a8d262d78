"""Optimisers do not load torch's compiler, and count as torch's own do."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch

from tendon.train.loop.optimizer import OPTIMIZERS

SCRIPT = """
import sys
import torch
import tendon.train.loop.engine
from tendon.train.loop.optimizer import OPTIMIZERS
layer = torch.nn.Linear(3, 2)
for name, of in OPTIMIZERS.items():
    optimizer = of(layer.parameters(), fused=True)
    layer(torch.ones(1, 3)).sum().backward()
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.zero_grad()
print([name for name in ("torch._dynamo", "torch.distributed.tensor", "sympy") if name in sys.modules])
"""


def test_a_step_loads_neither_the_compiler_nor_what_sharding_needs() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_steps_are_those_of_torch(name: str) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 4)
    twin = copy.deepcopy(layer)
    theirs = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    options = {"lr": 0.01, "weight_decay": 0.1, "fused": True}
    optimizers = [of(each.parameters(), **options) for of, each in ((OPTIMIZERS[name], layer), (theirs, twin))]
    seen: list[int] = []
    optimizers[0].register_step_post_hook(lambda *_: seen.append(1))
    for _ in range(4):
        values = torch.randn(3, 5)
        for each, optimizer in zip((layer, twin), optimizers, strict=True):
            optimizer.zero_grad()
            each(values).square().mean().backward()
            optimizer.step()
    assert torch.equal(layer.weight, twin.weight)
    assert torch.equal(layer.bias, twin.bias)
    assert len(seen) == 4
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    optimizers[0].load_state_dict(optimizers[1].state_dict())
    assert isinstance(optimizers[0], theirs)
