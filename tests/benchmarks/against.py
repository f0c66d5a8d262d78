"""``make bench-against REF=COMMIT``: what loop, loader, conversion and rollouts cost beside another commit of this repository.

Each side is a process of its own on its own tree. The two take turns, one block of steps or batches after the other, so that
what slows the machine slows both; each pair of blocks gives one ratio new/old of CPU time. Several pairs of processes are
started, since two starts of one program differ too. The median of all ratios and its 90 % interval (bootstrap) are printed and
written to ``build/against.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEDIAN, UPPER = 1.03, 1.06

# A program prints "ready", then the CPU seconds of one block for each line that it reads.
TURN = """
import resource, sys, time
try:
    from tendon.fork_server import cpu_seconds as of_forks
except ImportError:
    of_forks = float  # an older commit has none
def used():  # by this process, the children that it has joined, and forks of a server
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime + of_forks()
def turn(began=[None]):
    if began[0] is not None:
        print(used() - began[0], flush=True)
    if not sys.stdin.readline():
        raise SystemExit
    began[0] = used()
"""
LOOP = (
    TURN
    + """
import tempfile, torch
from dataclasses import replace
from pathlib import Path
from tests.benchmarks.train_speed import _setup
try:
    from tendon.train.loop.training import train
    from tendon.train.watch.callbacks import Callback
except ImportError:
    from tendon.train.callbacks import Callback
    from tendon.train.loop import train
class Turns(Callback):
    def on_step(self, run, step, update):
        if step % 100 == 50:
            turn()
torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as folder:
    config, uri, stats = _setup(Path(folder))
    config = replace(config, training=replace(config.training, offline_steps=1_000_000))
    train(config, uri, stats, folder + "/trial", callbacks=[Turns()])
"""
)
LOADER = (
    TURN
    + """
from tendon.loader import Loader
from tests.benchmarks.loader_bench import LOW, TEN
from tests.benchmarks.loader_sets import lift
_, dataset = lift(images={images})
deltas = {{f"observation.{{key}}": TEN for key in LOW}} | {{"action": TEN}}
deltas |= {{"observation.images.agentview_image": (0,)}} if {images} else {{}}
loader = Loader(dataset, "all", deltas, {batch}, 1)
for _ in range({batches} * 4):
    next(loader)
while True:
    turn()
    for _ in range({batches}):
        next(loader)
"""
)
CONVERT = (
    TURN
    + """
import tempfile
from pathlib import Path
from tests.benchmarks.data_bench import convert_once, described, forget_stores, recording
with tempfile.TemporaryDirectory() as folder:
    source = described(recording(Path(folder) / "r.hdf5"))
    convert_once(source, Path(folder))
    while True:
        turn()
        for _ in range(3):
            convert_once(source, Path(folder))
            forget_stores(Path(folder))
"""
)
ROLLOUT = (
    TURN
    + """
from tests.benchmarks.actor_bench import _seconds, _stand_in
policy = _stand_in()
while True:
    turn()
    _seconds(policy, together=True)
"""
)
ROWS = {
    "loop": LOOP,
    "loader-lowdim": LOADER.format(images=False, batch=100, batches=4000),
    "loader-images": LOADER.format(images=True, batch=16, batches=150),
    "convert": CONVERT,
    "rollout": ROLLOUT,
}


class Side:
    """A program at work on one tree, a block at a time."""

    def __init__(self, tree: Path, program: str) -> None:
        env = {**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", program]
        self.process = subprocess.Popen(
            command, cwd=tree, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def block(self) -> float:
        """CPU seconds of the next block."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            try:
                return float(line)
            except ValueError:
                continue  # what the program itself prints
        raise SystemExit(f"{self.process.args!r:.80} ended with {self.process.wait()}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def upper_end(ratios: list[float], share: float = 0.95) -> float:
    """The upper end of the 90 % interval of their median."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(4000))
    return medians[int(share * len(medians))]


def measure(old: Path, new: Path, program: str, starts: int, pairs: int) -> list[float]:
    """One ratio new/old for each pair of blocks."""
    ratios = []
    for start in range(starts):
        sides = [Side(old, program), Side(new, program)]
        for side in sides:
            side.block()
        ours = []
        for pair in range(pairs):
            seconds = [0.0, 0.0]
            for index in (0, 1) if pair % 2 else (1, 0):
                seconds[index] = sides[index].block()
            ours.append(seconds[1] / seconds[0])
        for side in sides:
            side.close()
        print(
            f"  start {start}: {statistics.median(ours):.3f} of {pairs} pairs, last {seconds}",
            file=sys.stderr,
            flush=True,
        )
        ratios += ours
    return ratios


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ref", help="a commit of this repository whose tests/benchmarks has the same rows")
    parser.add_argument("--starts", type=int, default=5, help="pairs of processes")
    parser.add_argument("--pairs", type=int, default=9, help="pairs of blocks for each")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    wanted = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "old"
        subprocess.run(["git", "worktree", "add", "--detach", str(old), wanted.ref], cwd=ROOT, check=True)
        try:
            for name in wanted.rows:
                ratios = measure(old, ROOT, ROWS[name], wanted.starts, wanted.pairs)
                value, upper = statistics.median(ratios), upper_end(ratios)
                holds = value <= MEDIAN and upper <= UPPER
                results.append({"id": name, "value": value, "upper": upper, "pairs": len(ratios), "holds": holds})
                print(
                    f"{name}: {value:.3f} of {wanted.ref} (90 % to {upper:.3f}), {'holds' if holds else 'DOES NOT HOLD'}"
                )
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(old)], cwd=ROOT, check=True)
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "against.json").write_text(json.dumps(results, indent=1))
    return 0 if all(each["holds"] for each in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
