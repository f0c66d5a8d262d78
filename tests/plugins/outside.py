"""A small package outside of tendon, as pip would have installed it: a folder, its metadata, its entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CONFIG = '''
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tendon.config.schema import Count, PolicyConfig
from tendon.data.features import Feature
from tendon.policies.windows import Windows, windows_of


@dataclass(frozen=True)
class NearestConfig(PolicyConfig):
    """One linear layer."""

    model: ClassVar[str] = "PACKAGE.model:Nearest"
    width: Count = 4

    def windows(self, features: Mapping[str, Feature]) -> Windows:
        """Now."""
        return windows_of(self.reads(features), self.writes(features), (0,), (0,))
'''
MODEL = '''
import torch

from tendon.policies.base import LossOutput, Policy

NUMERICS = 1


class Nearest(Policy):
    """Two linear layers on all observations."""

    def __init__(self, config, features, stats):
        super().__init__(config, features)
        seen = sum(features[key].dim for key in self.reads)
        self.net = torch.nn.Sequential(torch.nn.Linear(seen, config.width), torch.nn.Linear(config.width, features["action"].dim))

    def loss(self, batch, memory=None, step=0):
        seen = torch.cat([batch[key] for key in self.reads], -1)
        return LossOutput((self.net(seen) - batch["action"]).square().mean())

    @torch.no_grad()
    def act(self, observation, memory=None):
        seen = torch.cat([observation[key][:, -1:] for key in self.reads], -1)
        return {"action": self.net(seen)}, memory
'''
YAML = "# @package _global_\n# One linear layer.\npolicy:\n  name: nearest\n  width: 4   # of the layer between\n"
ENTRIES = {"tendon.policies": {"nearest": "PACKAGE.config:NearestConfig"}}


def install(
    site: Path,
    package: str = "outside_nearest",
    entries: Mapping[str, Mapping[str, str]] = ENTRIES,
    files: Mapping[str, str] | None = None,
) -> Path:
    """Put the package into ``site``; ``PACKAGE`` in every text becomes its name. A process needs ``site`` on its path."""
    texts = {"config.py": CONFIG, "model.py": MODEL, "conf/policy/nearest.yaml": YAML} if files is None else files
    for name, text in {"__init__.py": "", **texts}.items():
        (site / package / name).parent.mkdir(parents=True, exist_ok=True)
        (site / package / name).write_text(text.replace("PACKAGE", package))
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 1.0\n")
    groups = [
        [f"[{group}]", *(f"{name} = {value}" for name, value in names.items())] for group, names in entries.items()
    ]
    lines = [line.replace("PACKAGE", package) for group in groups for line in group]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site
