"""Golden numbers of MineStudio 1.1.6: `python make.py` in its environment (tests/benchmarks/peers) writes rocket1.npz.

Tiny networks with seeded weights: log-probabilities, losses, the memory behind three windows, gradient norms; with episodes
that begin inside a window; with batch statistics; the action codec; the moving average; the KL objective.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import peer_run
import seeded
import torch
from peer import EMAOptimizer, KLDivergenceCallback

ARGUMENTS = {
    "backbone": "efficientnet_b0.ra_in1k", "hiddim": 32, "num_heads": 2, "num_layers": 2, "timesteps": 8, "mem_len": 8,
}  # fmt: skip
SIZE, ROWS, WINDOWS = (64, 64), 2, 3


def first_of(steps: int) -> np.ndarray:
    """Where episodes begin: in front, inside, and twice in one window."""
    first = np.zeros((WINDOWS, ROWS, steps), bool)
    first[1, 0, 0] = first[1, 1, 3] = first[2, 1, 2] = first[2, 1, 5] = True
    return first


def networks() -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {}
    for variant, changes in {
        "plain": {},
        "long": {"timesteps": 6, "mem_len": 16, "num_layers": 3, "num_heads": 4},
        "short": {"timesteps": 8, "mem_len": 3},
    }.items():
        arguments = {**ARGUMENTS, **changes}
        steps = arguments["timesteps"]
        windows = [seeded.window(f"{variant} {i}", ROWS, steps, SIZE, tail=2 if i == 2 else 0) for i in range(WINDOWS)]
        numbers = peer_run.run(peer_run.make(**arguments), windows)
        made |= {f"{variant}/{key}": each for key, each in numbers.items()}
        numbers = peer_run.run(peer_run.make(**arguments), windows, first_of(steps))
        made |= {f"{variant} first/{key}": each for key, each in numbers.items() if not key.startswith("grad")}
    policy = peer_run.make(**ARGUMENTS)
    policy.backbone.train()
    numbers = peer_run.run(policy, [seeded.window(f"plain {i}", ROWS, 8, SIZE) for i in range(WINDOWS)])
    made |= {f"batch norm/{key}": each for key, each in numbers.items()}
    made["batch norm/running_mean"] = policy.backbone.bn1.running_mean.numpy()
    return made


def codec() -> dict[str, np.ndarray]:
    """Many random actions and their classes."""
    one = seeded.rng("codec")
    buttons = (one.random((1, 4000, len(seeded.BUTTONS))) < 0.25).astype(np.uint8)
    camera = (np.round(one.normal(0, 4, (1, 4000, 2)) / 0.15) * 0.15 * (one.random((1, 4000, 1)) < 0.7)).astype(
        np.float32
    )
    classes = peer_run.classes_of({"buttons": buttons, "camera": camera})
    return {
        "codec/buttons": np.packbits(buttons[0]),
        "codec/camera": camera[0],
        **{f"codec/{head}_classes": each.reshape(-1).numpy().astype(np.int16) for head, each in classes.items()},
    }


def average() -> dict[str, np.ndarray]:
    """Its EMA over updates of a small layer, as ``-EMA.ckpt`` would hold it."""
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(torch.from_numpy(seeded.weights(f"ema {name}", tuple(parameter.shape))))
    optimizer = EMAOptimizer(torch.optim.SGD(layer.parameters(), 0.1), torch.device("cpu"), decay=0.9, every_n_steps=3)
    for step in range(8):
        optimizer.zero_grad()
        x = torch.from_numpy(seeded.rng(f"ema {step}").standard_normal((4, 3)).astype(np.float32))
        layer(x).square().mean().backward()
        optimizer.step()
    optimizer.join()
    kept = [one.detach().numpy() for one in optimizer.ema_params]
    return {f"ema/{name}": each for name, each in zip(dict(layer.named_parameters()), kept, strict=True)}


def divergence() -> dict[str, np.ndarray]:
    values = {
        key: torch.from_numpy(seeded.rng(f"kl {key}").standard_normal((5, 7)).astype(np.float32)) for key in "abcd"
    }
    latents = {
        "posterior_dist": {"mu": values["a"], "log_var": values["b"]},
        "prior_dist": {"mu": values["c"], "log_var": values["d"]},
    }
    return {"kl/kl_div": KLDivergenceCallback(weight=0.5)({}, 0, "train", latents, None)["kl_div"].numpy()}


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    numbers = {**networks(), **codec(), **average(), **divergence()}
    meta = {
        "minestudio": version("minestudio"), "timm": version("timm"), "torch": torch.__version__,
        "arguments": ARGUMENTS, "size": SIZE, "rows": ROWS,
        "shapes": {name: list(each.shape) for name, each in peer_run.make(**ARGUMENTS).state_dict().items()},
    }  # fmt: skip
    numbers["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez_compressed(Path(__file__).with_name("rocket1.npz"), **numbers)
