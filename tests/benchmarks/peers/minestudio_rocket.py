"""Run by MineStudio's interpreter: its own RocketPolicy on seeded weights, or on a file of ours.

minestudio_rocket.py REQUEST OUT -> {"keys": n}; REQUEST is JSON: arguments, size, rows, steps, windows, and optionally a path
that MineStudio's own loaders read. OUT is an npz of peer_run.run.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "golden" / "minestudio"))

import numpy as np


def main(request, out):
    import peer_run
    import seeded
    import torch
    from peer import RocketPolicy, load_rocket_policy

    torch.set_num_threads(request.get("threads", 1))
    path = request.get("path")
    if path is None:
        policy = peer_run.make(**request["arguments"])
    elif path.endswith(".ckpt"):
        policy = load_rocket_policy(path).eval()
    else:
        policy = RocketPolicy.from_pretrained(path).eval()
    size, tail = tuple(request["size"]), request.get("tail", 0)
    windows = [
        seeded.window(f"parity {i}", request["rows"], request["steps"], size, tail=tail)
        for i in range(request["windows"])
    ]
    numbers = peer_run.run(policy, windows)
    np.savez(out, **numbers)
    return {"keys": len(numbers), "parameters": sum(each.numel() for each in policy.parameters())}


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        answer = main(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
    print(json.dumps(answer))
