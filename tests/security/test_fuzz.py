"""Some seconds of fuzzing in every run of the tests; ``make faults ROWS=fuzz`` takes minutes."""

from __future__ import annotations

import random

import pytest

from tests.security.fuzz import GROWTH_BYTES, READERS, fuzz


@pytest.mark.parametrize("reader", READERS)
def test_mutated_files_are_read_or_refused_by_name(reader: str) -> None:
    if reader == "lmdb":
        pytest.importorskip("lmdb")
    seed = random.randrange(1 << 30)  # each run looks elsewhere; the seed is part of the message
    result = fuzz(reader, 2.0, seed)
    assert not result.unnamed, (seed, result.unnamed)
    assert result.growth_bytes < GROWTH_BYTES
