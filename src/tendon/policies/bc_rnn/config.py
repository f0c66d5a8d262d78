"""Behaviour cloning with a recurrent net: its keys and its windows. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from tendon.config.schema import Conflict, Count
from tendon.data.features import Feature
from tendon.policies.behaviour_cloning.config import CloningConfig
from tendon.policies.windows import Windows, windows_of


@dataclass(frozen=True)
class BcRnnConfig(CloningConfig):
    """Behaviour cloning with an LSTM or a GRU."""

    model: ClassVar[str] = "tendon.policies.bc_rnn.model:BcRnn"

    horizon: Count = 10
    seq_length: Count = 10
    hidden_dim: Count = 400
    num_layers: Count = 2
    cell: Literal["LSTM", "GRU"] = "LSTM"
    open_loop: bool = False

    def conflicts(self) -> Iterator[Conflict]:
        """What is trained on must be as long as what is acted on."""
        yield from super().conflicts()
        if self.horizon != self.seq_length:
            yield Conflict(
                "horizon",
                f"policy.horizon is {self.horizon}, policy.seq_length {self.seq_length}",
                "the state starts anew every horizon steps when acting; it would see lengths it never trained on",
                f"policy.horizon={self.seq_length}, or policy.seq_length={self.horizon}",
            )
        if self.head == "gaussian":
            what, why = "policy.head is gaussian", "the recurrent policy has a deterministic or a mixture head"
            yield Conflict("head", what, why, "policy.head=gmm")

    def windows(self, features: Mapping[str, Feature]) -> Windows:
        """Trained on ``seq_length`` steps from a zero state; acting sees the newest one."""
        steps = range(self.seq_length)
        return windows_of(self.reads(features), self.writes(features), steps, steps, acting=(0,))
