"""``make bench`` rows of rollouts: the batched actor beside asking for one episode at a time, same guests and policy."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from typing import Any
from unittest.mock import patch

from tests.benchmarks.rows import row

EPISODES, GUESTS, STEPS = 50, 16, 60
WIDTH, PASSES, CHUNK = 2048, 10, 8  # 9 million weights, asked ten times for eight actions: a small diffusion policy
ROUNDS, ANSWERS = 3, 9


def _stand_in() -> Any:
    """A policy of that size through the real path of acting. It never arrives, so that every episode has its 60 steps."""
    import torch

    from tendon.config.schema import PolicyConfig
    from tendon.policies.base import Policy
    from tendon.policies.windows import windows_of

    keys = ("observation.agent_pos", "observation.target_pos")

    class StandInConfig(PolicyConfig):
        def windows(self, features: Any) -> Any:
            return windows_of(keys, ("action",), (-1, 0), range(CHUNK), chunk=CHUNK, execute=CHUNK)

    class StandIn(Policy):
        def __init__(self) -> None:
            super().__init__(StandInConfig("stand-in"), {})
            sizes = [8 + 2 * CHUNK, WIDTH, WIDTH, WIDTH, 2 * CHUNK]
            layers = [torch.nn.Linear(first, second) for first, second in pairwise(sizes)]
            self.layers = torch.nn.ModuleList(layers)

        def start(self, *seeds: int) -> Any:
            return {"asked": torch.zeros(len(seeds), dtype=torch.int64)}

        def act(self, observation: dict[str, Any], memory: Any = None) -> Any:
            seen = torch.cat([observation[key].flatten(1) for key in keys], -1)
            sample = torch.zeros(len(seen), 2 * CHUNK)
            for _ in range(PASSES):
                hidden = torch.cat([seen, sample], -1)
                for layer in self.layers[:-1]:
                    hidden = torch.relu(layer(hidden))
                sample = 0.9 * sample + 0.1 * self.layers[-1](hidden)
            away = seen[:, 2:4] - seen[:, 6:8]
            actions = away[:, None].clamp(-1, 1) + 1e-3 * sample.reshape(-1, CHUNK, 2)
            return {"action": actions}, {"asked": memory["asked"] + 1}

    torch.manual_seed(0)
    return StandIn()


def _seconds(policy: Any, *, together: bool) -> tuple[float, list[Any]]:
    from tendon import fork_server
    from tendon.config.compose import compose
    from tendon.evaluate.actor import Actor, BatchCheck
    from tendon.evaluate.rollout import evaluate_policy

    config = compose(["env=reach", "data.uri=x", f"eval.batch_size={GUESTS}", f"eval.n_episodes={EPISODES}"])
    compare = Actor.compare

    def one_at_a_time(actor: Actor, episode: Any) -> BatchCheck:
        actor.rows = 1
        return compare(actor, episode)

    began = time.perf_counter()
    with (
        fork_server.nearby(),  # as evaluations have it
        patch.object(Actor, "compare", compare if together else one_at_a_time),
    ):
        results = evaluate_policy(policy, config.env, config.eval, range(100_000, 100_000 + EPISODES))
    return time.perf_counter() - began, results


def _say_most(policy: Any) -> None:
    """What the ratio would be if nothing but the network took time, from its CPU time for one row and for all."""
    one_s, all_s = (_answer_s(policy, rows) for rows in (1, GUESTS))
    alone, together = EPISODES * -(-STEPS // CHUNK), -(-EPISODES // GUESTS) * -(-STEPS // CHUNK)
    most = alone * one_s / (together * all_s)
    times = f"{1e3 * one_s:.0f} ms each, over {together} of {GUESTS} rows, {1e3 * all_s:.0f} ms"
    print(f"  the network alone: {alone} answers of a row, {times}: {most:.2f}", flush=True)


def _answer_s(policy: Any, rows: int) -> float:
    import torch

    observation = {key: torch.zeros(rows, 2, 2) for key in ("observation.agent_pos", "observation.target_pos")}
    memory, taken = policy.start(*range(rows)), []
    with torch.inference_mode():
        for _ in range(ANSWERS):
            began = time.thread_time()
            policy.act(observation, memory)
            taken.append(time.thread_time() - began)
    return statistics.median(taken)


@row(
    "bench",
    "rollout-batched-actor",
    f"{EPISODES} episodes of a diffusion-size policy, {GUESTS} guests: all at once beside one at a time",
    ">= 3 x",
)
def batched_actor() -> float:
    """Median of the ratio of whole evaluations, guests started included; both give the same episodes."""
    policy, ratios = _stand_in(), []
    _say_most(policy)
    for _ in range(ROUNDS):
        alone_s, alone = _seconds(policy, together=False)
        together_s, together = _seconds(policy, together=True)
        assert [one.status for one in alone] == [one.status for one in together]
        assert [one.steps for one in alone] == [one.steps for one in together]
        ratios.append(alone_s / together_s)
        print(f"one at a time {alone_s:.1f} s, all at once {together_s:.1f} s", flush=True)
    return statistics.median(ratios)


@row(
    "bench",
    "rollout-batch-difference",
    "largest change of an action of ours by a batch of 8, over all families",
    "<= 1e-4",
)
def batch_difference() -> float:
    """Printed for each family: whether a batch gives the bits of one episode alone, and by how much it differs."""
    import numpy as np
    import torch

    from tendon.config.compose import compose
    from tendon.evaluate.actor import Actor
    from tendon.policies.registry import make_policy
    from tests.policies.features_of import features_of

    features = features_of({"observation.agent_pos": 2, "observation.target_pos": 2, "action": 2})
    largest = 0.0
    for name in (
        "bc",
        "bc_gaussian",
        "bc_gmm",
        "bc_rnn",
        "bc_rnn_gmm",
        "bc_transformer",
        "bc_transformer_gmm",
        "bc_vae",
    ):
        torch.manual_seed(0)
        policy = make_policy(compose([f"policy={name}", "env=reach", "data.uri=x"]).policy, features).eval()
        actor = Actor(policy, 2, rows=8)
        episode = actor.begin(7)
        episode.history.append({"agent_pos": np.array([0.3, -0.2]), "target_pos": np.ones(2)})
        check = actor.compare(episode)
        print(f"{name}: {'the same bits' if check.bit_equal else f'differs by {check.max_difference:.2g}'}", flush=True)
        largest = max(largest, check.max_difference)
    return largest
