"""Our BC, BC-RNN-GMM and BC-Transformer-GMM beside robomimic's own training: one HDF5, one JSON each, one budget.

``python -m tests.benchmarks.robomimic_results [--seeds N] [--rollouts N] [--epochs N] [--output FILE.md]`` writes the table;
``--only ALGO:SEED`` makes one of its cells, which is kept in build/robomimic.
Both policies are rolled out in our guests on the same unseen seeds, robomimic's through the .pth importer (which
``make parity PEER=robomimic`` proves to act as robomimic does).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import line, peers

EPISODES, NOISE, SEED0 = 100, 0.05, 300_000
STEPS_PER_EPOCH, BATCH = 50, 100
ROLLOUTS, EPOCHS = 50, 120
KEPT = Path("build/robomimic")
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
FULL: dict[str, dict[str, Any]] = {  # robomimic's own sizes: 400 x 2 LSTM, 512 x 6 transformer
    "BC-RNN-GMM": {"rnn": {"enabled": True, "horizon": 10, "hidden_dim": 400, "num_layers": 2}},
    "BC-Transformer-GMM": {
        "transformer": {"enabled": True, "context_length": 10, "embed_dim": 512, "num_layers": 6, "num_heads": 8}
    },
}
TRAIN = {"BC-RNN-GMM": {"seq_length": 10}, "BC-Transformer-GMM": {"frame_stack": 10}}


def config_of(algo: str, seed: int, epochs: int, *, full: bool = False, steps: int = STEPS_PER_EPOCH) -> dict[str, Any]:
    """A robomimic JSON: read by robomimic as it is, and by us through tendon.config.foreign; ``full``: in robomimic's sizes."""
    rate = {"initial": 1e-3, "decay_factor": 0.1, "epoch_schedule": [epochs * 2 // 3]}
    return {
        "algo_name": "bc",
        "experiment": {
            "name": algo,
            "validate": False,
            "epoch_every_n_steps": steps,
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
        "algo": ALGOS[algo] | (FULL[algo] if full else {}) | {"optim_params": {"policy": {"learning_rate": rate}}},
        "observation": {"modalities": {"obs": {"low_dim": KEYS}}},
    }


def prepare() -> tuple[Path, str]:
    """The demonstrations as HDF5 and the dataset converted from it; made once."""
    folder = KEPT.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    file, store = folder / "lift.hdf5", folder / "store"
    if not file.exists():
        line.run("demo-data", "env=lift", "--episodes", EPISODES, "--noise", NOISE, "-o", file, cwd=folder)
    line.run("convert", "--source-uri", file, "--store-uri", store, cwd=folder)
    return file, str(next((store / "datasets" / "demos").iterdir()))


def ours(tree: dict[str, Any], dataset_uri: str, steps_per_epoch: int = STEPS_PER_EPOCH) -> tuple[Any, float, float]:
    """Our training of the same JSON: the policy, CPU seconds of a step (median over epochs), last epoch's loss."""
    import torch

    from tendon import steps
    from tendon.config.compose import compose
    from tendon.config.foreign.robomimic import translate
    from tendon.data.stats import DatasetStats
    from tendon.train.loop.data_feeds import open_data_feeds, to_tensors
    from tendon.train.loop.engine import Engine

    torch.set_num_threads(1)
    config = compose([*translate(tree).overrides, f"data.uri='{dataset_uri}'", "env=lift", "training.num_threads=1"])
    stats = DatasetStats.from_json(json.dumps(steps.stats(dataset_uri=dataset_uri, split=config.data.split).stats))
    engine = Engine(config, stats.features)
    engine.steps_per_epoch = steps_per_epoch
    feeds = open_data_feeds(dataset_uri, config, engine.policy.windows)
    seconds, losses = [], []
    for first in range(0, config.training.offline_steps, steps_per_epoch):
        began = time.process_time()
        for step in range(first, first + steps_per_epoch):
            update = engine.update(
                to_tensors(next(feeds.train), engine.policy.windows, engine.device), step, measure=False
            )
            losses.append(update.loss.item())  # robomimic reads it at every step
        seconds.append((time.process_time() - began) / steps_per_epoch)
    return engine.policy.eval(), statistics.median(seconds), statistics.mean(losses[-steps_per_epoch:])


def theirs(tree: dict[str, Any], file: Path, folder: Path) -> dict[str, Any]:
    """robomimic's training of it; its checkpoint is ``folder/model.pth``."""
    (folder / "config.json").write_text(json.dumps(tree))
    arguments = (folder / "config.json", file, folder / "model.pth")
    return peers.ask(peers.robomimic(), "robomimic_train.py", *map(str, arguments))


def roll_out(policy: Any, rollouts: int) -> dict[int, bool | None]:
    """Success by seed, None where the simulator crashed."""
    from tendon.config.compose import compose
    from tendon.evaluate.rollout import evaluate_policy

    config = compose(["env=lift", "data.uri=unused"])
    results = evaluate_policy(policy, config.env, config.eval, range(SEED0, SEED0 + rollouts))
    return {one.seed: None if one.status == "crashed" else one.status == "success" for one in results}


def file_of(algo: str, seed: int, rollouts: int, epochs: int) -> Path:
    """Where a result is kept until the code changes."""
    from tendon.config.digest import code_version, digest

    rooms = code_version("config", "data", "loader", "policies", "train", "evaluate", "sim")
    return KEPT / f"{algo}-{seed}-{digest(config_of(algo, seed, epochs), EPISODES, NOISE, rollouts, rooms)}.json"


def result(algo: str, seed: int, rollouts: int = ROLLOUTS, epochs: int = EPOCHS) -> dict[str, Any]:
    """Both trained and rolled out: which seeds each solves, losses, times."""
    from tendon.weights.formats.robomimic.pth import import_pth

    kept, tree = file_of(algo, seed, rollouts, epochs), config_of(algo, seed, epochs)
    if not kept.exists():
        file, uri = prepare()
        with tempfile.TemporaryDirectory() as scratch:
            peer = theirs(tree, file, Path(scratch))
            policy, step_s, loss = ours(tree, uri)
            solved = roll_out(policy, rollouts)
            peer_solved = roll_out(import_pth(Path(scratch, "model.pth")).policy, rollouts)
        played = [seed for seed, one in solved.items() if one is not None and peer_solved[seed] is not None]
        found = {
            "algo": algo,
            "seed": seed,
            "class": peer["class"],
            "ours": [solved[seed] for seed in played],
            "theirs": [peer_solved[seed] for seed in played],
            "loss": loss,
            "their_loss": peer["losses"][-1],
            "step_s": step_s,
            "their_step_s": peer["step_s"],
        }
        kept.write_text(json.dumps(found))
    row: dict[str, Any] = json.loads(kept.read_text())
    return row


def results(seeds: int, rollouts: int, epochs: int, *, only_kept: bool = False) -> list[dict[str, Any]]:
    """One row per policy and training seed."""
    cells = [(algo, seed, rollouts, epochs) for algo in ALGOS for seed in range(1, seeds + 1)]
    return [result(*cell) for cell in cells if not only_kept or file_of(*cell).exists()]


def p_value(rows: list[dict[str, Any]]) -> float:
    """Exact McNemar over the pairs of all rows: same training seed, same episode."""
    from tendon.evaluate.confidence import mcnemar_exact

    pairs = [pair for row in rows for pair in zip(row["ours"], row["theirs"], strict=True)]
    return mcnemar_exact(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line per training seed, and one over all of them."""
    from tendon.evaluate.confidence import wilson

    def rate(solved: list[bool]) -> str:
        low, high = wilson(sum(solved), len(solved))
        return f"{sum(solved)}/{len(solved)} ({low:.0%} to {high:.0%})"

    lines = [
        "| policy | seed | ours | robomimic 0.3.0 | p | last loss, ours | theirs | ms per step, ours | theirs | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for algo in dict.fromkeys(row["algo"] for row in rows):
        mine = [row for row in rows if row["algo"] == algo]
        for row in mine:
            lines.append(
                f"| {algo} | {row['seed']} | {rate(row['ours'])} | {rate(row['theirs'])} | {p_value([row]):.2g} "
                f"| {row['loss']:.4g} | {row['their_loss']:.4g} | {1e3 * row['step_s']:.1f} "
                f"| {1e3 * row['their_step_s']:.1f} | {row['step_s'] / row['their_step_s']:.2f} |"
            )
        if len(mine) > 1:
            both = [[one for row in mine for one in row[side]] for side in ("ours", "theirs")]
            lines.append(f"| {algo} | all | {rate(both[0])} | {rate(both[1])} | {p_value(mine):.2g} | | | | | |")
    return "\n".join(lines) + "\n"


HEAD = """\
# BC, BC-RNN-GMM and BC-Transformer-GMM beside robomimic

```sh
{command}
```

robosuite Lift, {episodes} scripted demonstrations with action noise {noise} (the same HDF5 for both, mask train), {steps}
updates of {batch} windows, learning rate 1e-3, a tenth of it in the last third, one CPU thread, the same JSON read by both.
{rollouts} rollouts each on the same unseen seeds of at most 150 steps, both in our guests, robomimic's policy through the `.pth` importer;
intervals are Wilson's at 95 %, p is the exact two-sided McNemar test of the paired episodes (over all training seeds in the lines "all";
it takes the trained policies as they are, so how much training seeds differ is not in it).
Milliseconds are CPU time, medians over epochs, data loading included. The nets are small so that the table is made
on one core: two layers of 256; LSTM 2 x 128; transformer 2 x 64, 4 heads, context 10.

"""


def main() -> int:
    """Make the table, or one of its cells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rollouts", type=int, default=ROLLOUTS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--only", default="", help="ALGO:SEED, one training of each side, kept for the table")
    parser.add_argument("--kept", action="store_true", help="the table of the cells that are made already")
    parser.add_argument("--output", default="tests/benchmarks/robomimic.md")
    given = parser.parse_args()
    if given.only:
        algo, seed = given.only.split(":")
        row = result(algo, int(seed), given.rollouts, given.epochs)
        print(json.dumps(row | {side: sum(row[side]) for side in ("ours", "theirs")}))
        return 0
    rows = results(given.seeds, given.rollouts, given.epochs, only_kept=given.kept)
    command = f"python -m tests.benchmarks.robomimic_results --seeds {given.seeds} --rollouts {given.rollouts} --epochs {given.epochs}"
    steps = given.epochs * STEPS_PER_EPOCH
    head = HEAD.format(
        command=command, episodes=EPISODES, noise=NOISE, steps=steps, batch=BATCH, rollouts=given.rollouts
    )
    Path(given.output).write_text(head + table(rows))
    print(table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
