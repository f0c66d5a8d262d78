"""The same weights in our rollout and in LeRobot 0.4.4's on PushT's key points: outcomes, actions, episodes a minute.

The policy is the one that ``results lerobot-pusht`` trains (it is trained here where it is missing), rolled out on selection
seeds: here in our guests, there by the loop of lerobot_eval.py in its own environments. Noise: that of an episode of ours,
handed to LeRobot chunk by chunk, or what each draws itself. With the same noise both play one episode at a time: a network
gives other last bits to a batch of another size, and what touches a corner of the T amplifies them, on either side.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import peers
from tests.benchmarks.lerobot_results import CASES, Arms, our_bundle
from tests.benchmarks.rows import row

SCRIPT = "lerobot_rollout.py"
FIRST, BATCH, GUESTS = 100_000, 50, 8
SAME, OWN = 200, 1000
STEPS, SIZE = 100, 512.0  # of an episode that are compared; pixels of the table
TIMED, ROUNDS = 200, 3


@dataclass(frozen=True)
class Played:
    """Episodes of one side."""

    success: NDArray[Any]
    actions: list[NDArray[Any]]
    wall_s: float


def _ours(policy: Any, episodes: int, guests: int = GUESTS) -> Played:
    from tendon.config.compose import compose
    from tendon.evaluate.rollout import evaluate_policy

    config = compose(["env=pusht_keypoints", "data.uri=x", f"eval.batch_size={guests}"])
    began = time.perf_counter()
    results = evaluate_policy(policy, config.env, config.eval, range(FIRST, FIRST + episodes))
    if any(one.status == "crashed" for one in results):
        raise RuntimeError("an episode crashed")
    success = np.array([one.status == "success" for one in results])
    return Played(success, [np.asarray(one.actions) for one in results], time.perf_counter() - began)


def _theirs(folder: Path, episodes: int, noise: NDArray[Any] | None = None, batch: int = BATCH) -> Played:
    with tempfile.TemporaryDirectory() as scratch:
        out, drawn = Path(scratch, "out.npz"), Path(scratch, "noise.npz")
        given = [str(folder), str(FIRST), str(episodes), str(min(batch, episodes)), str(out)]
        if noise is not None:
            np.savez(drawn, noise=noise)
            given.append(str(drawn))
        spent = peers.ask(peers.lerobot_pusht(), SCRIPT, *given, timeout_s=7200)
        found = dict(np.load(out))
    actions = [values[:steps] for values, steps in zip(found["actions"], found["steps"], strict=True)]
    return Played(found["success"], actions, float(spent["wall_s"]))


@cache
def policies() -> tuple[Any, Path]:
    """The trained policy, and the same for LeRobot."""
    import torch

    from tendon.export.bundle import load_policy
    from tendon.weights.formats.lerobot.folder import FORMAT

    torch.set_num_threads(1)
    policy, info = load_policy(str(our_bundle("pusht")))
    folder = Arms("pusht", CASES["pusht"]).folder / "for-lerobot"
    FORMAT.write(policy, info, folder, "0.4", {})
    return policy, folder


@cache
def same_noise() -> tuple[Played, Played]:
    """Both sides on SAME seeds with the noise of our episodes, one episode at a time."""
    from tendon.policies.parts.noise import draw_normal, start_noise

    policy, folder = policies()
    config = policy.config
    memory, drawn = start_noise(*range(FIRST, FIRST + SAME)), []
    for _ in range(-(-300 // config.n_action_steps)):
        values, memory = draw_normal(memory, config.horizon * policy.action_dim)
        drawn.append(values.view(SAME, config.horizon, policy.action_dim).numpy())
    return _ours(policy, SAME, 1), _theirs(folder, SAME, np.stack(drawn, 1), 1)


@row(
    "parity",
    "lerobot-rollout-actions",
    f"the same weights and noise on PushT: largest difference of an action in {STEPS} steps of {SAME} episodes, share of the table",
    "<= 1e-5",
)
def actions() -> float:
    """The farthest of all episodes."""
    ours, theirs = same_noise()
    largest = []
    for mine, other in zip(ours.actions, theirs.actions, strict=True):
        steps = min(STEPS, len(mine), len(other))
        largest.append(np.abs(mine[:steps] - other[:steps]).max() / SIZE)
    print(
        f"  {np.mean(np.array(largest) == 0):.1%} of {SAME} episodes equal to the last bit, the farthest {max(largest):.2g}"
    )
    return float(max(largest))


@row("parity", "lerobot-rollout-same-noise", f"the same: share of {SAME} seeds with the same outcome", ">= 0.99")
def same_outcome() -> float:
    """Success or not."""
    ours, theirs = same_noise()
    print(f"  ours {ours.success.mean():.1%}, theirs {theirs.success.mean():.1%}")
    return float(np.mean(ours.success == theirs.success))


@row(
    "parity",
    "lerobot-rollout-own-noise",
    f"each with noise of its own, {OWN} seeds: farther end of the 95 % interval of the difference, in points",
    "<= 5 points",
)
def own_noise() -> float:
    """The interval of two shares that were drawn apart."""
    from tendon.evaluate.confidence import difference_unpaired

    policy, folder = policies()
    ours, theirs = _ours(policy, OWN).success, _theirs(folder, OWN).success
    interval = difference_unpaired(int(ours.sum()), OWN, int(theirs.sum()), OWN)
    print(f"  ours {ours.mean():.1%}, theirs {theirs.mean():.1%}, difference {interval.low:.1%} to {interval.high:.1%}")
    return 100 * max(abs(interval.low), abs(interval.high))


@row(
    "bench",
    "rollout-lerobot",
    f"{TIMED} episodes of PushT, the same Diffusion Policy, {BATCH} at once on either side: episodes a minute over lerobot-eval's loop",
    ">= 1.5 x",
)
def episodes_a_minute() -> float:
    """Wall time, medians of rounds by turns; starting our guests counts, starting its interpreter does not."""
    from tendon import fork_server

    policy, folder = policies()
    ratios = []
    for _ in range(ROUNDS):
        with fork_server.nearby():  # as evaluations have it
            ours = _ours(policy, TIMED, BATCH)
        theirs = _theirs(folder, TIMED)
        ratios.append(theirs.wall_s / ours.wall_s)
        print(f"  ours {ours.wall_s:.1f} s, theirs {theirs.wall_s:.1f} s")
    return float(np.median(ratios))
