"""``make bench``: speed as ratios and bounds, measured beside the peers where there are any."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from tests.benchmarks import line
from tests.benchmarks.rows import row

ROUNDS = 5


def median_seconds(*arguments: object, cwd: Path) -> float:
    """Median wall time of a whole command."""
    return statistics.median(line.run(*arguments, cwd=cwd)[1] for _ in range(ROUNDS))


@row("bench", "help", "seconds until `tendon --help` has answered", "<= 0.5 s")
def help_seconds() -> float:
    """Start of the command line."""
    return median_seconds("--help", cwd=Path())


@row("bench", "start-data-step", "seconds of a whole data step (stats) whose work is done already", "<= 0.5 s")
def start_data_step() -> float:
    """Process start, store, manifest, answer."""
    with tempfile.TemporaryDirectory() as folder:
        uri = line.dataset(Path(folder))
        line.run("stats", "--dataset-uri", uri, cwd=Path(folder))
        return median_seconds("stats", "--dataset-uri", uri, cwd=Path(folder))


@row("bench", "start-torch-step", "seconds from process start to the first training step", "<= 3 s")
def start_torch_step() -> float:
    """Imports, dataset, network, first batch."""
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        train = [*line.TENDON, "train", *line.TRAIN, f"data.uri={line.dataset(cwd)}", "training.offline_steps=20"]
        times = []
        for n in range(ROUNDS):
            started = time.monotonic()
            with subprocess.Popen(
                [*train, "--store-uri", f"t{n}"], cwd=cwd, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
            ) as process:
                assert process.stderr is not None
                first = next((time.monotonic() for text in process.stderr if " step:0 " in text), None)
                process.stderr.read()
            assert first is not None, "the log has no line of step 0"
            times.append(first - started)
        return statistics.median(times)
