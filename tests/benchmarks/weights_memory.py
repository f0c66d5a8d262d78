"""Memory of training with a frozen base: the peak of a process, beside weights once and what learns.

The policy is a plug-in: a base of 24 layers of 2048 (403 MB, float32) that does not learn, and a head that does. A trial
trains it, is begun again from its checkpoint, and the same is done with a base of a few numbers: what the process takes
anyway is taken off.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import row
from tests.plugins.outside import install

ROOT = Path(__file__).resolve().parents[2]
WIDTH, LAYERS = 2048, 24
CONFIG = '''
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tendon.config.schema import Count, PolicyConfig
from tendon.policies.windows import Window
from tendon.weights.spec import WeightSpec


@dataclass(frozen=True)
class TowerConfig(PolicyConfig):
    """A tower of layers that does not learn, and a head."""

    model: ClassVar[str] = "PACKAGE.model:Tower"
    width: Count
    layers: Count
    uri: str
    sha256: str
    dtype: str = ""

    def windows(self, features):
        return Window(self.reads(features), "action", (0,), (0,), 1)

    def base_weights(self):
        return {"base": WeightSpec(self.uri, self.sha256, dtype=self.dtype)}
'''
MODEL = """
import torch
from torch import nn

from tendon.policies.base import LossOutput, Policy


class Tower(Policy):
    def __init__(self, config, features, stats):
        super().__init__()
        self.window = config.windows(features)
        self.width = config.width
        self.head = nn.Sequential(nn.Linear(config.width, 256), nn.ReLU(), nn.Linear(256, features["action"]))
        with torch.device("meta"):
            self.base = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(config.layers))

    def frozen(self):
        return ("base",)

    def net(self, batch):
        seen = torch.cat([batch[key] for key in self.window.observation_keys], -1)
        hidden = nn.functional.pad(seen, (0, self.width - seen.shape[-1]))
        hidden = hidden.to(self.base[0].weight.dtype)
        for layer in self.base:
            hidden = layer(hidden).relu()
        return self.head(hidden.float())

    def loss(self, batch, memory=None, step=0):
        return LossOutput((self.net(batch) - batch["action"]).square().mean())

    @torch.no_grad()
    def act(self, observation, memory=None):
        return self.net({key: value[:, -1:] for key, value in observation.items()}), memory
"""
ENTRIES = {"tendon.policies": {"tower": "PACKAGE.config:TowerConfig"}}


@row("bench", "weights-memory", "peak of training on a frozen base, over weights once and what learns", "<= 1.15 x")
def weights_memory() -> float:
    """The larger one of a first attempt and a resumed one."""
    return over_weights("")


@row("bench", "weights-memory-bf16", "the same with a base of float32 that is held in bfloat16", "<= 1.15 x")
def weights_memory_bf16() -> float:
    """What is converted is not held twice either."""
    return over_weights("bfloat16")


def over_weights(dtype: str) -> float:
    """Growth of the peak over what must be held."""
    with tempfile.TemporaryDirectory() as folder:
        site = install(Path(folder, "site"), "outside_tower", ENTRIES, {"config.py": CONFIG, "model.py": MODEL})
        none = [trained(site, Path(folder, "none"), 8, 1, steps, dtype) for steps in (4, 8)]
        tower = [trained(site, Path(folder, "tower"), WIDTH, LAYERS, steps, dtype) for steps in (4, 8)]
    base = tower[0]["base"] / (2 if dtype else 1)
    process, peak = (max(one["peak"] for one in runs) / 1e6 for runs in (none, tower))
    words = f"process {process:.0f} MB, peak {peak:.0f}, base {base / 1e6:.0f}, learns {tower[0]['learns'] / 1e6:.0f}"
    print(f"weights-memory {dtype}: {words}", file=sys.stderr)
    growth = [one["peak"] - other["peak"] for one, other in zip(tower, none, strict=True)]
    return max(growth) / (base + tower[0]["learns"])


def trained(site: Path, folder: Path, width: int, layers: int, steps: int, dtype: str) -> dict[str, int]:
    """A training in a process of its own: its peak, the bytes of its base, and of what learns with gradients and moments."""
    folder.mkdir(exist_ok=True)
    base = folder / "base.safetensors"
    if not base.exists():
        _in_child(site, "make", str(base), width, layers)
    done = _in_child(site, "train", str(folder), width, layers, steps, dtype)
    figures: dict[str, int] = json.loads(done.splitlines()[-1])
    return figures


def _in_child(site: Path, *arguments: Any) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT / "src"), str(ROOT)])}
    command = [sys.executable, "-m", __name__ if __name__ != "__main__" else "tests.benchmarks.weights_memory"]
    done = subprocess.run(
        [*command, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def _make(file: str, width: str, layers: str) -> None:
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(1)
    state = {}
    for layer in range(int(layers)):
        state[f"{layer}.weight"] = torch.randn(int(width), int(width), generator=generator) / int(width) ** 0.5
        state[f"{layer}.bias"] = torch.zeros(int(width))
    save_file(state, file)


def _train(folder: str, width: str, layers: str, steps: str, dtype: str) -> None:
    import resource

    from outside_tower.config import TowerConfig

    from tendon.train.loop.training import train
    from tendon.weights.spec import content_sha256
    from tests.train.small_trial import OpenMemory, make_config, make_stats

    base = Path(folder, "base.safetensors")
    policy = TowerConfig("tower", int(width), int(layers), str(base), content_sha256(base), dtype)
    config = make_config(policy=policy, valid_freq=2, save_freq=2, offline_steps=8, lr_warmup_steps=0)
    trial = Path(folder, "store/trials/one")
    stop = int(steps)

    def interrupted(k: int) -> None:
        if k + 1 == stop and stop < 8:
            import signal

            signal.raise_signal(signal.SIGTERM)

    try:
        train(config, "memory", make_stats(), str(trial), open_data=OpenMemory(interrupted))
    except Exception as error:
        if type(error).__name__ != "Interrupted":
            raise
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    learns = int(width) * 256 + 256 + 256 * 2 + 2
    print(json.dumps({"peak": peak, "base": base.stat().st_size, "learns": 4 * 4 * learns}))


if __name__ == "__main__":
    {"make": _make, "train": _train}[sys.argv[1]](*sys.argv[2:])
