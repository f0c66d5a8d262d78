"""A halved sweep from its plan to its conclusion, step by step: ``python -m tests.runs.killed_sweep STORE TRIALS STEPS EPISODES``.

``sweep`` starts it, and kills it with all of its processes as soon as so many objects are in its store. Trainings run in
the process itself: children that are killed are the matter of tests/train.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "demo://reach?episodes=20&seed=1"
SEVERAL = 4  # learning rates for each width of the network


def parameters(trials: int) -> list[dict[str, Any]]:
    """Trials that end differently: learning rates from hopeless to good."""
    rates = [round(10 ** (-4.3 + 2.3 * number / max(1, trials - 1)), 7) for number in range(trials)]
    widths = [[16, 16] if number % SEVERAL == SEVERAL - 1 else [64, 64] for number in range(trials)]
    names = [f"t{number:02d}" for number in range(trials)]
    return [
        {"key": "training.lr", "name": "lr", "group": 0, "values": rates, "value_names": names},
        {"key": "policy.hidden_dims", "name": "", "group": 0, "values": widths, "value_names": names},
    ]


def planned(store: Path, trials: int, num_steps: int, episodes: int) -> Any:
    """The plan of such a sweep."""
    from tendon import steps

    config = f"experiment=reach_bc training.offline_steps={num_steps} training.save_freq={num_steps} "
    return steps.plan(
        source_uri=SOURCE,
        store_uri=str(store),
        dataset_name="demos",
        config=f"{config} training.valid_freq={num_steps} eval.videos=0",
        sweep=parameters(trials),
        episodes=episodes,
        confirm_episodes=episodes,
        champion="best",
        promote=False,
        trials_per_pod=trials,
        halving=True,
    )


def main(store: str, trials: str, num_steps: str, episodes: str) -> None:
    """As the sweep pipeline does it, one step after the other."""
    from tendon import steps
    from tendon.runs.halving import SHARES
    from tendon.train.distributed import attempts
    from tendon.train.state.pause import pausing_at

    def train_here(config: Any, dataset_uri: str, trial_uri: str, train: Any, *, pause_at: int = 0, **_: Any) -> Any:
        with pausing_at(pause_at):
            return train(config=config, dataset_uri=dataset_uri, trial_uri=trial_uri)

    attempts.train_in_child = train_here
    os.environ["OMP_NUM_THREADS"] = "1"
    run = planned(Path(store), int(trials), int(num_steps), int(episodes))
    if not run.work:
        return
    common = {"run_uri": run.run_uri}
    data = steps.convert(source_uri=SOURCE, store_uri=store, dataset_name="demos")
    steps.stats(dataset_uri=data.dataset_uri)
    groups = run.groups
    for rung in range(1, 1 + len(SHARES)):
        for group in groups:
            paused = [
                steps.train_trials(**common, trials=[name], dataset_uri=data.dataset_uri, rung=rung)[0]
                for name in group
            ]
            steps.evaluate_rung(**common, outcomes=paused, rung=rung, episodes=int(episodes))
        groups = steps.prune(**common, rung=rung, trials_per_pod=int(trials)).groups
    for group in groups:
        trained = [steps.train_trials(**common, trials=[name], dataset_uri=data.dataset_uri)[0] for name in group]
        steps.export_trials(**common, outcomes=trained)
    for names, share in steps.evaluation_shares(**common, trials_per_pod=int(trials)):
        steps.evaluate_share(**common, trials=names, share=share)
    steps.conclude(**common)


def sweep(store: Path, trials: int, num_steps: int, episodes: int, *, kill_at: int = 0) -> bool:
    """Run it, and kill it when ``kill_at`` objects are there; whether it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.runs.killed_sweep", str(store), *map(str, (trials, num_steps, episodes))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert process.stderr is not None
    if not kill_at:
        said = process.stderr.read()
        assert process.wait() == 0, said[-3000:]
        return False
    while process.poll() is None and count(store) < kill_at:
        time.sleep(0.01)
    was_running = process.poll() is None
    if was_running:
        os.killpg(process.pid, signal.SIGKILL)
    process.stderr.close()
    process.wait()
    return was_running


def count(store: Path) -> int:
    """Objects in a store."""
    return sum(len(files) for _, _, files in os.walk(store))


def result(store: Path) -> dict[str, Any]:
    """What the sweep came to, without clocks and addresses: scores and decisions of the rungs, the leaderboard, the winner."""
    (run,) = (store / "runs").iterdir()
    scores = {path.name: json.loads(path.read_text())["success"] for path in sorted(run.glob("rungs/*/trials/*.json"))}
    decisions = [json.loads(path.read_text())["kept"] for path in sorted(run.glob("rungs/*/decision.json"))]
    selection = json.loads((run / "selection.json").read_text())
    board = [(row["name"], row["successes"], row["n"]) for row in selection["leaderboard"]]
    return {"winner": selection["winner"], "board": board, "kept": decisions, "scores": scores}


if __name__ == "__main__":
    main(*sys.argv[1:])
