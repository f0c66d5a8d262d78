"""``make bench ROWS=forecast``: what ``make demo`` will take, as plan forecasts it, beside the CPU time that it then takes.

The demo runs twice in one store, the second time with other demonstrations and another seed, so that nothing is found
finished. CPU time is that of the whole tree of processes, measured from outside.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.benchmarks import line
from tests.benchmarks.rows import Skip, row

EPISODES = {"reach": 40, "lift": 100, "pusht": 150}
SOURCE = {"reach": "reach", "lift": "lift", "pusht": "pusht_keypoints"}


def demo(task: str, store: str, seed: int) -> tuple[float, dict[str, object]]:
    """CPU seconds of a demo, and the forecast that its plan made."""
    began = line.cpu_seconds()
    uri = f"demo://{SOURCE[task]}?episodes={EPISODES[task]}&seed={seed}"
    words = ["demo", "--task", task, "--store-uri", store, "--source-uri", uri, f"seed={seed}"]
    line.run(*words, cwd=Path(store))
    newest = max(Path(store, "runs").glob("*/forecast.json"), key=lambda path: path.stat().st_mtime)
    return line.cpu_seconds() - began, json.loads(newest.read_text())


def _error(task: str, simulator: str = "") -> float:
    from tendon.evaluate.sims import list_sims

    if simulator and not any(sim.name == simulator and sim.installed for sim in list_sims()):
        raise Skip(f"tendon sims install {simulator}")
    with tempfile.TemporaryDirectory() as store:
        _, first = demo(task, store, 1)
        assert first["unknown"], "a new store knows nothing, and says so"
        taken, forecast = demo(task, store, 2)
    print(f"{task}: forecast {forecast['cpu_s']:.1f} s CPU, took {taken:.1f} s")
    return abs(float(str(forecast["cpu_s"])) - taken) / taken


def _rows() -> None:
    for task, simulator in (("reach", ""), ("lift", "robosuite"), ("pusht", "pusht")):

        @row("bench", f"forecast-demo-{task}", f"error of the forecast of a second `make demo DEMO={task}`", "<= 0.25")
        def error(task: str = task, simulator: str = simulator) -> float:
            return _error(task, simulator)


_rows()
