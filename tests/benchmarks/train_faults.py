"""``make faults``: trainings killed and interrupted at random moments, by one process and by two, end bit for bit equal.

The run has everything that could lose an exact bit: average, schedule, accumulation, clipping, windows changed at random
by the loop's draws (as cameras are) and by torch's generator. Weights, optimiser, average, generators, the loader's
position and metrics are compared.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks import line
from tests.benchmarks.rows import row

MOMENTS = 20
STEPS, STEP_S = 60, 0.01
OPTIONS: dict[str, Any] = {
    "offline_steps": STEPS,
    "save_freq": 10,
    "gradient_accumulation_steps": 2,
    "grad_clip_norm": 0.5,
    "ema": {"enable": True, "every_n_steps": 2},
    "augmented": True,
}


def ended(uri: Path, steps: int = STEPS) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Digests of the final checkpoint's files, and the metrics without clocks."""
    from tendon.storage import open_store
    from tendon.train.state.checkpoint import digests

    files = digests(open_store(str(uri / f"checkpoints/{steps:06d}")))
    lines = [json.loads(line) for line in (uri / "metrics.jsonl").read_text().splitlines()]
    timeless = [{key: value for key, value in line.items() if not key.endswith("_s")} for line in lines]
    return {name: sha for name, sha in files.items() if not name.endswith("training_step.json")}, timeless


def share_equal(
    number: signal.Signals, num_ranks: int, moments: int = MOMENTS, options: Mapping[str, Any] = OPTIONS
) -> float:
    """The share of runs, each struck once at a random moment and started again, that end as the undisturbed one."""
    from tests.train.forked_ranks import Strike, run_ranks

    chosen, equal = random.Random(number * 10 + num_ranks), 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "whole")
        assert run_ranks(whole, num_ranks, **options) == [0] * num_ranks
        expected = ended(whole)
        for i in range(moments):
            uri = Path(folder, f"struck-{i}")
            strike = Strike(chosen.randrange(num_ranks), number, chosen.uniform(0.0, 0.9) * STEPS * STEP_S)
            codes = run_ranks(uri, num_ranks, strike=strike, step_s=STEP_S, **options)
            assert codes[strike.rank] in ((75,) if number == signal.SIGTERM else (-9,)), codes
            codes = run_ranks(uri, num_ranks, **options)
            said = "".join(path.read_text()[-4000:] for path in uri.glob("rank-*.err"))
            assert codes == [0] * num_ranks, f"{codes}\n{said}"
            equal += ended(uri) == expected
    return equal / moments


def _rows() -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        for num_ranks, words in ((1, "one process"), (2, "two processes (gloo)")):
            what = (
                f"share of {MOMENTS} trainings of {words}, {number.name} at a random moment, that end bit for bit equal"
            )

            @row("faults", f"train-exact-{number.name.lower()}-{num_ranks}", what, "== 1")
            def measure(number: signal.Signals = number, num_ranks: int = num_ranks) -> float:
                return share_equal(number, num_ranks)


_rows()


def _policy_rows() -> None:
    for name in ("act", "diffusion"):
        what = f"share of {MOMENTS} trainings of {name}, SIGKILL at a random moment, that end bit for bit equal"

        @row("faults", f"train-exact-{name}", what, "== 1")
        def measure(name: str = name) -> float:
            from tests.train.lerobot_policies import OPTIONS as OF_POLICIES

            steps = {"offline_steps": STEPS, "save_freq": 10}
            return share_equal(signal.SIGKILL, 1, options={**OF_POLICIES[name], **steps})


_policy_rows()


@row("faults", "train-hung-rank", "whether a process that hangs ends the run, by name", "== 1")
def hung_rank() -> float:
    """Exit code 75 and the rank's name."""
    from tests.train.forked_ranks import run_ranks

    with tempfile.TemporaryDirectory() as folder:
        codes = run_ranks(Path(folder), events={1: ("hang", 13)}, rank_timeout_s=5.0)
        said = "".join(path.read_text() for path in Path(folder).glob("rank-*.err"))
    return float(75 in codes and "process 1 of the training hangs" in said and "step 13, stage data" in said)


CAMERA_KILLS, CAMERA_STEPS = 10, 30
SEEING = (
    *("env=reach", "env.observation=[top_image,agent_pos]", "policy=bc", "policy.hidden_dims=[32]", "device=cpu"),
    *(
        "policy.resize=[24,24]",
        "policy.crop_size=20",
        "policy.num_keypoints=0",
        "policy.brightness=0.3",
        "policy.contrast=0.3",
        "policy.hue=0.05",
    ),
    *("training.batch_size=8", "training.gradient_accumulation_steps=2", "training.grad_clip_norm=0.5"),
    *("training.lr_scheduler=cosine", "training.lr_warmup_steps=5", "ema.enable=true", "ema.every_n_steps=2"),
    *(
        f"training.offline_steps={CAMERA_STEPS}",
        "training.save_freq=6",
        "training.log_freq=3",
        "training.valid_freq=15",
    ),
    *("training.num_threads=1", "training.valid_episodes=1"),
)


@row(
    "faults",
    "train-exact-cameras",
    f"share of {CAMERA_KILLS} trainings on augmented images, SIGKILL at a random moment, that end bit for bit equal",
    "== 1",
)
def cameras() -> float:
    """The command line as a user has it: ResNet18, crops and colours, average, schedule, accumulation."""
    chosen = random.Random(3)
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        source = "demo://reach?episodes=12&seed=1&images=1"
        line.run("convert", "--source-uri", source, "--store-uri", cwd / "store", cwd=cwd)
        uri = next((cwd / "store/datasets/demos").iterdir())
        command = ["train", *SEEING, f"data.uri={uri}", "--store-uri"]
        _, seconds = line.run(*command, cwd / "whole", cwd=cwd)
        expected = ended(next((cwd / "whole/trials").iterdir()), CAMERA_STEPS)
        equal = killed = 0
        while killed < CAMERA_KILLS:
            store = cwd / "killed"
            if line.run_and_kill(*command, store, cwd=cwd, after_s=chosen.uniform(0.3, 0.9) * seconds):
                killed += 1
                line.run(*command, store, cwd=cwd)
                equal += ended(next((store / "trials").iterdir()), CAMERA_STEPS) == expected
            shutil.rmtree(store)
    return equal / killed
