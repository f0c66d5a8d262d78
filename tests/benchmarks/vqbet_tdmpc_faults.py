"""``make faults``: vqbet killed inside its first phase, at the border and behind it, and tdmpc with its target network.

Small networks on data in memory (tests/policies/killed_policy.py), a checkpoint every fourth update. Weights, code books,
target, optimiser, generators, the loader's position and metrics are compared; of tdmpc's online phase (the guest reach,
tests/train/online_trial.py) the buffer too.
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


def share_equal_online(moments: int = MOMENTS) -> float:
    """As ``share_equal``, of trainings that play while they learn: half of them play in a thread of their own.

    Killed when a batch is asked for in either phase, before a rollout, behind one, or halfway through a write of a checkpoint.
    """
    from tests.benchmarks.train_faults import ended
    from tests.train.online_trial import STEPS, run, run_killed

    choice, equal = random.Random(6), 0
    with tempfile.TemporaryDirectory() as folder:
        expected = []
        for is_async in ("false", "true"):
            run(Path(folder, is_async), f"training.do_online_rollout_async={is_async}")
            expected.append(ended(Path(folder, is_async), STEPS))
        for i in range(moments):
            asked = f"training.do_online_rollout_async={('false', 'true')[i % 2]}"
            kind = ("batch", "rollout", "played", "write")[i // 2 % 4]
            number = {"batch": (0, 11), "rollout": (0, 3), "played": (1, 4), "write": (4, 40)}[kind]
            uri, moment = Path(folder, f"killed-{i}"), (kind, choice.randint(*number))
            assert run_killed(uri, moment, asked) == -9, moment
            run(uri, asked)
            equal += ended(uri, STEPS) == expected[i % 2]
    return equal / moments


@row(
    "faults",
    "lerobot-exact-tdmpc-online",
    f"share of {MOMENTS} trainings of tdmpc that go on online, SIGKILL in updates, rollouts and checkpoints, that end bit for bit equal",
    "== 1",
)
def exact_online() -> float:
    """The buffer among what is compared."""
    return share_equal_online()


def _rows() -> None:
    for policy, words in (("vqbet", "in both phases and at their border"), ("tdmpc", "with its target network")):
        what = f"share of {MOMENTS} trainings of {policy}, SIGKILL {words}, that end bit for bit equal"

        @row("faults", f"lerobot-exact-{policy}", what, "== 1")
        def measure(policy: str = policy) -> float:
            return share_equal(policy)


_rows()
