"""An evaluation in a process of its own: ``python -m tests.evaluate.killed_evaluation BUNDLE OUT EPISODES GUESTS [SHARE SHARES]``.

``evaluate`` starts it, and kills it and its guests as soon as so many episodes are kept.
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


def main(bundle: str, out: str, episodes: str, guests: str, share: str = "", shares: str = "1") -> None:
    """Roll out on selection seeds, all of them or a share."""
    from tendon.config.schema import EnvConfig, EvalConfig
    from tendon.evaluate.seeds import selection
    from tendon.evaluate.table import evaluate_bundle, evaluate_share

    names = {"b_target": "target_pos", "a_agent": "agent_pos"}
    env = EnvConfig(
        "reach", "reach", "Reach", 10, 60, tuple(names.values()), {},
        features={name: f"observation.{key}" for key, name in names.items()},
    )  # fmt: skip
    eval = EvalConfig(
        n_episodes=int(episodes),
        batch_size=int(guests),
        videos=1,
        max_crashed=0.5,
        step_timeout_s=30,
        start_timeout_s=60,
    )
    asked: dict[str, Any] = {"block": "selection", "seeds": selection(int(episodes)), "evaluations_uri": out}
    if share:
        evaluate_share(bundle, env, eval, **asked, share=int(share), shares=int(shares))
    else:
        print(evaluate_bundle(bundle, env, eval, **asked).uri)


def evaluate(bundle: str, out: Path, episodes: int, guests: int, *share: int, kill_at: int = 0) -> bool:
    """Run it to its end here, or in a process that is killed when ``kill_at`` episodes are kept; whether it was killed."""
    words = [bundle, str(out), str(episodes), str(guests), *map(str, share)]
    if not kill_at:
        main(*words)
        return False
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.evaluate.killed_evaluation", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and len(list(out.glob("rows/*/0*.json"))) < kill_at:
        time.sleep(0.005)
    was_running = process.poll() is None
    if was_running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return was_running


def table(out: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and summary without clocks."""
    (folder,) = out.glob("selection-*")
    rows = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    summary["robomimic"].pop("Time_Episode")
    clocks = ("wall_s", "steps_per_s")
    return (
        [{key: value for key, value in row.items() if key not in clocks} for row in rows],
        {key: value for key, value in summary.items() if key not in clocks},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
