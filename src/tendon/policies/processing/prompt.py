r"""A prompt of pieces: texts that are tokenised one by one, a state written as numbers, places for the tokens of pictures.

What depends on a text is tokenised once for each text of the table, what depends on the state once for each bin; a batch is
put together on the device. Legend: B batch, L tokens of a prompt, P pieces, D numbers of a state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tendon.data.features import TASK, Feature
from tendon.errors import ConfigError
from tendon.policies.processing.text import BYTES, MASK, Tokenizer, make_tokenizer
from tendon.policies.processing.transform import Features, Numbers, Phase, Transform, misfit, needed

if TYPE_CHECKING:
    from torch import Tensor

NUMERICS = 1

BEGIN, END, STATE, CAMERA = "<begin>", "<end>", "<state>", "<camera>"  # pieces that are no text
DEFAULT_TEXT = "Perform the default behavior."


@dataclass(frozen=True, kw_only=True)
class Prompt(Transform):
    r"""``[B, 1, length]`` ids and, under ``<into>_mask``, which of them are real.

    Pieces are text, in which ``{text}`` is the instruction, or one of ``<begin>`` and ``<end>`` (special ids), ``<state>``
    (the bins ``state``, a space before each number) and ``<camera>`` (``camera_tokens`` times ``camera_id``).

    Example:
        ``Prompt(pieces=("<begin>", "Task: {text}, State:", "<state>", ";\nAction: "), state="bins", length=200)``
    """

    kind: ClassVar[str] = "prompt"

    pieces: tuple[str, ...]
    key: str = TASK  # empty: there is no instruction, and ``default`` is it
    into: str = "tokens"
    length: int = 48
    tokenizer: str = BYTES
    default: str = DEFAULT_TEXT  # instead of an empty instruction too
    lower: bool = False
    spaces: bool = False  # one for every "_" and line break
    pad_in_front: bool = False
    state: str = ""  # key of the bins
    num_bins: int = 256
    camera_tokens: int = 0
    camera_id: int = 0

    def after(self, features: Features) -> Features:
        """With the ids."""
        if self.key and needed(features, self.key, self.kind).kind != "text":
            raise misfit(self.kind, self.key, f"it is a {features[self.key].kind}", "name a text")
        if (STATE in self.pieces) != bool(self.state):
            raise misfit(self.kind, self.state or STATE, "a state and its place go together", "name both or neither")
        if self.state:
            needed(features, self.state, self.kind)
        mask = self.into + MASK
        return {
            **features,
            self.into: Feature(self.into, "category", (self.length,), "int64"),
            mask: Feature(mask, "flag", (self.length,), "bool"),
        }

    def tables(self, texts: Sequence[str]) -> Numbers:
        """Ids of every text before and behind the state, and of every bin; -1 where there is none."""
        tokenizer = make_tokenizer(self.tokenizer)
        before, behind, split = [], [], self.pieces.index(STATE) if self.state else len(self.pieces)
        for text in texts if self.key and texts else ("",):
            cleaned = self._cleaned(text)
            before.append([*self._ids(self.pieces[:split], cleaned, tokenizer)])
            behind.append([*self._ids(self.pieces[split + 1 :], cleaned, tokenizer)])
            self._demand_room(len(before[-1]) + len(behind[-1]), text)
        bins = [tokenizer.plain(f" {number}") for number in range(self.num_bins)] if self.state else [[]]
        return {"before": _table(before), "behind": _table(behind), "bins": _table(bins)}

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """Pieces of the batch's texts and states, without gaps, padded to one length."""
        import torch

        if self.key and self.key not in batch:
            return {}
        B = len(next(iter(batch.values())))
        device = numbers["before"].device
        text_B = batch[self.key][:, -1] if self.key else torch.zeros(B, dtype=torch.int64, device=device)
        parts = [numbers["before"][text_B]]
        if self.state:
            parts.append(numbers["bins"][batch[self.state][:, -1]].flatten(1))
        parts.append(numbers["behind"][text_B])
        ids_BL, real_BL = self.packed(torch.cat(parts, 1))
        return {self.into: ids_BL[:, None], self.into + MASK: real_BL[:, None]}

    def packed(self, ids_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Ids without the gaps (-1) between them, cut or padded to ``length``; and which are real."""
        import torch

        pad_id = make_tokenizer(self.tokenizer).pad_id
        order = (ids_BP < 0).int().argsort(dim=1, stable=True)
        ids_BP = ids_BP.gather(1, order)[:, : self.length]
        ids_BL = torch.nn.functional.pad(ids_BP, (0, self.length - ids_BP.shape[1]), value=-1)
        if self.pad_in_front:
            ids_BL = ids_BL.gather(1, (ids_BL >= 0).int().argsort(dim=1, stable=True))
        real_BL = ids_BL >= 0
        return torch.where(real_BL, ids_BL, pad_id), real_BL

    def _ids(self, pieces: Sequence[str], text: str, tokenizer: Tokenizer) -> Iterator[int]:
        for piece in pieces:
            if piece == CAMERA:
                yield from [self.camera_id] * self.camera_tokens
            elif piece in (BEGIN, END):
                yield tokenizer.begin_id if piece == BEGIN else tokenizer.end_id
            else:
                yield from tokenizer.plain(piece.replace("{text}", text))

    def _demand_room(self, num_tokens: int, text: str) -> None:
        if num_tokens > self.length:
            raise ConfigError(
                f"a prompt has {num_tokens} tokens, there is room for {self.length}",
                where=f"processing of {self.key or 'the prompt'}",
                why=f"of the instruction {text[:60]!r}; a cut one would lose what is asked for",
                fix=f"policy.tokenizer_max_length={num_tokens}",
            )

    def _cleaned(self, text: str) -> str:
        text = text.strip() or self.default
        if self.spaces:
            text = text.replace("_", " ").replace("\n", " ")
        return text.lower() if self.lower else text


def _table(rows: list[list[int]]) -> np.ndarray:
    """Rows of several lengths as one array, -1 behind each."""
    made = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int64)
    for number, row in enumerate(rows):
        made[number, : len(row)] = row
    return made
