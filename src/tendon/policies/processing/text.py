"""Texts to token ids: each text of a dataset's table once, then every step looks its row up on the device.

Tokenizers are named: ``bytes`` (our own, for tests and small policies), or a folder of transformers' files (a path, or
``package://NAME/FOLDER`` of an installed package), which is read without the network;
``tendon.policies.processing.processing`` saves its files beside the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from tendon.data.features import TASK, Feature
from tendon.errors import DataError, MissingDependency
from tendon.plugins import PACKAGE, package_path
from tendon.policies.processing.transform import Features, Numbers, Phase, Transform, misfit, needed

if TYPE_CHECKING:
    from torch import Tensor

NUMERICS = 1

logger = logging.getLogger(__name__)
BYTES = "bytes"
MASK = "_mask"


class Tokenizer(Protocol):
    """A text to ids, special ones included or (``plain``) only those that the text spells out."""

    pad_id: int
    begin_id: int
    end_id: int

    def encode(self, text: str) -> list[int]: ...  # noqa: D102
    def plain(self, text: str) -> list[int]: ...  # noqa: D102
    def save(self, folder: Path) -> None: ...  # noqa: D102


class ByteTokenizer:
    """One id for each byte of UTF-8 behind three special ones, between a beginning and an end."""

    pad_id, begin_id, end_id, num_special = 0, 1, 2, 3
    num_ids = num_special + 256

    def encode(self, text: str) -> list[int]:
        """The ids."""
        return [self.begin_id, *self.plain(text), self.end_id]

    def plain(self, text: str) -> list[int]:
        """Those of its bytes alone."""
        return [self.num_special + byte for byte in text.encode()]

    def decode(self, ids: Sequence[int]) -> str:
        """The text."""
        return bytes(one - self.num_special for one in ids if one >= self.num_special).decode()

    def save(self, folder: Path) -> None:
        """Nothing is to be saved."""


class FolderTokenizer:
    """Transformers' tokenizer in a folder of this machine."""

    def __init__(self, folder: str) -> None:
        try:
            from transformers import AutoTokenizer  # type: ignore[import-not-found]
        except ImportError as error:
            raise MissingDependency(
                "the tokenizer needs transformers",
                where=f"tokenizer {folder}",
                why=str(error),
                fix="pip install transformers, or a policy with another tokenizer",
            ) from error
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise DataError(
                "there is no tokenizer",
                where=folder,
                why=str(error).splitlines()[0],
                fix="name a folder that holds the files of one (tokenizer.json, tokenizer_config.json)",
            ) from error
        self.pad_id = int(self.tokenizer.pad_token_id or 0)
        self.begin_id = int(self.tokenizer.bos_token_id or 0)
        self.end_id = int(self.tokenizer.eos_token_id or 0)

    def encode(self, text: str) -> list[int]:
        """The ids, with the special ones that its files ask for."""
        return [int(one) for one in self.tokenizer(text)["input_ids"]]

    def plain(self, text: str) -> list[int]:
        """Those that the text spells out: of `<|im_end|>` the special one, none is put around it."""
        return [int(one) for one in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def save(self, folder: Path) -> None:
        """Its files."""
        self.tokenizer.save_pretrained(str(folder))


@lru_cache(maxsize=4)
def make_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of that name or folder.

    Raises:
        MissingDependency: transformers is not installed.
        DataError: the folder holds none.
    """
    if name.startswith(PACKAGE):
        name = str(package_path(name))
    return ByteTokenizer() if name == BYTES else FolderTokenizer(name)


@dataclass(frozen=True, kw_only=True)
class Tokenize(Transform):
    r"""An index of a text becomes ``[B, T, length]`` ids and, under ``<into>_mask``, which of them are real.

    A text is cleaned first: ``spaces`` puts one for every "_" and line break (pi0), then ``template`` is filled in.

    Example:
        ``Tokenize(into="tokens", length=48, tokenizer="weights/paligemma", template="{text}\n")``
    """

    kind: ClassVar[str] = "tokenize"

    key: str = TASK
    into: str = "tokens"
    length: int = 48
    tokenizer: str = BYTES
    template: str = "{text}"
    lower: bool = False
    spaces: bool = False
    pad_in_front: bool = False

    def after(self, features: Features) -> Features:
        """With the ids."""
        feature = needed(features, self.key, self.kind)
        if feature.kind != "text":
            raise misfit(self.kind, self.key, f"it is a {feature.kind}", "name a text")
        mask = self.into + MASK
        return {
            **features,
            self.into: Feature(self.into, "category", (self.length,), "int64"),
            mask: Feature(mask, "flag", (self.length,), "bool"),
        }

    def tables(self, texts: Sequence[str]) -> Numbers:
        """Ids of every text, and which are real."""
        tokenizer = make_tokenizer(self.tokenizer)
        ids_NL = np.full((len(texts), self.length), tokenizer.pad_id, np.int64)
        real_NL = np.zeros((len(texts), self.length), np.bool_)
        for row, text in enumerate(texts):
            ids = tokenizer.encode(self.template.format(text=self._cleaned(text)))
            if len(ids) > self.length:
                logger.warning("processing: %d tokens of %r are cut to %d", len(ids), text, self.length)
            ids = ids[: self.length]
            place = slice(self.length - len(ids), None) if self.pad_in_front else slice(0, len(ids))
            ids_NL[row, place], real_NL[row, place] = ids, True
        return {"ids": ids_NL, "real": real_NL}

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """The rows of the batch's texts."""
        if self.key not in batch:
            return {}
        indices_BT = batch[self.key]
        return {self.into: numbers["ids"][indices_BT], self.into + MASK: numbers["real"][indices_BT]}

    def _cleaned(self, text: str) -> str:
        text = text.strip()
        if self.spaces:
            text = text.replace("_", " ").replace("\n", " ")
        return text.lower() if self.lower else text
