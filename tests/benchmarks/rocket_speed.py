"""``make bench ROWS=minestudio-``: the loader on MineStudio's recordings beside its RawDataModule, a step beside its trainer.

Rates are per second of CPU time. The recordings are made here: pictures of 224 px in chunks of 32 frames, all twenty buttons,
the mask of a walking target of about 60 x 90 px as run lengths of 360 x 640. Ours reads what ``tendon convert --resize 224 224``
made of the same folder.
"""

from __future__ import annotations

import json
import pickle
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import peers
from tests.benchmarks.loader_sets import folder, per_cpu_s
from tests.benchmarks.rows import row

CHUNK, EPISODES, LENGTH, BATCH, WIN_LEN, SIDE = 32, 9, 256, 8, 128, 224
GB = 1e9


def run_lengths(mask: np.ndarray) -> str:
    """A mask as MineStudio keeps it: start (from 1) and length of each run of ones."""
    flat = np.concatenate([[0], mask.reshape(-1), [0]])
    edges = np.flatnonzero(np.diff(flat)).reshape(-1, 2)
    return " ".join(f"{start + 1} {end - start}" for start, end in edges.tolist())


def targets(episode: int, first: int) -> list[dict[Any, Any]]:
    """An ellipse that walks through the picture, for three of every four chunks."""
    if first // CHUNK % 4 == 3:
        return [{} for _ in range(CHUNK)]
    rows, columns = np.mgrid[:360, :640]
    frames = []
    for frame in range(first, first + CHUNK):
        at = (180 + 60 * np.sin(frame / 40 + episode), 320 + 200 * np.cos(frame / 60))
        mask = ((rows - at[0]) / 45) ** 2 + ((columns - at[1]) / 30) ** 2 < 1
        span = (first // 128 * 128, first // 128 * 128 + 95)
        event = "minecraft.kill_entity:cow"
        value = {
            "obj_id": 0, "rle_mask": run_lengths(mask.astype(np.int8)), "event": event, "point": (at[0], at[1]),
            "frame_id": frame, "frame_range": span, "ori_frame_id": frame, "ori_frame_range": span,
        }  # fmt: skip
        frames.append({(span, event): value})
    return frames


@cache
def recordings() -> Path:
    """MineStudio's folder."""
    from tendon.data.video import encode_mp4
    from tendon.policies.rocket1.features import BUTTON_NAMES
    from tests.data.test_minestudio import write_lmdb
    from tests.loader.coded import coded_frames

    rng, root = np.random.default_rng(0), Path(folder().name) / "minestudio"
    parts: dict[str, dict[str, list[bytes]]] = {"image": {}, "action": {}, "segmentation": {}}
    for i in range(EPISODES):
        name, frames = f"Player{i}-x-20220101-12000{i}", coded_frames(i, LENGTH, SIDE, 1)
        for part in parts.values():
            part[name] = []
        for first in range(0, LENGTH, CHUNK):
            parts["image"][name].append(encode_mp4(frames[first : first + CHUNK], 20, key_every=CHUNK))
            action: dict[str, Any] = {key: (rng.random(CHUNK) < 0.2).astype(np.int64) for key in BUTTON_NAMES}
            parts["action"][name].append(pickle.dumps(action | {"camera": rng.normal(0, 3, (CHUNK, 2))}))
            parts["segmentation"][name].append(pickle.dumps(targets(i, first)))
    for kind, chunks in parts.items():
        write_lmdb(root / kind / "part-0", chunks, CHUNK)
    return root


@cache
def converted() -> str:
    """The same as shards."""
    from tendon.data.convert import convert, dataset_uri
    from tendon.data.plan import ConversionOptions
    from tendon.data.sources import open_source

    manifest = convert(open_source(str(recordings())), folder().name, "rocket", ConversionOptions(resize=(SIDE, SIDE)))
    return dataset_uri(folder().name, "rocket", manifest.plan)


def opened(memory_gib: float | None = None) -> Any:
    """The loader of the preset, with the batch of one device."""
    from tendon.config.compose import compose
    from tendon.loader.configured import configured_loader
    from tendon.policies.registry import make_policy
    from tendon.train.loop.data_feeds import find_features

    uri = converted()
    reads = "env.observation=[observation.images.image,observation.masks.target,observation.interaction]"
    config = compose(["policy=rocket1-seed", f"data.uri={uri}", reads, "policy.backbone=tiny", "policy.hiddim=16"])
    kept = {key: one for key, one in find_features(uri).items() if key.startswith(("observation.", "action."))}
    windows = make_policy(config.policy, kept).windows
    data = replace(config.data, threads=1, ahead=0) if memory_gib else config.data
    data = replace(data, memory_gib=memory_gib) if memory_gib else data
    return configured_loader(uri, "all", windows, BATCH, 1, data)


@row(
    "bench",
    "minestudio-loader",
    "frames of windows of 128 with masks, continuous batches of 8, beside MineStudio's RawDataModule",
    ">= 2.5 x",
)
def loader() -> float:
    """One thread, no worker on either side; frames are decoded anew in every epoch."""
    loader = opened(memory_gib=0.75)  # two batches and what they are made of; not all frames decoded

    def take() -> int:
        batch = next(loader)
        return int(batch["observation.images.image"].shape[0] * WIN_LEN)

    took = take()
    assert took == BATCH * WIN_LEN
    assert loader.maker.shares.tier != "resident", loader.maker.shares
    ours = statistics.median(per_cpu_s(take, 4.0) for _ in range(3))
    loader.close()
    answer = peers.ask(peers.minestudio(), "minestudio_batches.py", str(recordings()), str(BATCH))
    print(f"  {ours:.4g} / {answer['per_cpu_s']:.4g} frames per CPU second", file=sys.stderr)
    return ours / float(answer["per_cpu_s"])


@row(
    "bench",
    "minestudio-loader-memory",
    "host memory of the loader of rocket1-seed on one rank, GB (MineStudio's: 4.9 by calculation)",
    "<= 1.5 GB",
)
def memory() -> float:
    """What the process grows by over three epochs, batches of 8 x 128 frames."""
    from tests.benchmarks.loader_memory import resident_bytes

    converted()
    before, peak = resident_bytes(), 0
    loader = opened()
    for _ in range(3 * EPISODES * LENGTH // WIN_LEN // BATCH):
        next(loader)
        peak = max(peak, resident_bytes() - before)
    loader.close()
    return peak / GB


FULL = {"hiddim": 1024, "num_heads": 8, "num_layers": 4, "timesteps": 128, "mem_len": 128}
ROWS, FRAMES, UPDATES = 1, 8, 5


def window_of(i: int) -> dict[str, Any]:
    """The i-th window of one episode, the same for everyone."""
    import torch

    from tests.golden.minestudio import seeded
    from tests.policies.rocket1.golden import batch_of

    batch = batch_of(seeded.window(f"step {i}", ROWS, FRAMES, (SIDE, SIDE)))
    place = {"episode_index": torch.zeros(ROWS, dtype=torch.long), "frame_index": torch.full((ROWS,), i * FRAMES)}
    return batch | place


@cache
def step_seconds() -> dict[str, float]:
    """Median CPU seconds of a step: ours, theirs, and of the network with AdamW alone."""
    import torch

    torch.set_num_threads(1)
    request = {
        "arguments": {"backbone": "efficientnet_b0.ra_in1k", **FULL},
        "size": [SIDE, SIDE], "rows": ROWS, "steps": FRAMES, "updates": UPDATES,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "request.json"
        path.write_text(json.dumps(request))
        theirs = peers.ask(peers.minestudio(), "minestudio_step.py", str(path), timeout_s=1800)
    ours, losses = our_steps()
    bare = bare_steps()
    apart = max(abs(a - b) / b for a, b in zip(losses, theirs["losses"], strict=True))
    assert apart < 0.05, (losses, theirs["losses"])  # the same training, but for what its pooling drops at random
    found = {
        name: statistics.median(each[1:])
        for name, each in (("ours", ours), ("theirs", theirs["steps_s"]), ("bare", bare))
    }
    print(f"  {found} s; losses are {apart:.1g} apart", file=sys.stderr)
    return found


def our_steps() -> tuple[list[float], list[float]]:
    """Seconds and losses of the engine: memory, objective, clipping, AdamW, average."""
    from tendon.config.compose import compose
    from tendon.policies.rocket1.features import features_of_world
    from tendon.train.loop.engine import Engine
    from tests.policies.rocket1.golden import fill

    reads = "env.observation=[observation.images.image,observation.masks.target,observation.interaction]"
    more = ("training.precision=fp32", "device=cpu", f"training.batch_size={ROWS}", "training.num_threads=1")
    config = compose(["policy=rocket1-seed", "data.uri=x", reads, *more])
    engine = Engine(config, {}, found=features_of_world((SIDE, SIDE)))
    fill(engine.policy).train()  # type: ignore[arg-type]
    engine.average_anew()
    times, losses = [], []
    for i in range(UPDATES):
        batch = window_of(i)
        began = time.process_time()
        update = engine.update(batch, i, measure=i % 20 == 0)
        times.append(time.process_time() - began)
        losses.append(float(update.loss))
    return times, losses


def bare_steps() -> list[float]:
    """Seconds of nothing but forward, backward, clipping and torch's AdamW on the same network."""
    import torch

    from tests.policies.rocket1.golden import make

    policy = make((SIDE, SIDE), backbone="efficientnet_b0.ra_in1k", **FULL).train()
    net, classes = policy.net, policy.classes
    learning = [one for name, one in net.named_parameters() if not name.startswith("value_head")]
    optimizer = torch.optim.AdamW(learning, lr=4e-5, weight_decay=1e-3)
    times, state = [], net.recurrent.empty(ROWS, torch.device("cpu"))
    for i in range(UPDATES):
        batch = window_of(i)
        targets = classes.encode(batch["action.buttons"], batch["action.camera"])
        first = torch.zeros(ROWS, FRAMES, dtype=torch.bool)
        began = time.process_time()
        seen = (batch[key] for key in (policy.image, policy.mask))
        log_probs, state = net(*seen, batch[policy.interaction].reshape(ROWS, FRAMES).long(), first, state)
        state = {key: value.detach() for key, value in state.items()}
        loss = -0.01 * sum(log_probs[head].gather(-1, targets[head].unsqueeze(-1)).sum() for head in log_probs)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        times.append(time.process_time() - began)
    return times


@row(
    "bench",
    "minestudio-step",
    "a training step of ROCKET-1 (106,651,930), 8 frames, beside MineStudio's trainer",
    "<= 1 x",
)
def step() -> float:
    """The same weights, windows, memory, objective, clipping, average; fp32 on one thread; logging on neither side."""
    found = step_seconds()
    return found["ours"] / found["theirs"]


@row("bench", "minestudio-step-network", "share of our step that the bare network with AdamW takes", ">= 0.9 x")
def network() -> float:
    """What is left to gain around it."""
    found = step_seconds()
    return found["bare"] / found["ours"]
