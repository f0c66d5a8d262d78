"""Writes tdmpc_folder by running LeRobot 0.4.4 itself, in an environment of its own: `python make_tdmpc_folder.py`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lerobot"))


def main() -> None:
    from lerobot.configs.types import NormalizationMode
    from lerobot.policies.factory import make_pre_post_processors
    from make_tdmpc import make

    policy = make("keypoints")
    modes = ("IDENTITY", "MIN_MAX", "MEAN_STD", "MIN_MAX")
    kinds = ("VISUAL", "STATE", "ENV", "ACTION")
    policy.config.normalization_mapping = {k: NormalizationMode[m] for k, m in zip(kinds, modes, strict=True)}
    generator = torch.Generator().manual_seed(3)
    stats = {}
    for key, width in (("observation.state", 3), ("observation.environment_state", 4), ("action", 2)):
        low = torch.rand(width, generator=generator) - 2
        spread = torch.rand(width, generator=generator) + 0.5
        stats[key] = {"min": low, "max": low + 3, "mean": low + 1.5, "std": spread}
    pre, post = make_pre_post_processors(policy.config, dataset_stats=stats)
    folder = HERE / "tdmpc_folder"
    shutil.rmtree(folder, ignore_errors=True)
    for one in (policy, pre, post):
        one.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
