"""``make faults ROWS=curate``: a planted third of bad demonstrations, from the ranking to the run that decides."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from tests.benchmarks.rows import row
from tests.planted_reach import write_planted

GOOD, BAD, CONFIRMED = 48, 24, 200
CONFIG = (
    "experiment=reach_bc training.offline_steps=600 training.save_freq=200 training.keep_checkpoints=3 eval.videos=0"
)


@cache
def curated() -> tuple[float, float, float]:
    """Recall and precision of the planted third, and by how many points the policy without the left-out ones is better, at least."""
    from tendon import steps
    from tendon.registry.subset import load_subset
    from tendon.runs.plan import load_plan

    with tempfile.TemporaryDirectory() as name:
        source, store = str(Path(name) / "demos.hdf5"), str(Path(name) / "store")
        planted = set(write_planted(Path(source), GOOD, BAD))
        given = {"source_uri": source, "store_uri": store, "dataset_name": "reach", "config": CONFIG}
        curation = steps.curate(**given)  # type: ignore[arg-type]
        out = set(curation.left_out)
        run = steps.plan(
            **given, sweep=curation.sweep(), episodes=50, confirm_episodes=CONFIRMED, champion="champion", promote=False
        )  # type: ignore[arg-type]
        names = [trial["name"] for trial in run.trials]
        trained = steps.train_trials(run_uri=run.run_uri, trials=names, dataset_uri=run.dataset_uri)
        steps.evaluate_trials(run_uri=run.run_uri, outcomes=steps.export_trials(run_uri=run.run_uri, outcomes=trained))
        steps.conclude(run_uri=run.run_uri)
        decision = load_subset(load_plan(run.run_uri))
        assert decision is not None
        print(f"{curation.rule}; {decision.sentence}; all {decision.all_rate}, subset {decision.subset_rate}")
        found = len(out & planted)
        return found / len(planted), found / max(1, len(out)), 100 * decision.difference_95.low * decision.kept


@row(
    "faults", "curate-recall", f"share of {BAD} planted bad demonstrations of {GOOD + BAD} that are left out", ">= 0.8"
)
def recall() -> float:
    """Of reach, by an operator who goes to the wrong side."""
    return curated()[0]


@row("faults", "curate-precision", "share of planted ones among those that are left out", ">= 0.8")
def precision() -> float:
    """Few good ones are lost with them."""
    return curated()[1]


@row(
    "faults",
    "curate-kept",
    f"points that the policy without them is better by, low end of 95 % of {CONFIRMED} pairs",
    "> 0",
)
def kept() -> float:
    """0 when the run did not keep the subset."""
    return curated()[2]
