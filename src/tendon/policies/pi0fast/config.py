"""pi0-FAST: its keys, windows and prompt. No torch. Names are LeRobot's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tendon.config.schema import Conflict, Count, CountOrNone
from tendon.data.features import Feature
from tendon.policies.pi0.config import prompt_with_state
from tendon.policies.processing.normalize import Rules
from tendon.policies.processing.prompt import BEGIN, Prompt
from tendon.policies.processing.transform import Transform
from tendon.policies.vla.config import TOKENS, VlaConfig


@dataclass(frozen=True)
class Pi0FastConfig(VlaConfig):
    """PaliGemma alone: it writes actions as tokens, one after the other."""

    model: ClassVar[str] = "tendon.policies.pi0fast.model:Pi0Fast"
    rules: ClassVar[Rules] = "openpi"
    letterbox: ClassVar[bool] = True

    fast_vocab_size: Count
    fast_skip_tokens: CountOrNone
    fast_fit_batches: Count
    max_action_tokens: Count

    def conflicts(self) -> Iterator[Conflict]:
        """FAST's tokens take the place of the last ones of the vocabulary."""
        yield from super().conflicts()
        if self.fast_vocab_size + self.fast_skip_tokens >= self.vocab_size:
            what = f"policy.fast_vocab_size is {self.fast_vocab_size}, policy.vocab_size {self.vocab_size}"
            why = "FAST's tokens take the place of tokens that no text has"
            fix = f"policy.vocab_size={2 * (self.fast_vocab_size + self.fast_skip_tokens)}"
            yield Conflict("fast_vocab_size", what, why, fix)

    def prompt(self, features: Mapping[str, Feature]) -> tuple[Transform, ...]:
        """The instruction in small letters, and the state as numbers."""
        key = next(iter(self.texts(features)), "")
        common: dict[str, Any] = {
            "key": key,
            "into": TOKENS,
            "length": self.tokenizer_max_length,
            "tokenizer": self.tokenizer,
        }
        if not self.states(features):
            return (Prompt(pieces=(BEGIN, "Task: {text};\n"), spaces=True, lower=True, **common),)
        return prompt_with_state("", common, lower=True)
