"""``make parity PEER=minestudio``: ROCKET-1 beside MineStudio 1.1.6's own class, full size, and our files in its loaders.

Weights and windows are made by name on both sides (tests/golden/minestudio/seeded.py); nothing large is kept.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import peers
from tests.benchmarks.rows import row

SCRIPT = "minestudio_rocket.py"
FULL = {"hiddim": 1024, "num_heads": 8, "num_layers": 4, "timesteps": 128, "mem_len": 128}
B0, VIT = "efficientnet_b0.ra_in1k", "timm/vit_base_patch16_224.dino"
CLASSES = {"buttons": slice(None, None, 67), "camera": slice(None)}


def theirs(folder: Path, **request: Any) -> Any:
    """The numbers of MineStudio's interpreter."""
    (folder / "request.json").write_text(json.dumps(request))
    peers.ask(peers.minestudio(), SCRIPT, str(folder / "request.json"), str(folder / "out.npz"), timeout_s=3600)
    return np.load(folder / "out.npz")


def difference(backbone: str, steps: int, windows: int, rows: int = 1, side: int = 224) -> float:
    """The largest difference of any number, relative where it is above 1: distributions, losses, memory, gradient norms."""
    import torch

    from tests.golden.minestudio import seeded
    from tests.policies.rocket1.golden import batch_of, make

    arguments = {"backbone": backbone, **FULL}
    with tempfile.TemporaryDirectory() as scratch:
        request = {"arguments": arguments, "size": [side, side], "rows": rows, "steps": steps, "windows": windows}
        expected = theirs(Path(scratch), **request)
        policy, memory, found, made = make((side, side), **arguments), None, {}, {}
        policy.net.register_forward_hook(lambda module, inputs, outputs: found.update(outputs[0]))
        for i in range(windows):
            batch = batch_of(seeded.window(f"parity {i}", rows, steps, (side, side)))
            with torch.set_grad_enabled(i + 1 == windows):
                output = policy.loss(batch, memory)
            memory = {key: value.detach() for key, value in output.memory.items()}
            made |= {f"{i}/{head}": found[head].detach()[:, :, some].numpy() for head, some in CLASSES.items()}
            made |= {f"{i}/loss": 0.01 * float(output.loss.detach())}
            made |= {f"{i}/{key}": float(output.metrics[key]) for key in ("camera_loss", "button_loss", "entropy")}
        (0.01 * output.loss).backward()
        made |= {f"memory/{key}": memory[key].numpy() for key in ("keys", "values")}
        for name, parameter in policy.net.named_parameters():
            if parameter.grad is not None:
                made[f"grad/{name}"] = float(parameter.grad.double().norm())
        compared = [key for key in expected.files if not key.endswith("_classes") and key != "memory/valid"]
        assert set(compared) == set(made), set(compared) ^ set(made)
        return max(float(np.abs((made[key] - expected[key]) / (1 + np.abs(expected[key]))).max()) for key in compared)


@row(
    "parity", "minestudio-rocket", "largest difference of ROCKET-1 (106,651,930), three windows of 3 frames", "<= 1e-5"
)
def rocket() -> float:
    """EfficientNet-B0."""
    return difference(B0, steps=3, windows=3)


@row(
    "parity",
    "minestudio-rocket-128",
    "largest difference of ROCKET-1 (106,651,930), three windows of 128 frames of 64 x 64 px",
    "<= 1e-5",
)
def rocket_128() -> float:
    """As long as in training: every step sees 127 before it, over the windows' borders."""
    return difference(B0, steps=128, windows=3, side=64)


@row(
    "parity",
    "minestudio-rocket-vit",
    "largest difference of ROCKET-1 with ViT-B/16, two windows of 2 frames",
    "<= 1e-5",
)
def rocket_vit() -> float:
    """The backbone of MineStudio's configuration since January 2025."""
    return difference(VIT, steps=2, windows=2)


@row(
    "parity",
    "minestudio-loads-ours",
    "largest difference of a logit where MineStudio loads our .ckpt and hub folder",
    "<= 1e-5",
)
def loads_ours() -> float:
    """Its own loaders, strict."""
    import torch

    from tendon.policies.spec import PolicySpec
    from tendon.weights.formats.minestudio import FORMAT
    from tests.golden.minestudio import seeded
    from tests.policies.rocket1.golden import META, batch_of, make

    policy, steps = make((64, 64)), META["arguments"]["timesteps"]
    info, found, largest = PolicySpec(policy.config, policy.features, policy.windows), {}, 0.0
    policy.net.register_forward_hook(lambda module, inputs, outputs: found.update(outputs[0]))
    with torch.no_grad():
        policy.loss(batch_of(seeded.window("parity 0", 2, steps, (64, 64))))
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("ours.ckpt", "hub"):
            path = Path(scratch) / name
            FORMAT.write(policy, info, path, "", {})
            request = {"path": str(path), "size": [64, 64], "rows": 2, "steps": steps, "windows": 1}
            expected = theirs(Path(scratch), **request)
            for head, some in CLASSES.items():
                largest = max(largest, float(np.abs(found[head][:, :, some].numpy() - expected[f"0/{head}"]).max()))
    return largest
