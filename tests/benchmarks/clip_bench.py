"""``make bench ROWS=clips``: what the clips of an evaluation cost, beside the same evaluation without any.

The policies hardly learn, so that there are failures of full length among the episodes that are drawn. CPU time of the
whole command, simulators included, medians by turns.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import line
from tests.benchmarks.rows import Skip, row

SCRIPT = """
import sys
from tendon.cli import main
assert not main(sys.argv[1:])
from tendon.runs.measured import cpu_seconds
print(cpu_seconds())
"""
LIMIT = "<= 1.05 x"


def measure(env: str, episodes: int, steps: int, rounds: int) -> float:
    """CPU time with three clips of each kind over CPU time with none."""
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        uri = f"demo://{env}?episodes=4&seed=1"
        line.run("convert", "--source-uri", uri, "--store-uri", "store", cwd=cwd)
        dataset = str(next((cwd / "store/datasets/demos").iterdir()))
        network = [
            "policy=bc",
            "policy.hidden_dims=[64,64]",
            "training.num_threads=1",
            f"training.offline_steps={steps}",
        ]
        line.run("train", f"env={env}", *network, f"data.uri={dataset}", "--store-uri", "store", cwd=cwd)
        checkpoint = next((cwd / "store/trials").glob("*/checkpoints/*"))
        line.run("export", "--checkpoint-uri", checkpoint, "--bundle-uri", "t/bundle", cwd=cwd)
        pairs = [[_evaluated(cwd, episodes, videos, env) for videos in (3, 0)] for _ in range(rounds)]
    drawn, plain = (statistics.median(values) for values in zip(*pairs, strict=True))
    print(f"  with clips {drawn:.2f} s, without {plain:.2f} s of CPU")
    return drawn / plain


def _evaluated(cwd: Path, episodes: int, videos: int, env: str) -> float:
    subprocess.run(["rm", "-rf", str(cwd / "t/evaluations")], check=True)
    words = [
        "evaluate",
        "--bundle-uri",
        "t/bundle",
        f"eval.n_episodes={episodes}",
        f"eval.videos={videos}",
    ]
    command = [sys.executable, "-c", SCRIPT, *words]
    return float(subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


@row("bench", "clips-reach", "CPU time of an evaluation of 50 episodes of reach with 6 clips over none", LIMIT)
def clips_reach() -> float:
    """A simulator that costs nothing, so that clips weigh most."""
    return measure("reach", 50, 60, 5)


@row("bench", "clips-lift", "the same of 20 episodes of robosuite's Lift, most of them failures of full length", LIMIT)
def clips_lift() -> float:
    """Every frame is drawn in software."""
    from tendon.evaluate import sims

    if not sims.installed("robosuite") or not sims.can_draw("robosuite"):
        raise Skip("robosuite is not installed, or nothing draws: tendon sims install robosuite")
    return measure("lift", 20, 50, 3)
