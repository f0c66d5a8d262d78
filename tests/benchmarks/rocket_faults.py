"""``make faults``: ROCKET-1 in two processes, killed at random moments: weights, average, memory and slots, bit for bit."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from tests.benchmarks.rows import row

MOMENTS = 20


@row(
    "faults",
    "minestudio-exact-rocket1",
    f"share of {MOMENTS} trainings of rocket1 by two processes, SIGKILL once each, that end bit for bit equal",
    "== 1",
)
def rocket1() -> float:
    """With its recurrent memory, its moving average, dropped prompts, in fp32."""
    from tests.benchmarks.train_faults import ended
    from tests.policies.rocket1.killed import STEPS, make_dataset, run_two

    rng, equal = random.Random(9), 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dataset = make_dataset(folder)
        assert run_two(folder / "whole", dataset) == [0, 0]
        expected = ended(folder / "whole", STEPS)
        for i in range(MOMENTS):
            uri = folder / f"killed-{i}"
            assert run_two(uri, dataset, rng.randrange(1, STEPS)) == [-9, -9]
            assert run_two(uri, dataset) == [0, 0]
            equal += ended(uri, STEPS) == expected
    return equal / MOMENTS
