"""GR00T N1: its keys. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tendon.config.schema import Count
from tendon.policies.gr00t.config import Gr00tConfig


@dataclass(frozen=True)
class Gr00tN1Config(Gr00tConfig):
    """SigLIP 2, SmolLM2, and squares of four patches as one token."""

    model: ClassVar[str] = "tendon.policies.gr00t_n1.model:Gr00tN1"
    always_learns: ClassVar[bool] = True
    shuffle: ClassVar[int] = 2

    project_to_dim: Count
