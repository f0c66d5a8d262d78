"""pi0-FAST: actions are written as tokens of FAST, whose table is fitted to the dataset before the first update.

Legend: B batch, T chunk, A numbers of an action, L tokens that are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.policies.base import Batch, LossOutput, Memory
from tendon.policies.pi0.weights import our_name
from tendon.policies.pi0fast.config import Pi0FastConfig
from tendon.policies.pi0fast.fast import FastTokenizer
from tendon.policies.pi0fast.network import Pi0FastNetwork
from tendon.policies.processing.text import Tokenizer, make_tokenizer
from tendon.policies.vla.config import ACTIONS
from tendon.policies.vla.model import VlaPolicy
from tendon.policies.vla.sizes import language_of, vision_of

NUMERICS = 1

BEFORE, BEHIND = "Action: ", "|"  # around FAST's tokens


class Pi0Fast(VlaPolicy):
    """There is no chance in acting: the likeliest token is written, of those that FAST has and the end."""

    config: Pi0FastConfig
    net: Pi0FastNetwork

    def __init__(
        self, config: Pi0FastConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features, stats)
        action_dim = sum(features[key].dim for key in self.writes)
        self.fast = FastTokenizer(config.chunk_size, action_dim, config.fast_vocab_size)

    def build(self) -> Pi0FastNetwork:
        """Random."""
        return Pi0FastNetwork(vision_of(self.config), language_of(self.config))

    def parts(self) -> Mapping[str, Sequence[str]]:
        """Two of them."""
        return {"llm": ["gemma"], "visual": ["vision", "connector"]}

    def prepare(self, batches: Iterator[Batch]) -> None:
        """Fit FAST, unless weights brought a table."""
        if not self.fast.is_fitted:
            chunks = [self.processing(next(batches))[ACTIONS].cpu() for _ in range(self.config.fast_fit_batches)]
            self.fast.fit(torch.cat(chunks))

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        """Cross entropy of the tokens that a demonstrated chunk is written as."""
        seen = self.processing(batch)
        written_BL, real_BL = self.written(seen[ACTIONS])
        with self.precision():
            logits_BLV = self.net(self.seen(seen), written_BL, real_BL)
        errors_BL = functional.cross_entropy(logits_BLV.transpose(1, 2), written_BL, reduction="none")
        num_real = real_BL.sum()
        right = (logits_BLV.argmax(-1) == written_BL) & real_BL
        metrics = {"token_accuracy": (right.sum() / num_real).detach()}
        return LossOutput((errors_BL * real_BL).sum() / num_real, metrics)

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        """A chunk from now on."""
        seen = self.processing(observation, "acting")
        with self.precision():
            tokens = self.generate(seen)
        chunk_BTA = self.fast.decode(tokens).to(self.processing.numbers_device())
        return self.processing.inverse({ACTIONS: chunk_BTA}, seen), memory

    def generate(self, seen: Batch) -> list[list[int]]:
        """FAST's tokens of each row."""
        written, device = self.net.read(self.seen(seen)), self.processing.numbers_device()
        B = len(written.real)
        for token in self.tokenizer.plain(BEFORE):
            written = self.net.write(written, torch.full((B,), token, device=device))
        end = self._end[0]
        allowed = torch.tensor([end, *(self.vocabulary_id(one) for one in range(self.fast.num_tokens))], device=device)
        made: list[list[int]] = [[] for _ in range(B)]
        is_open_B = torch.ones(B, dtype=torch.bool, device=device)
        for _ in range(self.config.max_action_tokens):
            token_B = allowed[written.logits[:, allowed].argmax(1)]
            is_open_B = is_open_B & (token_B != end)
            for row in is_open_B.nonzero()[:, 0].tolist():
                made[row].append(self.vocabulary_id(int(token_B[row])))
            if not bool(is_open_B.any()):
                break
            written = self.net.write(written, token_B)
        return made

    def written(self, chunks_BTA: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens of chunks ``[B, L]``, filled up to the longest, and which are real; cut where there is no room."""
        before, end = self.tokenizer.plain(BEFORE), [*self._end, self.tokenizer.end_id]
        room = self.config.max_action_tokens
        rows = [
            [*before, *map(self.vocabulary_id, tokens[:room]), *end][: len(before) + room + len(end)]
            for tokens in self.fast.encode(chunks_BTA)
        ]
        longest = max(map(len, rows))
        ids_BL = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=chunks_BTA.device)
        lengths_B = torch.tensor([len(row) for row in rows], device=chunks_BTA.device)
        return ids_BL, torch.arange(longest, device=chunks_BTA.device) < lengths_B[:, None]

    def vocabulary_id(self, number: int) -> int:
        """FAST's token in the language model's vocabulary, and back: the last ones, in reversed order."""
        return self.config.vocab_size - 1 - self.config.fast_skip_tokens - number

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the prompt."""
        return make_tokenizer(self.config.tokenizer)

    @property
    def _end(self) -> list[int]:
        return self.tokenizer.plain(BEHIND)

    def base_tensor(self, name: str) -> str:
        """Openpi's and LeRobot's names, and ours."""
        return our_name(name).replace("gemma.prefix_norm.", "gemma.norm.").replace(".prefix.", ".")
