"""pi0 and, with ``pi05``, pi0.5: keys, windows and prompt. No torch. Names are openpi's and LeRobot's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tendon.config.schema import Conflict, Count, Positive
from tendon.data.features import Feature
from tendon.policies.processing.actions import Bins
from tendon.policies.processing.normalize import Rules
from tendon.policies.processing.prompt import BEGIN, STATE, Prompt
from tendon.policies.processing.transform import Transform
from tendon.policies.vla.config import STATE as JOINED
from tendon.policies.vla.config import TOKENS, FlowConfig

BINS = "state_bins"


@dataclass(frozen=True)
class Pi0Config(FlowConfig):
    """PaliGemma, and a Gemma beside it that denoises actions."""

    model: ClassVar[str] = "tendon.policies.pi0.model:Pi0"
    rules: ClassVar[Rules] = "openpi"
    letterbox: ClassVar[bool] = True
    decides: ClassVar[tuple[str, ...]] = ("lora_rank", "pi05")

    pi05: bool
    expert_width: Count
    expert_feedforward: Count
    min_period: Positive
    max_period: Positive

    def conflicts(self) -> Iterator[Conflict]:
        """Waves come in pairs."""
        yield from super().conflicts()
        if self.expert_width % 2:
            what, why = f"policy.expert_width is {self.expert_width}", "a time is sines and as many cosines"
            yield Conflict("expert_width", what, why, f"policy.expert_width={self.expert_width + 1}")
        if self.text_head_dim % 2:
            what, why = f"policy.text_head_dim is {self.text_head_dim}", "places turn pairs of numbers"
            yield Conflict("text_head_dim", what, why, f"policy.text_head_dim={self.text_head_dim + 1}")

    def without_effect(self) -> dict[str, str]:
        """The state of pi0.5 is text, as long as it is."""
        return super().without_effect() | ({"max_state_dim": "policy.pi05=false"} if self.pi05 else {})

    @property
    def state_width(self) -> int:
        """Of pi0.5 as wide as it is."""
        return 0 if self.pi05 else self.max_state_dim

    def prompt(self, features: Mapping[str, Feature]) -> tuple[Transform, ...]:
        """The instruction and a line break; of pi0.5 the state as numbers too."""
        key = next(iter(self.texts(features)), "")
        common: dict[str, Any] = {
            "key": key,
            "into": TOKENS,
            "length": self.tokenizer_max_length,
            "tokenizer": self.tokenizer,
        }
        if not self.pi05:
            return (Prompt(pieces=(BEGIN, "{text}", "\n"), spaces=True, **common),)
        if not self.states(features):
            return (Prompt(pieces=(BEGIN, "Task: {text};\nAction: "), spaces=True, **common),)
        return prompt_with_state("Action: ", common)


def prompt_with_state(end: str, common: Mapping[str, Any], *, lower: bool = False) -> tuple[Transform, ...]:
    """The prompt of openpi for a state in 256 bins of [-1, 1]."""
    pieces = (BEGIN, "Task: {text}, State:", STATE, f";\n{end}")
    bins = Bins(into={JOINED: BINS})
    return bins, Prompt(pieces=pieces, state=BINS, spaces=True, lower=lower, **common)
