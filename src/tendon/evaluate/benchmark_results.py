"""The files in which CALVIN, SimplerEnv and GenManip give their results, made of our table. Pure but for ``write_results``.

Rates have a Wilson interval and their number of episodes. Crashed episodes are counted and in no rate. Called by
``tendon evaluate --results``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tendon.errors import ConfigError
from tendon.evaluate.confidence import wilson

CHAIN = 5  # instructions of an episode of CALVIN
Rows = Sequence[Mapping[str, Any]]


def calvin_results(rows: Rows, task: str) -> dict[str, Any]:
    """``avg_seq_len``, ``chain_sr`` for 1 to 5 instructions in a row, ``task_info`` by instruction: successes and tries."""
    played = _played(rows)
    lengths = [round(row["sum_reward"]) for row in played]
    tries: dict[str, list[int]] = {}
    for row, done in zip(played, lengths, strict=True):
        for number, text in enumerate(row.get("instructions", ())[: done + 1]):
            count = tries.setdefault(text, [0, 0])
            count[0] += number < done
            count[1] += 1
    num = max(1, len(played))
    rates = {str(k): sum(length >= k for length in lengths) for k in range(1, CHAIN + 1)}
    return {
        "avg_seq_len": sum(lengths) / num,
        "chain_sr": {k: won / num for k, won in rates.items()},
        "chain_sr_interval": {k: _interval(won, len(played)) for k, won in rates.items()},
        "task_info": {text: {"success": won, "total": total} for text, (won, total) in sorted(tries.items())},
        **_counts(rows),
    }


def simpler_results(rows: Rows, task: str) -> dict[str, Any]:
    """Success of the task, partial success (grasped), and every episode."""
    played = _played(rows)
    won, grasped = sum(row["status"] == "success" for row in played), sum(row["max_reward"] > 0 for row in played)
    episodes = [
        {
            "seed": row["seed"],
            "success": row["status"] == "success",
            "grasped": row["max_reward"] > 0,
            "steps": row["steps"],
        }
        for row in played
    ]
    rates = {"success_rate": won / max(1, len(played)), "success_interval": _interval(won, len(played))}
    return {
        "task": task,
        **rates,
        "partial_success_rate": grasped / max(1, len(played)),
        "episodes": episodes,
        **_counts(rows),
    }


def genmanip_results(rows: Rows, task: str) -> dict[str, Any]:
    """``hard``: all sub-goals are reached; ``soft``: the mean share of them that was reached in the end."""
    played = _played(rows)
    won = sum(row["status"] == "success" for row in played)
    soft = sum(max(0.0, row["sum_reward"]) for row in played) / max(1, len(played))
    scores = {"hard": won / max(1, len(played)), "hard_interval": _interval(won, len(played)), "soft": soft}
    return {"success_rate": {task: scores}, **_counts(rows)}


RESULTS: Mapping[str, tuple[str, Callable[[Rows, str], dict[str, Any]]]] = {
    "calvin": ("results.json", calvin_results),
    "simpler": ("simpler_results.json", simpler_results),
    "genmanip": ("success_rate.json", genmanip_results),
}


def files_in(folder: str | Path) -> list[str]:
    """What ``write_results`` may make in a folder."""
    return [str(Path(folder) / name) for name, _ in RESULTS.values()]


def write_results(rows: Rows, simulator: str, task: str, folder: str | Path) -> Path:
    """The file of a simulator's benchmark; where it is.

    Raises:
        ConfigError: the simulator's benchmark has no file of its own.
    """
    if simulator not in RESULTS:
        raise ConfigError(
            f"{simulator} has no result file of its own",
            where="--results",
            why=f"{', '.join(RESULTS)} have one",
            fix="--eval-info FOLDER, or the table itself",
        )
    name, make = RESULTS[simulator]
    file = Path(folder) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(make(rows, task), indent=2) + "\n", encoding="utf-8")
    return file


def _played(rows: Rows) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["status"] != "crashed"]


def _counts(rows: Rows) -> dict[str, int]:
    played = len(_played(rows))
    return {"num_episodes": played, "crashed": len(rows) - played}


def _interval(won: int, num: int) -> list[float]:
    return list(wilson(won, num)) if num else [0.0, 1.0]
