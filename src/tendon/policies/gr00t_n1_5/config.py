"""GR00T N1.5: its keys. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from tendon.config.schema import Conflict, Count
from tendon.policies.gr00t.config import Gr00tConfig


@dataclass(frozen=True)
class Gr00tN15Config(Gr00tConfig):
    """SigLIP 2 and Qwen3, an adapter of four layers, future tokens."""

    model: ClassVar[str] = "tendon.policies.gr00t_n1_5.model:Gr00tN15"
    always_learns: ClassVar[bool] = True

    num_target_vision_tokens: Count
    vl_heads: Count
    vl_layers: Count

    def conflicts(self) -> Iterator[Conflict]:
        """The adapter is as wide as the language model."""
        yield from super().conflicts()
        if self.text_width % self.vl_heads:
            what = f"policy.vl_heads is {self.vl_heads}, policy.text_width {self.text_width}"
            yield Conflict("vl_heads", what, "each head takes an equal part", "policy.vl_heads=1")
