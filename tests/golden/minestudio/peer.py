"""MineStudio 1.1.6's own RocketPolicy and training objects where its other models' packages are not installed.

Imported in MineStudio's interpreter only. Three stand-ins, none of which computes anything: ``gym`` is gymnasium (only its
spaces are used), the package ``minestudio.models`` is entered without its list of other policies, and timm is never asked
for pretrained weights, which are not on the package index.
"""

import importlib.util
import sys
import types
from pathlib import Path

import gymnasium
import timm

sys.modules.setdefault("gym", gymnasium)
ROOT = Path(importlib.util.find_spec("minestudio").submodule_search_locations[0])
_create_model = timm.create_model


def _without_download(name, pretrained=False, **options):
    return _create_model(name.removeprefix("timm/"), pretrained=False, **options)


timm.create_model = _without_download


def _package(name: str, *parts: str) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__path__ = [str(ROOT.joinpath(*parts))]
    sys.modules[name] = module
    return module


_models = _package("minestudio.models", "models")
from minestudio.models.base_policy import MinePolicy  # noqa: E402

_models.MinePolicy = MinePolicy
from minestudio.models.rocket_one.body import RocketPolicy, load_rocket_policy  # noqa: E402
from minestudio.utils.vpt_lib.action_mapping import CameraHierarchicalMapping  # noqa: E402
from minestudio.utils.vpt_lib.actions import ActionTransformer  # noqa: E402

_package("minestudio.offline", "offline")
from minestudio.offline.lightning_callbacks.ema import EMAOptimizer  # noqa: E402
from minestudio.offline.mine_callbacks import BehaviorCloneCallback, KLDivergenceCallback  # noqa: E402

__all__ = [
    "ActionTransformer",
    "BehaviorCloneCallback",
    "CameraHierarchicalMapping",
    "EMAOptimizer",
    "KLDivergenceCallback",
    "RocketPolicy",
    "load_rocket_policy",
]
