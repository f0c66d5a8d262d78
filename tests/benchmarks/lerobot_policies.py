"""``make parity PEER=lerobot``: policies of ours that lerobot 0.4.4 loads, each tensor by name, and rolls out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import peers
from tests.benchmarks.rows import row

SCRIPT = "lerobot_policy.py"
STEPS, ROWS = 100, 2
DDIM = "policy.noise_scheduler_type=DDIM"
CASES: dict[str, tuple[str, bool, tuple[str, ...]]] = {  # policy, whether it sees, overrides
    "act": ("act", False, ()),
    "act-ensemble": ("act", False, ("policy.temporal_ensemble_coeff=0.01", "policy.n_action_steps=1")),
    "act-camera": ("act", True, ()),
    "diffusion": ("diffusion", False, (DDIM, "policy.crop_shape=[]")),
    "diffusion-camera": ("diffusion", True, (DDIM, "policy.crop_shape=[36,36]")),
    "vqbet": (
        "vqbet",
        True,
        ("policy.crop_shape=[36,37]", "policy.bet_softmax_temperature=1e-6"),
    ),  # the likeliest codes
    "tdmpc": ("tdmpc", False, ("policy.use_mpc=false", "policy.state_normalization=min_max")),  # nothing is drawn
}


def difference(name: str, sees: bool, overrides: tuple[str, ...]) -> float:
    """The largest difference of an action over an episode, the same noise given."""
    import torch

    from tendon.policies.diffusion.model import Diffusion
    from tendon.policies.parts.noise import draw_normal
    from tendon.weights.formats.lerobot.folder import FORMAT
    from tests.weights.formats.test_lerobot import NUMBERS, SEEING, TOP, policy_of

    sizes = SEEING if sees else NUMBERS
    policy, info = policy_of(name, sizes, *overrides)
    windows, rng, num_steps = policy.windows, np.random.default_rng(1), STEPS // (4 if sees else 1)
    inputs: dict[str, Any] = {"execute": windows.execute}
    for key in policy.reads:
        if key == TOP:
            inputs[key] = rng.integers(0, 256, (num_steps, ROWS, *SEEING[TOP]), dtype=np.uint8)
        else:
            inputs[key] = rng.normal(size=(num_steps, ROWS, sizes[key])).astype(np.float32)
    memory, actions, noise = policy.start(*range(ROWS)), [], []
    for step in range(0, num_steps, windows.execute):
        observation = {
            key: torch.stack([torch.from_numpy(inputs[key][max(0, step + delta)]) for delta in span.deltas], 1)
            for key, span in windows.acting.items()
        }
        if isinstance(policy, Diffusion):
            shape = (policy.config.horizon, policy.action_dim)
            noise.append(draw_normal(memory, shape[0] * shape[1])[0].view(ROWS, *shape).numpy())
        given, memory = policy.act(observation, memory)
        actions.append(given["action"][:, : windows.execute].numpy())
    if noise:
        inputs["noise"] = np.stack(noise)
    ours = np.concatenate(actions, 1).swapaxes(0, 1)[:num_steps]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        FORMAT.write(policy, info, folder / "policy", "0.4", {})
        np.savez(folder / "inputs.npz", **inputs)
        places = [str(folder / one) for one in ("policy", "inputs.npz", "out.npz")]
        peers.ask(peers.lerobot(), SCRIPT, *places)
        theirs = np.load(folder / "out.npz")["actions"]
    return float(np.abs(ours - theirs).max())


def _rows() -> None:
    for case, (name, sees, overrides) in CASES.items():
        what = f"largest difference of an action over an episode of {case}, exported and rolled out by lerobot 0.4.4"

        @row("parity", f"lerobot-{case}", what, "<= 1e-5")
        def measure(name: str = name, sees: bool = sees, overrides: tuple[str, ...] = overrides) -> float:
            return difference(name, sees, overrides)


_rows()
