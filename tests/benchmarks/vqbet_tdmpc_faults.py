"""``make faults``: vqbet killed inside its first phase, at the border and behind it, and tdmpc with its target network.

Small networks on data in memory (tests/policies/killed_policy.py), a checkpoint every fourth update. Weights, code books,
target, optimiser, generators, the loader's position and metrics are compared.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from tests.benchmarks.rows import row

MOMENTS = 20


def share_equal(policy: str, moments: int = MOMENTS) -> float:
    """The share of trainings, each killed once when it asks for a batch and started again, that end as the undisturbed one."""
    from tests.benchmarks.train_faults import ended
    from tests.policies.killed_policy import BORDER, STEPS, run, run_killed

    chosen = [BORDER - 1, BORDER, *(random.Random(5).randrange(STEPS) for _ in range(moments - 2))]
    equal = 0
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder, "whole"), policy)
        expected = ended(Path(folder, "whole"), STEPS)
        for i, moment in enumerate(chosen):
            uri = Path(folder, f"killed-{i}")
            assert run_killed(uri, policy, moment) == -9
            run(uri, policy)
            equal += ended(uri, STEPS) == expected
    return equal / moments


def _rows() -> None:
    for policy, words in (("vqbet", "in both phases and at their border"), ("tdmpc", "with its target network")):
        what = f"share of {MOMENTS} trainings of {policy}, SIGKILL {words}, that end bit for bit equal"

        @row("faults", f"lerobot-exact-{policy}", what, "== 1")
        def measure(policy: str = policy) -> float:
            return share_equal(policy)


_rows()
