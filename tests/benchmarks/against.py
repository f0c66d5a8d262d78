"""``make bench-against REF=COMMIT``: what loop and loader cost beside the same rows of another commit of this repository.

Each side is a process of its own on its own tree; pairs alternate in order; the median of the ratios new/old and its
90 % interval (bootstrap over pairs) are printed and written to ``build/against.json``.
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

LOOP = """
import sys, tempfile, torch
from dataclasses import replace
from pathlib import Path
from tests.benchmarks.train_speed import _setup, our_loop
torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as folder:
    config, uri, stats = _setup(Path(folder))
    config = replace(config, training=replace(config.training, offline_steps=650))
    print(our_loop(config, uri, stats, warm_up=50, steps=600))
"""
LOADER = """
from tendon.loader import Loader
from tests.benchmarks.loader_bench import LOW, TEN
from tests.benchmarks.loader_sets import lift, per_cpu_s, taking
_, dataset = lift(images={images})
deltas = {{f"observation.{{key}}": TEN for key in LOW}} | {{"action": TEN}}
deltas |= {{"observation.agentview_image": (0,)}} if {images} else {{}}
loader = Loader(dataset, "all", deltas, {batch}, 1)
take = taking(loader, {batches})
for _ in range(4):
    take()
print(1 / per_cpu_s(take, {seconds}))
"""
ROWS = {
    "loop": LOOP,
    "loader-lowdim": LOADER.format(images=False, batch=100, batches=400, seconds=4),
    "loader-images": LOADER.format(images=True, batch=16, batches=40, seconds=5),
}


def seconds(tree: Path, program: str) -> float:
    """CPU seconds of one unit, as the program prints them."""
    env = {**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tree, env=env, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise SystemExit(f"{tree}: {ran.stderr.strip()[-800:]}")
    return float(ran.stdout.split()[-1])


def upper_end(ratios: list[float], share: float = 0.95) -> float:
    """The upper end of the 90 % interval of their median."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(4000))
    return medians[int(share * len(medians))]


def measure(old: Path, new: Path, program: str, pairs: int) -> list[float]:
    """One ratio new/old for each pair."""
    ratios = []
    for pair in range(pairs):
        sides = {name: 0.0 for name in (("old", "new") if pair % 2 else ("new", "old"))}
        for name in sides:
            sides[name] = seconds({"old": old, "new": new}[name], program)
        ratios.append(sides["new"] / sides["old"])
        print(
            f"  pair {pair}: {sides['old']:.4g} s, {sides['new']:.4g} s, {ratios[-1]:.3f}", file=sys.stderr, flush=True
        )
    return ratios


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ref", help="a commit of this repository whose tests/benchmarks has the same rows")
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    wanted = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "old"
        subprocess.run(["git", "worktree", "add", "--detach", str(old), wanted.ref], cwd=ROOT, check=True)
        try:
            for name in wanted.rows:
                ratios = measure(old, ROOT, ROWS[name], wanted.pairs)
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
