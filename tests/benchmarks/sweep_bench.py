"""``make bench ROWS=sweep`` and ``make faults ROWS=sweep``: sweeps that stop early, simulated, real, and killed.

The real one trains sixteen trials of reach to their ends and plays each at both rungs and at its end; replays draw the
episodes of a sweep from those.
"""

from __future__ import annotations

import functools
import random
import tempfile
from pathlib import Path

import numpy as np

from tendon.evaluate.confidence import Outcomes, wilson
from tendon.runs.halving import SHARES, rung_steps, share_saved, survivors
from tests.benchmarks.rows import row
from tests.runs.killed_sweep import count, planned, result, sweep
from tests.runs.simulated_sweeps import CHOSEN_WITH, FAMILIES, WORLDS, Replay, replays, untried

REPLAYS, FIRST = 200, 1000  # of each world, with seeds that no test and no tuning has used
TRIALS, STEPS, EPISODES, SEEDS = 16, 600, 50, 150
MOMENTS, SHORT_STEPS, SHORT_EPISODES = 10, 150, 12


@functools.cache
def _world(family: str, ends: str) -> tuple[Replay, ...]:
    return tuple(replays(family, ends, REPLAYS, FIRST))


def _all() -> list[Replay]:
    return [one for world in WORLDS for one in _world(*world)]


@row("bench", "sweep-simulated-saved", f"least share of steps saved, {len(WORLDS)} worlds of 16 trials", ">= 0.6")
def simulated_saved() -> float:
    """By construction of the schedule, whatever the trials do."""
    return min(one.saved for one in _all())


@row(
    "bench",
    "sweep-simulated-within",
    f"share of {REPLAYS} sweeps a world that pick one as good as the winner",
    ">= 0.9",
)
def simulated_within() -> float:
    """Over all eight families of learning curves; the schedule was chosen with four of them and other seeds."""
    return float(np.mean([one.within for one in _all()]))


@row("bench", "sweep-simulated-validated", "the same over the four families that chose nothing", ">= 0.9")
def simulated_validated() -> float:
    """Diverging, forgetting, power and stairs."""
    return float(np.mean([one.within for world in WORLDS if world[0] not in CHOSEN_WITH for one in _world(*world)]))


@row("bench", "sweep-simulated-untried", "the same of six trials at random, trained to their ends (shown)", "<= 0.9")
def simulated_untried() -> float:
    """What the same steps are worth without rungs."""
    return float(np.mean([untried(*world, FIRST + number) for world in WORLDS for number in range(REPLAYS)]))


def _families() -> None:
    for family in FAMILIES:

        @row("bench", f"sweep-family-{family}", "the same for this family of learning curves (shown)", ">= 0")
        def within(family: str = family) -> float:
            return float(np.mean([one.within for name, ends in WORLDS if name == family for one in _world(name, ends)]))


_families()


@functools.cache
def _real() -> tuple[Replay, ...]:
    """A real sweep, played once on many seeds; each replay draws EPISODES of them."""
    from tendon import steps
    from tendon.config.schema import TrainConfig
    from tendon.runs.plan import load_plan
    from tendon.train.state.checkpoint import policy_at
    from tendon.train.state.pause import pausing_at

    success: dict[tuple[str, int], np.ndarray] = {}
    with tempfile.TemporaryDirectory() as name:
        run = load_plan(planned(Path(name), TRIALS, STEPS, SEEDS).run_uri)
        source = {"source_uri": run.source_uri, "store_uri": name, "dataset_name": "demos"}
        steps.stats(dataset_uri=steps.convert(**source).dataset_uri)
        for trial in run.trials:
            config: TrainConfig = run.config_of(trial.name)
            for rung in range(1, len(SHARES) + 2):
                with pausing_at(rung_steps(STEPS, rung)):
                    trained = steps.train(
                        config=config, dataset_uri=run.dataset_uri, trial_uri=run.trial_uri(trial.name)
                    )
                uri = f"{name}/evaluations/{trial.name}-{rung}"
                table = steps.evaluate(
                    bundle_uri=policy_at(trained.checkpoint_uri),
                    config=config,
                    block="selection",
                    run_id="",
                    evaluations_uri=uri,
                )
                success[trial.name, rung] = np.array([row["status"] == "success" for row in table.rows])
    generator = np.random.default_rng(0)
    return tuple(_replay(success, generator.choice(SEEDS, EPISODES, replace=False)) for _ in range(1000))


def _replay(success: dict[tuple[str, int], np.ndarray], seeds: np.ndarray) -> Replay:
    names = sorted({name for name, _ in success})
    going, trained = list(names), dict.fromkeys(names, 0)
    results: dict[str, Outcomes] = {}
    rungs: list[dict[str, Outcomes]] = []
    last = len(SHARES) + 1
    for rung in range(1, last + 1):
        results = {name: Outcomes({int(seed): bool(success[name, rung][seed]) for seed in seeds}) for name in going}
        trained |= dict.fromkeys(going, rung_steps(STEPS, rung) or STEPS)
        if rung < last:
            rungs.append(results)
            going = survivors(rungs)[0]
    chosen = max(results, key=lambda name: results[name].successes)
    rates = {name: float(success[name, last].mean()) for name in names}
    best = max(rates, key=rates.__getitem__)
    low = wilson(int(success[best, last][seeds].sum()), EPISODES).low
    return Replay(share_saved(STEPS, list(trained.values())), rates[chosen] >= low, rates[best] - rates[chosen])


@row("bench", "sweep-real-saved", "least share of steps saved in replays of a real sweep: 16 trials of reach", ">= 0.6")
def real_saved() -> float:
    """Replays draw the episodes of rungs and end."""
    return min(one.saved for one in _real())


@row("bench", "sweep-real-within", "share of its 1,000 replays that pick one as good as the winner", ">= 0.9")
def real_within() -> float:
    """Within the winner's interval of the same episodes."""
    return float(np.mean([one.within for one in _real()]))


@row(
    "faults", "sweep-sigkill", f"share of {MOMENTS} halved sweeps of 16 trials, killed once, that end the same", "== 1"
)
def sweep_sigkill() -> float:
    """The same scores at each rung, decisions, leaderboard and winner."""
    with tempfile.TemporaryDirectory() as name:
        size = (TRIALS, SHORT_STEPS, SHORT_EPISODES)
        sweep(Path(name, "whole"), *size)
        whole, objects, equal = result(Path(name, "whole")), count(Path(name, "whole")), 0
        moments = random.Random(5)
        for moment in range(MOMENTS):
            store = Path(name, str(moment))
            assert sweep(store, *size, kill_at=moments.randrange(5, int(0.95 * objects)))
            sweep(store, *size)
            equal += result(store) == whole
    return equal / MOMENTS
