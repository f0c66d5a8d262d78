"""``make bench`` rows of the scripted experts of LeRobot's simulators and ViZDoom: how often they succeed, how long an episode takes.

Also of what a policy that plans chunks saves where pictures that it does not look at are not drawn.

Seeds are the first ones of the block of demonstrations, so these are the episodes that ``tendon demo-data`` tries.
"""

from __future__ import annotations

import os
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np

from tests.benchmarks.rows import Skip, row

EPISODES = 60
NOISE = 0.05  # what demo-data adds unless told otherwise
WITHOUT_PICTURES = ("pusht_keypoints", "aloha_state", "aloha_insertion_state", "xarm_corrected_state")


def success_rate(name: str) -> float:
    """Share of the seeds in which the expert succeeds, by the simulator's own rule."""
    from tendon.config.compose import compose
    from tendon.evaluate import sims
    from tendon.evaluate.confidence import wilson
    from tendon.evaluate.guest import Guest
    from tendon.evaluate.seeds import DEMONSTRATIONS

    env = compose([f"env={name}", "data.uri=unused"]).env
    if not sims.installed(env.simulator):
        raise Skip(f"{env.simulator} is not installed: tendon sims install {env.simulator}")
    lengths, seconds, lost = [], [], []
    with Guest(env) as guest:
        for seed in DEMONSTRATIONS.take(EPISODES):
            started = time.monotonic()
            guest.reset(seed)
            guest.reset_expert(seed, NOISE)
            for step in range(1, env.episode_length + 1):
                stepped = guest.step(guest.expert())
                if stepped.success or stepped.done or step == env.episode_length:
                    break
            seconds.append(time.monotonic() - started)
            lengths.append(step)
            lost += [] if stepped.success else [seed]
    successes = EPISODES - len(lost)
    low, high = wilson(successes, EPISODES)
    print(
        f"  {name}: {successes}/{EPISODES}, 95% {low:.2f}-{high:.2f}; median {statistics.median(lengths):g} steps, "
        f"{statistics.median(seconds):.2f} s an episode; lost seeds {lost}"
    )
    return successes / EPISODES


for env_name in (*WITHOUT_PICTURES, "vizdoom_hunt", "vizdoom_approach"):
    row("bench", f"expert-{env_name}", f"share of {EPISODES} seeds in which the expert succeeds", ">= 0.9 of episodes")(
        partial(success_rate, env_name)
    )


CHUNK = 60


@row(
    "bench",
    "rollout-undrawn",
    f"an episode of Aloha with its camera of 96 x 128, {CHUNK} actions planned at once: CPU time of drawing every step over ours",
    ">= 8 x",
)
def undrawn() -> float:
    """The guest's CPU time; both execute the same actions."""
    from tendon.config.compose import compose
    from tendon.evaluate import sims
    from tendon.evaluate.guest import Guest

    sizes = ["env.cameras.top.height=96", "env.cameras.top.width=128"]
    env = compose(["env=aloha", "data.uri=unused", *sizes]).env
    if not sims.installed(env.simulator):
        raise Skip(f"{env.simulator} is not installed: tendon sims install {env.simulator}")
    taken = {}
    with Guest(env) as guest:
        chunk = np.zeros((CHUNK, guest.action_dim))
        for keep in (1, CHUNK):
            guest.reset(1)
            began = _cpu_s(guest.pid)
            for _ in range(env.episode_length // CHUNK):
                guest.steps(list(chunk), keep)
            taken[keep] = _cpu_s(guest.pid) - began
    print(f"  {taken[CHUNK]:.1f} s and {taken[1]:.1f} s of CPU")
    return taken[CHUNK] / taken[1]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
