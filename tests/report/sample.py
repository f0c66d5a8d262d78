"""A run as the report sees it, made up but plausible; clips are encoded here, nothing is committed."""

import io
import math
import random
from dataclasses import replace

import numpy as np

from tendon.evaluate.confidence import Interval, TrialScore, rank_trials
from tendon.report.clips import make_clip
from tendon.report.summary import (
    Clip,
    Curve,
    DataSanity,
    Difference,
    Ending,
    Feed,
    LineageRow,
    Provenance,
    Rate,
    ReportInputs,
    Timing,
    dimension,
)

ERROR = (
    "error: the loss is not a number\n"
    "where: trial bc_lr_1e-1, step 212\n"
    "why:   training.lr=0.1 makes the weights grow without bound\n"
    "fix:   training.lr=0.001, or training.grad_clip_norm=1.0"
)


def clip(status: str, seed: int, steps: int, size: int = 160) -> Clip:
    """A disc that reaches (or misses) a target, H.264 in MP4."""
    import av

    file = io.BytesIO()
    rng = random.Random(seed)
    goal = (rng.uniform(0.3, 0.8) * size, rng.uniform(0.25, 0.75) * size)
    start = (0.12 * size, rng.uniform(0.2, 0.8) * size)
    reach = 1.0 if status == "success" else rng.uniform(0.4, 0.75)
    yy, xx = np.mgrid[0:size, 0:size]
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=20, options={"crf": "28", "preset": "veryfast"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for frame in range(40):
            share = reach * (1 - math.cos(math.pi * min(1.0, frame / 30))) / 2
            x, y = (a + share * (b - a) for a, b in zip(start, goal, strict=True))
            picture = np.full((size, size, 3), 236, np.uint8)
            picture[np.hypot(xx - goal[0], yy - goal[1]) < 12] = (0, 158, 115)
            picture[np.hypot(xx - x, yy - y) < 7] = (40, 44, 50)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return make_clip({"status": status, "seed": seed, "steps": steps}, file.getvalue())


def curve(trial: str, floor: float, speed: float, seed: int, overfits: bool = False) -> Curve:
    rng = random.Random(seed)
    loss = [(s, floor + 0.9 * math.exp(-s * speed / 1000) * rng.uniform(0.9, 1.1)) for s in range(50, 5001, 50)]
    rise = 0.6 * floor if overfits else 0.0
    valid = [
        (s, 1.15 * floor + 0.9 * math.exp(-s * speed / 1000) + rise * (s / 5000) ** 2 + 0.004 * rng.random())
        for s in range(250, 5001, 250)
    ]
    return Curve(trial, tuple(loss), tuple(valid))


def run(clips: bool = True) -> ReportInputs:
    """Three good trials, one that failed, a champion that is beaten."""
    rng = np.random.default_rng(4)
    endings = [Ending(1_230_000 + k, "success", int(rng.gamma(9, 6)) + 20) for k in range(270)]
    endings += [Ending(1_230_270 + k, "failure", 200) for k in range(21)]
    endings += [Ending(1_230_291 + k, "failure", int(rng.integers(40, 190))) for k in range(6)]
    endings += [Ending(1_230_297 + k, "crashed", int(rng.integers(5, 120))) for k in range(3)]
    columns = [np.clip(rng.normal(0.1 * k - 0.2, 0.15 + 0.08 * k, 2000), -1, 1) for k in range(3)]
    columns += [np.where(rng.random(2000) < 0.6, -1.0, 1.0), np.zeros(2000)]
    actions = tuple(dimension(f"action[{k}]", column) for k, column in enumerate(columns))
    names = ("bc_hidden_256", "bc_hidden_512", "bc_hidden_1024_gmm")
    board = rank_trials(
        [
            TrialScore("bc_hidden_512", 47, 50, 0, 71.2),
            TrialScore("bc_hidden_256", 45, 50, 0, 80.0),
            TrialScore("bc_hidden_1024_gmm", 36, 49, 1, 95.5),
            TrialScore("bc_lr_1e-1", failed_step="train", error=ERROR),
        ]
    )
    shown = [("success", k) for k in (0, 1, 2)] + [("failure", k) for k in (270, 271, 291)]
    return ReportInputs(
        title="reach: behaviour cloning, 4 trials",
        run_id="3f9ac1d2",
        when="2026-11-20 10:40 UTC",
        verdict="challenger beats champion by 9 points (95% 5 to 14, paired, 297 seeds, 3 crashed): promote",
        decision="promote",
        rule="promote when the paired 95% interval of (challenger - champion) lies above 0, "
        "keep the champion when it lies below, otherwise cannot tell",
        rates=(
            Rate("winner", "bc_hidden_512", 270, 297, 3),
            Rate("champion", "9b1c77e0, promoted 2026-11-12", 243, 300, 0),
        ),
        difference=Difference(0.094, Interval(0.048, 0.142), 297),
        leaderboard=board,
        curves=(
            *(curve(n, 0.02 + 0.012 * k, 1.6 - 0.3 * k, k, overfits=k == 1) for k, n in enumerate(names)),
            Curve("bc_lr_1e-1", ((50, 3.1), (100, 9.0), (150, 40.0), (200, float("nan")))),
        ),
        data=DataSanity(
            tuple(int(v) for v in rng.gamma(20, 3, 200)),
            11_935,
            actions,
            ("action[4] is constant (0 in every frame): it is not scaled", "observation.object[6] spans only 2.1e-05"),
        ),
        endings=tuple(endings),
        clips=tuple(clip(status, 1_230_000 + k, endings[k].steps) for status, k in shown) if clips else (),
        timings=(
            Timing("plan", "", 0.4),
            Timing("convert", "", 6.2),
            Timing("stats", "", 1.1),
            *(Timing("train", n, 41.0 + 9 * k) for k, n in enumerate(names)),
            Timing("train", "bc_lr_1e-1", 8.0),
            *(Timing("export", n, 2.6) for n in names),
            *(Timing("evaluate", n, 12.5 + k) for k, n in enumerate(names)),
            Timing("select", "", 0.3),
            Timing("confirm", "", 64.0),
        ),
        feeds=tuple(Feed(n, "cpu", 0.00009 * (k + 1), 0.0061) for k, n in enumerate(names)),
        lineage=(
            LineageRow("source", "demo://reach?episodes=200&seed=1\nsha256 77f01a3be9c2d4f5"),
            LineageRow(
                "dataset",
                "a81bd0c2ee14f7aa, 200 episodes (list e3f1a2077c41b9d0)",
                "tendon convert source_uri='demo://reach?episodes=200&seed=1' store_uri=outputs/store",
            ),
            LineageRow(
                "trial bc_hidden_512",
                "run key 5cc0d1e2f3a49b87\nweights sha256 1f0e9d8c7b6a5f4e",
                "tendon train --run outputs/store/runs/3f9ac1d2 --trial bc_hidden_512",
            ),
            LineageRow(
                "selection",
                "seeds 100000 to 100049",
                "tendon evaluate --run outputs/store/runs/3f9ac1d2 --block selection",
            ),
            LineageRow("confirmation", "seeds 1230000 to 1230299", "tendon confirm --run outputs/store/runs/3f9ac1d2"),
            LineageRow("code", "commit b2db894, digest 0c44e1a97d20b3f8"),
        ),
        provenance=Provenance(
            dataset="a81bd0c2ee14f7aa",
            episodes="e3f1a2077c41b9d0",
            training_seed="1",
            selection_seeds="100000 to 100049",
            confirmation_seeds="1230000 to 1230299",
            policy="5cc0d1e2f3a49b87",
            code="b2db894",
            image="none, run on this machine",
        ),
        record_json='{\n "format": "tendon.record/1",\n "run_id": "3f9ac1d2"\n}\n',
        videos_uri="outputs/store/trials/5cc0d1e2f3a49b87/evaluations",
    )


def all_failed() -> ReportInputs:
    """Nothing got as far as a policy."""
    good = run(clips=False)
    dead = [TrialScore(f"bc_{k}", failed_step="train", error=ERROR) for k in range(2)]
    return replace(
        ReportInputs("reach: behaviour cloning, 2 trials"),
        run_id="0bad0bad",
        leaderboard=rank_trials(dead),
        data=good.data,
        timings=good.timings[:3],
        lineage=good.lineage[:2],
        provenance=Provenance(dataset="a81bd0c2ee14f7aa", code="b2db894"),
    )
