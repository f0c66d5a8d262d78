"""``make bench ROWS=rocket1-hunt``: rocket1-tiny is trained on the expert of ViZDoom's room, and hunts what its prompt shows.

The same 200 seeds are played three times: by the policy with the right prompt, by the policy with the mask of the other
monster, and by the expert with the right prompt. Success is always that the target is killed and the other one is not.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.rows import Skip, row

if TYPE_CHECKING:
    from tendon.config.schema import EnvConfig, EvalConfig
    from tendon.evaluate.rollout import EpisodeResult
    from tendon.policies.base import Policy

EPISODES = 200
DEMONSTRATIONS = 800
DEMO_NOISE = 0.02
EXPERIMENT = "vizdoom_rocket"


@dataclass(frozen=True)
class Hunts:
    """What was measured."""

    low: float  # end of the 95 % interval of the rate with the right prompt
    difference_low: float  # the same of what the prompt changes, seed by seed
    train_cpu_minutes: float


def play(policy: Policy, env: EnvConfig, eval: EvalConfig, seeds: Sequence[int], **options: str) -> list[EpisodeResult]:
    """The policy's episodes with other options of the world."""
    from tendon.evaluate.rollout import evaluate_policy

    return evaluate_policy(policy, replace(env, options={**env.options, **options}), eval, seeds)


def expert_kills(env: EnvConfig, seeds: Sequence[int], noise: float = 0.0) -> int:
    """In how many episodes the expert kills the target."""
    from tendon.evaluate.guest import Guest

    kills = 0
    with Guest(env) as guest:
        for seed in seeds:
            guest.reset(seed)
            guest.reset_expert(seed, noise)
            for _ in range(env.episode_length):
                stepped = guest.step(guest.expert())
                if stepped.done:
                    break
            kills += stepped.success
    return kills


def follows(policy: Policy, env: EnvConfig, eval: EvalConfig, num_episodes: int = EPISODES) -> tuple[float, float]:
    """Lower ends of the rate with the right prompt and of the paired difference to the wrong one; prints all of it."""
    from tendon.evaluate.confidence import Pairs, difference_paired, mcnemar_exact, wilson
    from tendon.evaluate.seeds import SELECTION

    seeds = SELECTION.take(num_episodes)
    right = play(policy, env, eval, seeds)
    wrong = play(policy, env, eval, seeds, prompt="distractor")
    killed = [{each.seed: each.status == "success" for each in results} for results in (right, wrong)]
    other = sum(each.sum_reward < 0 for each in wrong)
    pairs = Pairs.of(*killed)
    low, high = wilson(sum(killed[0].values()), len(killed[0]))
    difference = difference_paired(pairs)
    expert = expert_kills(env, seeds)
    crashed = sum(each.status == "crashed" for each in (*right, *wrong))
    print(f"  right prompt: target killed in {sum(killed[0].values())}/{num_episodes}, 95% {low:.2f}-{high:.2f}")
    print(f"  wrong prompt: target killed in {sum(killed[1].values())}, the other one in {other} of {num_episodes}")
    print(
        f"  paired difference {pairs.difference:.2f}, 95% {difference.low:.2f}-{difference.high:.2f}, "
        f"McNemar p = {mcnemar_exact(pairs.only_first, pairs.only_second):.2g}; {crashed} crashed"
    )
    print(f"  expert on the same seeds, without noise: {expert}/{num_episodes}")
    return low, difference.low


@cache
def hunts() -> Hunts:
    """Demonstrations, training and both prompts; once for all rows."""
    from tendon import steps
    from tendon.config.compose import compose
    from tendon.evaluate import sims
    from tendon.evaluate.demo_files import write_demos
    from tendon.evaluate.experts import ExpertSettings
    from tendon.export.bundle import load_policy

    if not sims.installed("vizdoom"):
        raise Skip("vizdoom is not installed: tendon sims install vizdoom")
    env = compose([f"experiment={EXPERIMENT}", "data.uri=unused"]).env
    with tempfile.TemporaryDirectory(prefix="tendon-hunt-") as folder:
        settings = ExpertSettings(env, DEMONSTRATIONS, 1, noise=DEMO_NOISE)
        uri = write_demos(settings, str(Path(folder) / "store"), "shards")
        config = compose([f"experiment={EXPERIMENT}", f"data.uri={uri}"])
        began = time.process_time()
        trained = steps.train(config=config, dataset_uri=uri, trial_uri=str(Path(folder) / "trial"))
        minutes = (time.process_time() - began) / 60
        bundle = str(Path(folder) / "bundle")
        steps.export(checkpoint_uri=trained.checkpoint_uri, bundle_uri=bundle)
        policy, _ = load_policy(bundle)
        low, difference_low = follows(policy, config.env, config.eval)
    print(f"  training: {minutes:.1f} CPU minutes")
    return Hunts(low, difference_low, minutes)


@row(
    "bench",
    "rocket1-hunt",
    f"lower 95 % end of success with the right prompt, {EPISODES} episodes",
    ">= 0.6 of episodes",
)
def right_prompt() -> float:
    """It hunts."""
    return hunts().low


@row(
    "bench", "rocket1-hunt-prompt", "lower 95 % end of the paired difference to the wrong prompt", ">= 0.1 of episodes"
)
def wrong_prompt() -> float:
    """It hunts what it is shown."""
    return hunts().difference_low


@row("bench", "rocket1-hunt-cpu", "CPU time of its training", "<= 90 min")
def cpu_minutes() -> float:
    """On one thread."""
    return hunts().train_cpu_minutes
