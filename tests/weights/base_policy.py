"""Base weights for the tiny policies of tests/train/hook_policies.py, and the configurations that name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from tendon.weights.spec import content_sha256
from tests.train.hook_policies import HookConfig


def base_module(width: int = 4, seed: int = 5) -> nn.Sequential:
    """What OnBase has as its base, with values, batch statistics included."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Linear(width, 4))
    module[1].running_mean.normal_()
    module[1].running_var.uniform_(0.5, 2.0)
    return module.eval()


def save_base(path: Path, width: int = 4, seed: int = 5) -> Path:
    """A file of base weights."""
    save_file({name: value.contiguous() for name, value in base_module(width, seed).state_dict().items()}, path)
    return path


def on_base(path: Path, kind: str = "OnBase", name: str = "bc", **changes: Any) -> HookConfig:
    """A policy that stands on the weights of a file or folder."""
    return HookConfig(name, kind, uri=str(path), sha256=content_sha256(path), **changes)
