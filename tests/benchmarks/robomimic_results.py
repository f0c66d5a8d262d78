"""Our BC, BC-RNN-GMM and BC-Transformer-GMM beside robomimic's own training: one HDF5, one JSON each, one budget.

``python -m tests.benchmarks.robomimic_results [--seeds N] [--rollouts N] [--epochs N] [--output FILE.md]`` writes the table.
Both policies are rolled out in our guests on the same unseen seeds, robomimic's through the .pth importer (which
``make parity PEER=robomimic`` proves to act as robomimic does).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.benchmarks import line, peers

EPISODES, NOISE, SEED0 = 100, 0.05, 300_000
STEPS_PER_EPOCH, BATCH = 50, 100
KEYS = ["object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"]
ALGOS: dict[str, dict[str, Any]] = {
    "BC": {"actor_layer_dims": [256, 256]},
    "BC-RNN-GMM": {
        "actor_layer_dims": [],
        "gmm": {"enabled": True},
        "rnn": {"enabled": True, "horizon": 10, "hidden_dim": 128, "num_layers": 2},
    },
    "BC-Transformer-GMM": {
        "actor_layer_dims": [],
        "gmm": {"enabled": True},
        "transformer": {
            "enabled": True,
            "context_length": 10,
            "embed_dim": 64,
            "num_layers": 2,
            "num_heads": 4,
        },
    },
}
TRAIN = {"BC-RNN-GMM": {"seq_length": 10}, "BC-Transformer-GMM": {"frame_stack": 10}}


def config_of(algo: str, seed: int, epochs: int) -> dict[str, Any]:
    """A robomimic JSON: read by robomimic as it is, and by us through tendon.config.foreign."""
    return {
        "algo_name": "bc",
        "experiment": {
            "name": algo,
            "validate": False,
            "epoch_every_n_steps": STEPS_PER_EPOCH,
            "save": {"enabled": True, "every_n_epochs": epochs},
            "rollout": {"horizon": 150},
        },
        "train": {
            "hdf5_filter_key": "train",
            "hdf5_normalize_obs": False,
            "hdf5_cache_mode": "all",
            "hdf5_load_next_obs": False,
            "batch_size": BATCH,
            "num_epochs": epochs,
            "seed": seed,
            "cuda": False,
            **TRAIN.get(algo, {}),
        },
        "algo": ALGOS[algo] | {"optim_params": {"policy": {"learning_rate": {"initial": 1e-3}}}},
        "observation": {"modalities": {"obs": {"low_dim": KEYS}}},
    }


def ours(tree: dict[str, Any], dataset_uri: str, trial: str) -> tuple[Any, float, float]:
    """Our training of the same JSON: the policy, CPU seconds of a step (median over epochs), last loss."""
    import torch

    from tendon import steps
    from tendon.config.compose import compose
    from tendon.config.foreign.robomimic import translate
    from tendon.data.stats import DatasetStats
    from tendon.train.engine import Engine
    from tendon.train.feed import open_feeds, to_tensors

    torch.set_num_threads(1)
    config = compose([*translate(tree).overrides, f"data.uri='{dataset_uri}'", "env=lift", "training.num_threads=1"])
    stats = DatasetStats.from_json(json.dumps(steps.stats(dataset_uri=dataset_uri, split=config.data.split).stats))
    engine = Engine(config, stats.features)
    feeds = open_feeds(dataset_uri, config, engine.policy.window)
    seconds, losses, step = [], [], 0
    while step < config.training.offline_steps:
        began = time.process_time()
        for _ in range(STEPS_PER_EPOCH):
            batch = to_tensors(next(feeds.train), engine.policy.window, engine.device)
            update = engine.update(batch, step, measure=False)
            losses.append(update.loss.item())  # robomimic reads it at every step
            step += 1
        seconds.append((time.process_time() - began) / STEPS_PER_EPOCH)
    return engine.policy.eval(), statistics.median(seconds), statistics.mean(losses[-STEPS_PER_EPOCH:])


def roll_out(policy: Any, rollouts: int) -> dict[int, bool | None]:
    """Success by seed, None where the simulator crashed."""
    from tendon.config.compose import compose
    from tendon.evaluate.rollout import evaluate_policy

    config = compose(["env=lift", "data.uri=unused"])
    results = evaluate_policy(policy, config.env, config.eval, range(SEED0, SEED0 + rollouts))
    return {one.seed: None if one.status == "crashed" else one.status == "success" for one in results}


@lru_cache(maxsize=1)
def results(seeds: int = 1, rollouts: int = 50, epochs: int = 40) -> list[dict[str, Any]]:
    """One row per algorithm and training seed."""
    import torch

    from tendon.evaluate.confidence import mcnemar_exact
    from tendon.export.formats.robomimic import import_pth

    python, rows = peers.robomimic(), []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = folder / "lift.hdf5"
        line.run("demo-data", "env=lift", "--episodes", EPISODES, "--noise", NOISE, "-o", file, cwd=folder)
        line.run("convert", "--source-uri", file, "--store-uri", folder / "store", cwd=folder)
        uri = str(next((folder / "store" / "datasets" / "demos").iterdir()))
        for algo in ALGOS:
            for seed in range(1, seeds + 1):
                tree = config_of(algo, seed, epochs)
                (folder / "config.json").write_text(json.dumps(tree))
                theirs = peers.ask(
                    python, "robomimic_train.py", str(folder / "config.json"), str(file), str(folder / "model.pth")
                )
                policy, step_s, loss = ours(tree, uri, algo)
                outcomes = [roll_out(one, rollouts) for one in (policy, import_pth(folder / "model.pth").policy)]
                pairs = [
                    (bool(a), bool(outcomes[1][s]))
                    for s, a in outcomes[0].items()
                    if a is not None and outcomes[1][s] is not None
                ]
                rows.append(
                    {
                        "algo": algo,
                        "seed": seed,
                        "class": theirs["class"],
                        "n": len(pairs),
                        "ours": sum(a for a, _ in pairs),
                        "theirs": sum(b for _, b in pairs),
                        "p": mcnemar_exact(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)),
                        "loss": loss,
                        "their_loss": theirs["losses"][-1],
                        "step_s": step_s,
                        "their_step_s": theirs["step_s"],
                        "torch": torch.__version__,
                    }
                )
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    from tendon.evaluate.confidence import wilson

    def rate(successes: int, n: int) -> str:
        low, high = wilson(successes, n)
        return f"{successes}/{n} ({low:.0%} to {high:.0%})"

    lines = [
        "| policy | seed | ours | robomimic 0.3.0 | p | last loss, ours | theirs | ms per step, ours | theirs | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = row["step_s"] / row["their_step_s"]
        lines.append(
            f"| {row['algo']} | {row['seed']} | {rate(row['ours'], row['n'])} | {rate(row['theirs'], row['n'])} "
            f"| {row['p']:.2g} | {row['loss']:.4g} | {row['their_loss']:.4g} "
            f"| {1e3 * row['step_s']:.1f} | {1e3 * row['their_step_s']:.1f} | {ratio:.2f} |"
        )
    return "\n".join(lines) + "\n"


HEAD = """\
# BC, BC-RNN-GMM and BC-Transformer-GMM beside robomimic

```sh
{command}
```

robosuite Lift, {episodes} scripted demonstrations with action noise {noise} (the same HDF5 for both, mask train), {steps}
updates of {batch} windows, learning rate 1e-3, one CPU thread, the same JSON read by both. {rollouts} rollouts each on
the same unseen seeds, both in our guests, robomimic's policy through the `.pth` importer; intervals are Wilson's at 95 %, p is the
exact McNemar test of the paired outcomes. Milliseconds are CPU time, medians over epochs, data loading included. The nets are
small so that the table is made in minutes: two layers of 256; LSTM 2 x 128; transformer 2 x 64, 4 heads, context 10.

"""


def main() -> int:
    """Make the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rollouts", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--output", default="tests/benchmarks/robomimic.md")
    given = parser.parse_args()
    began = time.monotonic()
    rows = results(given.seeds, given.rollouts, given.epochs)
    command = f"python -m tests.benchmarks.robomimic_results --seeds {given.seeds} --rollouts {given.rollouts} --epochs {given.epochs}"
    steps = given.epochs * STEPS_PER_EPOCH
    head = HEAD.format(
        command=command, episodes=EPISODES, noise=NOISE, steps=steps, batch=BATCH, rollouts=given.rollouts
    )
    Path(given.output).write_text(head + table(rows) + f"\nMade in {(time.monotonic() - began) / 60:.0f} minutes.\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
