"""An evaluation as LeRobot reports it: eval_info.json, with videos beside it, and the numbers under LeRobot's names.

Success is any success in the episode: here the first one ends it, there the simulators of LeRobot end it too. The file holds the keys
of both generations, which do not overlap: ``per_episode aggregated video_paths`` of the Hydra era (2024), and ``per_task
per_group overall`` of 0.4. An episode in which the simulator crashed is in neither; ``crashed`` counts them.
Called by ``tendon evaluate --eval-info``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tendon.evaluate.table import Evaluation
from tendon.storage import open_store
from tendon.storage.json_values import to_json

FILE = "eval_info.json"
SUM = "\N{N-ARY SUMMATION}"  # as LeRobot logs it


def files_in(folder: str | Path) -> list[str]:
    """What ``write_eval_info`` makes in a folder."""
    return [str(Path(folder) / name) for name in (FILE, "videos")]


def write_eval_info(table: Evaluation, folder: str | Path) -> Path:
    """Write eval_info.json and the clips of ``table`` below ``folder``; where the file is.

    Example:
        ``write_eval_info(load_evaluation("s3://bucket/.../selection-1234"), "outputs/eval/today")``
    """
    folder = Path(folder)
    for old in (folder / "videos").glob("eval_episode_*.mp4"):  # of an evaluation that is replaced
        old.unlink()
    store = open_store(table.uri)
    videos: dict[int, str] = {}
    for number, row in enumerate(_counted(table)):
        if row["video"]:
            path = folder / "videos" / f"eval_episode_{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.read(row["video"]))
            videos[number] = str(path)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    file.write_text(to_json(eval_info(table, videos), indent=2), encoding="utf-8")
    return file


def eval_info(table: Evaluation, videos: dict[int, str]) -> dict[str, Any]:
    """The content of eval_info.json.

    Args:
        table: of any bundle.
        videos: path of the clip by number of the episode.
    """
    rows = _counted(table)
    sums, peaks = [_reward(row["sum_reward"]) for row in rows], [_reward(row["max_reward"]) for row in rows]
    successes = [row["status"] == "success" for row in rows]
    seconds = float(table.summary["wall_s"])
    means = lerobot_names(table)
    env, paths = table.summary["env"], [videos[number] for number in sorted(videos)]
    metrics = {"sum_rewards": sums, "max_rewards": peaks, "successes": successes, "video_paths": paths}
    group = {**means, "n_episodes": len(rows), "video_paths": paths}
    times = {"eval_s": seconds, "eval_ep_s": seconds / len(rows)}
    return {
        "per_episode": [
            {
                "episode_ix": number,
                "sum_reward": sums[number],
                "max_reward": peaks[number],
                "success": successes[number],
                "seed": row["seed"],
            }
            for number, row in enumerate(rows)
        ],
        "aggregated": means | times,
        "video_paths": paths,
        "per_task": [{"task_group": env["name"], "task_id": 0, "metrics": metrics}],
        "per_group": {env["name"]: group},
        "overall": {**group, **times},
        "crashed": len(table.rows) - len(rows),
        "success_rule": table.summary.get("success_rule", ""),
    }


def lerobot_names(table: Evaluation) -> dict[str, float]:
    """Mean sum of rewards, mean of the highest reward, and the share of successes in per cent."""
    rows = _counted(table)
    return {
        "avg_sum_reward": _sum([_reward(row["sum_reward"]) for row in rows]) / len(rows),
        "avg_max_reward": _sum([_reward(row["max_reward"]) for row in rows]) / len(rows),
        "pc_success": 100 * sum(row["status"] == "success" for row in rows) / len(rows),
    }


def in_lerobots_words(table: Evaluation) -> str:
    """One line under the names of LeRobot's log."""
    means = lerobot_names(table)
    rewards = f"{SUM}rwrd:{means['avg_sum_reward']:.3f} max_rwrd:{means['avg_max_reward']:.3f}"
    return f"{rewards} success:{means['pc_success']:.1f}%"


def _reward(value: float | None) -> float:
    """Null in a table was no number when it was made."""
    return math.nan if value is None else float(value)


def _sum(rewards: list[float]) -> float:
    try:
        return math.fsum(rewards)
    except (OverflowError, ValueError):  # sums that are no number: infinite ones of both signs, or too large
        return math.nan


def _counted(table: Evaluation) -> list[dict[str, Any]]:
    return [row for row in table.rows if row["status"] != "crashed"]
