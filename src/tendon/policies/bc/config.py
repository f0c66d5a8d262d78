"""Behaviour cloning with an MLP: its keys and its window. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tendon.config.schema import Layers
from tendon.data.features import Feature
from tendon.policies.behaviour_cloning.config import CloningConfig
from tendon.policies.windows import Windows, windows_of


@dataclass(frozen=True)
class BcConfig(CloningConfig):
    """Behaviour cloning with an MLP."""

    model: ClassVar[str] = "tendon.policies.bc.model:Bc"

    hidden_dims: Layers

    def without_effect(self) -> dict[str, str]:
        """One action a window, and it is never beyond the episode."""
        return super().without_effect() | {"mask_padding": "policy=bc_rnn"}

    def windows(self, features: Mapping[str, Feature]) -> Windows:
        """One observation in, one action out."""
        return windows_of(self.reads(features), self.writes(features), (0,), (0,))
