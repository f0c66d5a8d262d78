"""``make bench`` rows of the scripted experts of LeRobot's simulators and ViZDoom: how often they succeed, and how long an episode takes.

Seeds are the first ones of the block of demonstrations, so these are the episodes that ``tendon demo-data`` tries.
"""

from __future__ import annotations

import statistics
import time
from functools import partial

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
