"""FAST: a chunk of actions as a few tokens. A cosine transform along time, whole numbers, byte-pair encoding of them.

The table is fitted to the chunks of a dataset and kept in buffers, so it travels with the weights. Legend: N chunks, T steps of
a chunk, A numbers of an action, S symbols: the numbers that a coefficient can be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from tendon.errors import ConfigError, DataError
from tendon.policies.parts.towers import needs_transformers

NUMERICS = 1

SCALE = 10.0  # of coefficients before they are rounded
MIN_FREQUENCY, MAX_TOKEN_LENGTH = 2, 10_000
MERGES_PER_TOKEN = 2  # room in the table: two merges may make one token


class FastTokenizer(nn.Module):
    """Chunks that are scaled to about [-1, 1] to lists of token ids, and back."""

    limits: Tensor
    merges: Tensor

    def __init__(self, chunk_size: int, action_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.chunk_size, self.action_dim, self.vocab_size = chunk_size, action_dim, vocab_size
        self.register_buffer("limits", torch.zeros(2, dtype=torch.int64))  # the lowest and the highest coefficient
        self.register_buffer("merges", torch.full((MERGES_PER_TOKEN * vocab_size, 2), -1, dtype=torch.int64))
        self._made: tuple[tuple[int, int], Any] | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether it has a table."""
        return bool(self.limits[1] > self.limits[0])

    @cached_property
    def waves(self) -> Tensor:
        """The orthonormal DCT-II as a matrix ``[T, T]``, float64."""
        T = self.chunk_size
        step, frequency = torch.arange(T, dtype=torch.float64), torch.arange(T, dtype=torch.float64)[:, None]
        waves = torch.cos(math.pi / T * (step + 0.5) * frequency) * math.sqrt(2 / T)
        waves[0] /= math.sqrt(2)
        return waves

    def coefficients(self, chunks_NTA: Tensor) -> Tensor:
        """Whole numbers ``[N, T * A]``, frequency by frequency."""
        spectrum_NTA = torch.einsum("ft,nta->nfa", self.waves, chunks_NTA.detach().cpu().double())
        return (SCALE * spectrum_NTA).round().long().flatten(1)

    def fit(self, chunks_NTA: Tensor) -> None:
        """Find the pairs that come often.

        Raises:
            ConfigError: a coefficient can be more numbers than there may be tokens.
        """
        coefficients_NF = self.coefficients(chunks_NTA)
        low, high = int(coefficients_NF.min()), int(coefficients_NF.max())
        num_symbols = high - low + 1
        if num_symbols > self.vocab_size:
            raise ConfigError(
                f"FAST has {num_symbols} symbols and room for {self.vocab_size} tokens",
                where="policy.fast_vocab_size",
                why=f"rounded coefficients are from {low} to {high}",
                fix=f"policy.fast_vocab_size={2 * num_symbols}, or policy.action_normalization=q99",
            )
        with needs_transformers("FAST"):
            from tokenizers import Tokenizer
            from tokenizers.models import BPE
            from tokenizers.trainers import BpeTrainer
        trainer = BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=MIN_FREQUENCY,
            show_progress=False,
            special_tokens=[],
            initial_alphabet=[chr(symbol) for symbol in range(num_symbols)],
            max_token_length=MAX_TOKEN_LENGTH,
        )
        tokenizer = Tokenizer(BPE())
        tokenizer.train_from_iterator(_texts(coefficients_NF - low), trainer=trainer)
        self.limits.copy_(torch.tensor([low, high]))
        self.merges.fill_(-1)
        ids = tokenizer.get_vocab()
        for row, (first, second) in enumerate(_merges(tokenizer)):
            self.merges[row] = torch.tensor([ids[first], ids[second]])

    def encode(self, chunks_NTA: Tensor) -> list[list[int]]:
        """Token ids of each chunk; a coefficient beyond the fitted ones is the nearest of them."""
        low, high = self.limits.tolist()
        clamped_NF = self.coefficients(chunks_NTA).clamp(low, high) - low
        return [one.ids for one in self._tokenizer.encode_batch(list(_texts(clamped_NF)))]

    def decode(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Chunks ``[N, T, A]``; of tokens that stand for another number of coefficients, zeros: what no demonstration was."""
        low = int(self.limits[0])
        spectrum_NTA = torch.zeros(len(tokens), self.chunk_size, self.action_dim, dtype=torch.float64)
        table = self._tokenizer.id_to_token
        for row, ids in enumerate(tokens):
            symbols = [ord(symbol) + low for one in ids for symbol in (table(int(one)) or "")]
            if len(symbols) == spectrum_NTA[row].numel():
                spectrum_NTA[row] = torch.tensor(symbols, dtype=torch.float64).view_as(spectrum_NTA[row]) / SCALE
        return torch.einsum("ft,nfa->nta", self.waves, spectrum_NTA).float()

    @property
    def num_tokens(self) -> int:
        """Of the table, which may have fewer than it has room for."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def _tokenizer(self) -> Any:
        """Made from the buffers, anew when they have changed."""
        if not self.is_fitted:
            raise DataError(
                "FAST is not fitted",
                where="policy=pi0fast",
                why="its table comes from the chunks of a dataset, before the first update",
                fix="train it, or begin with weights that hold a table (policy.init_from)",
            )
        state = (self.limits._version, self.merges._version)
        if self._made is None or self._made[0] != state:
            with needs_transformers("FAST"):
                from tokenizers import Tokenizer
                from tokenizers.models import BPE
            low, high = self.limits.tolist()
            texts = [chr(symbol) for symbol in range(high - low + 1)]
            ids, pairs = {text: number for number, text in enumerate(texts)}, []
            for first, second in self.merges.tolist():
                if first < 0:
                    break
                pairs.append((texts[first], texts[second]))
                joined = "".join(pairs[-1])
                if joined not in ids:
                    ids[joined] = len(texts)
                    texts.append(joined)
            self._made = (state, Tokenizer(BPE(ids, pairs)))
        return self._made[1]


def _texts(symbols_NF: Tensor) -> Iterator[str]:
    """Each row as a text, a character for a symbol."""
    for row in symbols_NF.tolist():
        yield "".join(map(chr, row))


def _merges(tokenizer: Any) -> list[tuple[str, str]]:
    """The pairs that a trained tokenizer joins, in their order."""
    import json

    found = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(first, second) for first, second in found]
