"""``make faults ROWS=fuzz``: ten minutes of mutated files for every reader (TENDON_FUZZ_MINUTES says another number)."""

from __future__ import annotations

import os
import random

from tests.benchmarks.rows import row
from tests.security.fuzz import GROWTH_BYTES, READERS, fuzz

MINUTES = float(os.environ.get("TENDON_FUZZ_MINUTES", "10"))


def _register(reader: str) -> None:
    what = f"mutated files of {reader} in {MINUTES:g} minutes that end without a name or grow past {GROWTH_BYTES >> 20} MiB"

    @row("faults", f"fuzz-{reader}", what, "== 0")
    def measured() -> float:
        """Counts crashes, and once more where memory grew."""
        result = fuzz(reader, 60 * MINUTES, random.randrange(1 << 30))
        print(
            f"{reader}: {result.tries} files, {result.read} read, {result.named} refused, unnamed: {result.unnamed[:5]}"
        )
        return len(result.unnamed) + (result.growth_bytes > GROWTH_BYTES)


for _reader in READERS:
    _register(_reader)
