"""InternManip's (GRManipulation's) names: its YAML, its data configurations, its dataset and its models, on tendon's own parts.

run = internmanip.train("pi0_genmanip.yaml")                       # as ``tendon train --config pi0_genmanip.yaml``
model = internmanip.model_class("dp_clip").from_pretrained("outputs/b", tune_visual=False)
"""

from __future__ import annotations

from tendon.config.foreign.internmanip import read_manip
from tendon.internmanip.data_configs import DATA_CONFIG_MAP, BaseDataConfig, ModalityConfig
from tendon.internmanip.dataset import EmbodimentTag, LeRobotSingleDataset
from tendon.internmanip.models import model_class
from tendon.internmanip.training import configure, train, write_statistics
from tendon.internmanip.transforms import (
    ComposedModalityTransform,
    ConcatTransform,
    StateActionToTensor,
    StateActionTransform,
)

__all__ = [
    "DATA_CONFIG_MAP",
    "BaseDataConfig",
    "ComposedModalityTransform",
    "ConcatTransform",
    "EmbodimentTag",
    "LeRobotSingleDataset",
    "ModalityConfig",
    "StateActionToTensor",
    "StateActionTransform",
    "configure",
    "model_class",
    "read_manip",
    "train",
    "write_statistics",
]
