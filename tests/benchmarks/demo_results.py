"""``make results ROWS=demo-pusht``: what ``make demo DEMO=pusht`` prints, in a store of its own: minutes, rate, clips of successes.

Kept in build/demo-pusht; a second call finds the finished steps, so remove the folder to measure anew.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.benchmarks import line
from tests.benchmarks.rows import Skip, row

KEPT = Path("build/demo-pusht")
LEAST_EPISODES = 50


@dataclass(frozen=True)
class Shown:
    """Of the confirmed policy."""

    minutes: float
    low: float
    clips: int


@cache
def shown() -> Shown:
    """The whole DAG, once."""
    from tendon.evaluate import sims
    from tendon.evaluate.confidence import describe_rate, wilson

    if not sims.installed("pusht"):
        raise Skip("the simulator is missing: tendon sims install pusht")
    folder = KEPT.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "minutes.json"
    began = time.monotonic()
    text, _ = line.run("demo", "--task", "pusht", "--store-uri", folder / "store", cwd=folder)
    minutes = json.loads(kept.read_text()) if kept.exists() else (time.monotonic() - began) / 60
    kept.write_text(json.dumps(minutes))
    tables = [file.parent for file in (folder / "store").rglob("summary.json")]
    (table,) = [one for one in tables if one.name.startswith("confirmation")]
    rows = [json.loads(text) for text in (table / "episodes.jsonl").read_text().splitlines()]
    played = [one for one in rows if one["status"] != "crashed"]
    won = [one for one in played if one["status"] == "success"]
    if len(played) < LEAST_EPISODES:
        raise RuntimeError(f"{len(played)} episodes were played")
    print(text[-1500:])
    print(f"  {describe_rate(len(won), len(played))}, {minutes:.1f} minutes", flush=True)
    return Shown(minutes, wilson(len(won), len(played)).low, sum(bool(one["video"]) for one in won))


@row(
    "results",
    "demo-pusht-minutes",
    "make demo DEMO=pusht, the whole DAG from nothing: minutes of wall time",
    "<= 10 min",
)
def minutes() -> float:
    """On two cores with nothing else."""
    return shown().minutes


@row("results", "demo-pusht-success", "the rate it prints: lower 95 % end, at least 50 unseen episodes", ">= 0.1")
def success() -> float:
    """What it shows a visitor."""
    return shown().low


@row("results", "demo-pusht-clips", "clips of successes in its report", ">= 1")
def clips() -> float:
    """The simulator's own rule says that they are."""
    return shown().clips
