"""``make bench``: speed as ratios and bounds, measured beside the peers where there are any."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from functools import cache
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


IMPORTS = "import tendon.cli, tendon.commands, tendon.train.loop.training, tendon.policies.bc.model, pyarrow.parquet"


def import_seconds(code: str) -> float:
    """CPU time of an interpreter that runs the code and nothing else; what it imports is compiled, as pip leaves it."""
    script = f"{code}; import time; print(time.process_time())"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environ)
    return float(run.stdout)


@row("bench", "start-imports", "CPU seconds of everything that is imported before a first training step", "<= 1.5 s")
def start_imports() -> float:
    """Nearly all of it is torch's own: see the next row."""
    return statistics.median(import_seconds(IMPORTS) for _ in range(ROUNDS))


@row("bench", "start-imports-torch", "the same over `import torch` alone", "<= 1.3 x")
def start_imports_over_torch() -> float:
    """By turns, more than usual: one alone varies by 10 %."""
    pairs = [(import_seconds(IMPORTS), import_seconds("import torch")) for _ in range(3 * ROUNDS)]
    ours, torch = (statistics.median(values) for values in zip(*pairs, strict=True))
    print(f"  {ours:.2f} s, torch alone {torch:.2f} s of CPU")
    return ours / torch


NO_OPS = 10
RUN_NO_OPS = """
import sys, time
from kfp import compiler, dsl
from tendon.runner import run_local

@dsl.component(base_image="none", install_kfp_package=False)
def nothing(before: str) -> str:
    return before + "."

@dsl.pipeline(name="ten-times-nothing")
def pipeline():
    text = "x"
    for _ in range(int(sys.argv[2])):
        task = nothing(before=text)
        task.set_caching_options(False)
        text = task.output

compiler.Compiler().compile(pipeline, sys.argv[1] + "/ten.yaml")
started = time.monotonic()
result = run_local(sys.argv[1] + "/ten.yaml", {}, store_uri=sys.argv[1], on_event=lambda event: None)
print(time.monotonic() - started)
"""


@row("bench", "dag-overhead", f"seconds per step of a pipeline of {NO_OPS} steps that do nothing", "<= 0.15 s")
def dag_overhead() -> float:
    """What kfp's engine, our runner and a process start cost."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "no_ops.py"
        script.write_text(RUN_NO_OPS)
        command = [sys.executable, str(script), folder, str(NO_OPS)]
        runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(ROUNDS)]
    return statistics.median(float(text.splitlines()[-1]) for text in runs) / NO_OPS


def _reruns(named: str) -> list[list[float]]:
    """The seconds that a second `tendon run` with the same parameters prints where the pattern says, for each round."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["run", "experiment=reach_bc", "--source-uri", "demo://reach?episodes=40", "--store-uri", "store"]
        line.run(*command, cwd=Path(folder))
        printed = [line.run(*command, cwd=Path(folder))[0] for _ in range(ROUNDS)]
    return [[float(seconds) for seconds in re.findall(named, out)] for out in printed]


@row("bench", "rerun-slowest-step", "seconds of the slowest step of a run whose work is all done already", "<= 1 s")
def rerun_slowest_step() -> float:
    """A second `tendon run` with the same parameters."""
    return statistics.median(max(steps) for steps in _reruns(r"done in ([0-9.]+) s"))


@row(
    "bench",
    "rerun-finished-step",
    "seconds of the finish step of such a run: a step that has nothing to do",
    "<= 0.15 s",
)
def rerun_finished_step() -> float:
    """A fork, kfp's executor, the store."""
    return statistics.median(steps[-1] for steps in _reruns(r"finish ... done in ([0-9.]+) s"))


@cache
def fresh_reach() -> tuple[float, float]:
    """Wall and CPU seconds of `tendon demo --task reach` in an empty folder, medians of three."""
    walls, cpus = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            out, wall_s = line.run("demo", "--task", "reach", "--store-uri", "store", cwd=Path(folder))
            walls.append(wall_s)
            cpus.append(float(re.findall(r"took +([0-9.]+) s CPU", out)[-1]))
    return statistics.median(walls), statistics.median(cpus)


@row("bench", "run-reach", "seconds of a fresh reach run, demonstrations to promotion, on two quiet cores", "<= 12 s")
def run_reach() -> float:
    """The command of the README."""
    return fresh_reach()[0]


@row("bench", "run-reach-cpu", "processor seconds of the same, all processes", "<= 12 s")
def run_reach_cpu() -> float:
    """What the end card says."""
    return fresh_reach()[1]
