"""``make faults ROWS=evaluate``: evaluations that are killed, and evaluations that are shared."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from tests.benchmarks.rows import row
from tests.evaluate.killed_evaluation import evaluate, table

MOMENTS, EPISODES, GUESTS = 10, 40, 3


def _bundle(folder: Path) -> str:
    from tendon.export.bundle import export_bundle
    from tests.train.small_trial import run

    return export_bundle(run(folder / "trial").checkpoint_uri, str(folder / "bundle")).uri


@row("faults", "evaluate-sigkill", f"share of {MOMENTS} evaluations, killed once each, with the same table", "== 1")
def evaluate_sigkill() -> float:
    """At most one episode a guest is played again."""
    moments, equal = random.Random(3), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = _bundle(folder)
        evaluate(bundle, folder / "whole", EPISODES, GUESTS)
        for moment in range(MOMENTS):
            out = folder / str(moment)
            assert evaluate(bundle, out, EPISODES, GUESTS, kill_at=moments.randrange(1, EPISODES - 2 * GUESTS))
            kept = {path: path.stat().st_mtime_ns for path in out.glob("rows/*/0*.json")}
            evaluate(bundle, out, EPISODES, GUESTS)
            played_again = sum(path.stat().st_mtime_ns != when for path, when in kept.items())
            equal += table(out) == table(folder / "whole") and not played_again
    return equal / MOMENTS


@row("faults", "evaluate-workers", "share of 1, 2 and 3 workers with the same table", "== 1")
def evaluate_workers() -> float:
    """Shares in a random order, one of them killed once."""
    with tempfile.TemporaryDirectory() as name:
        folder, equal = Path(name), 0
        bundle = _bundle(folder)
        evaluate(bundle, folder / "whole", EPISODES, GUESTS)
        for shares in (1, 2, 3):
            out = folder / str(shares)
            assert evaluate(bundle, out, EPISODES, GUESTS, 0, shares, kill_at=4)
            for share in random.Random(shares).sample(range(shares), shares):
                evaluate(bundle, out, EPISODES, GUESTS, share, shares)
            evaluate(bundle, out, EPISODES, GUESTS)
            equal += table(out) == table(folder / "whole")
    return equal / 3
