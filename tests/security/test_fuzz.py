"""Some seconds of fuzzing in every run of the tests; ``make faults ROWS=fuzz`` takes minutes."""

from __future__ import annotations

import random

import pytest

from tests.security.fuzz import CORPUS, GROWTH_BYTES, READERS, corpus, fuzz


@pytest.mark.parametrize("reader", READERS)
def test_mutated_files_are_read_or_refused_by_name(reader: str) -> None:
    if reader == "lmdb":
        pytest.importorskip("lmdb")
    seed = random.randrange(1 << 30)  # each run looks elsewhere; the seed is part of the message
    result = fuzz(reader, 2.0, seed)
    assert not result.unnamed, (seed, result.unnamed)
    assert result.growth_bytes < GROWTH_BYTES


def test_the_corpus_is_small_and_serves_every_reader() -> None:
    assert all(len(corpus(reader)) >= 5 for reader in READERS)
    assert len({content for reader in READERS for content in corpus(reader).values()}) >= 50
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 300_000
