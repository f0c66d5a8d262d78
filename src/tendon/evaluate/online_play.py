"""Who plays the episodes of an online phase: guests that live as long as the training, asked for some episodes at a time.

Handed to the loop by steps.train. The seed of an episode comes from a block of its own (seeds.py), so that nothing is
learnt on a seed that judges. The policy is asked as in an evaluation, always in batches of as many rows as there are
guests: what an episode becomes depends on the weights and its seed alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tendon.config.feature_map import ACTION, FeatureMap
from tendon.config.schema import EvalConfig, TrainConfig
from tendon.data.features import REWARD, Feature
from tendon.errors import ConfigError
from tendon.evaluate.actor import BatchCheck
from tendon.evaluate.guest import Guest
from tendon.evaluate.rollout import EpisodeResult, Work, evaluate_policy, new_guest
from tendon.evaluate.seed_check import SeedCheck
from tendon.evaluate.seeds import online
from tendon.policies.base import Policy
from tendon.policies.processing.processing import batch_shape
from tendon.policies.windows import GOAL
from tendon.train.online.episodes import OnlineEpisode, Play, PlayedRollout

logger = logging.getLogger(__name__)


@contextmanager
def playing(config: TrainConfig) -> Iterator[Play]:
    """A function that plays; its simulators start with the first rollout and end here."""
    player = _Player(config)
    try:
        yield player.play
    finally:
        player.close()


class _Player:
    """Guests, and whether they may live on from one rollout to the next."""

    def __init__(self, config: TrainConfig) -> None:
        training = config.training
        self._config, self._rows = config, training.online_rollout_batch_size
        self._eval: EvalConfig = replace(config.eval, batch_size=self._rows)
        self._first_seed = config.seed if training.online_env_seed is None else training.online_env_seed
        self._guests: list[Guest] = []
        self._is_checked = self._is_fresh_each_time = False

    def close(self) -> None:
        """End the guests."""
        for guest in self._guests:
            guest.close()
        self._guests = []

    def play(self, policy: Policy, first: int, count: int) -> PlayedRollout:
        """The episodes ``first`` to before ``first + count`` of a training."""
        began = time.perf_counter()
        if not self._guests:
            self._guests = [new_guest(self._config.env, self._eval) for _ in range(self._rows)]
        rows = BatchCheck(self._rows, bit_equal=True, max_difference=0.0, tolerance=0.0)
        results = evaluate_policy(
            policy,
            self._config.env,
            self._eval,
            [online(self._first_seed, number) for number in range(first, first + count)],
            seed_checked=None if self._is_checked else self._seed_checked,
            work=Work(check=rows, guests=self._guests, watches=True),
        )
        if self._is_fresh_each_time:
            self.close()
        numbers = FeatureMap.of(self._config.env)
        episodes = tuple(
            _episode(policy, numbers, number, result)
            for number, result in enumerate(results, first)
            if result.status != "crashed" and result.steps
        )
        return PlayedRollout(episodes, count - len(episodes), time.perf_counter() - began)

    def _seed_checked(self, found: SeedCheck) -> None:
        """One episode was played twice in one guest: where it differs, an episode would depend on those before it."""
        self._is_checked = True
        if found.note:
            self._is_fresh_each_time = True
            logger.warning("online: %s; every rollout starts its simulators anew", found.note)


def _episode(policy: Policy, features: FeatureMap, number: int, result: EpisodeResult) -> OnlineEpisode:
    """What was observed and done, by the keys and in the shapes of the policy's batches."""
    values: dict[str, NDArray[Any]] = {}
    for key in {name.removeprefix(GOAL): None for name in policy.windows.training}:
        feature = policy.features.get(key) or policy.features.get(f"{GOAL}{key}")
        if key == REWARD:
            values[key] = np.array(result.rewards, np.float32)[:, None]
        elif key in features.action_keys:
            done = features.parts_of(result.actions).get(key.removeprefix(f"{ACTION}."), result.actions)
            values[key] = np.asarray(done, np.float32)
        elif feature is not None:
            values[key] = _observed(feature, features.observation_of(key), result)
    return OnlineEpisode(number, values, result.steps, result.sum_reward, result.status == "success")


def _observed(feature: Feature, name: str, result: EpisodeResult) -> NDArray[Any]:
    if name not in result.observations[0]:
        raise ConfigError(
            f"the simulator does not observe {name!r}",
            where=f"policy input {feature.key}",
            why=f"it observes {', '.join(sorted(result.observations[0]))}",
            fix="choose the env of the demonstrations, or mend env.observation and env.features",
        )
    values = np.stack([observation[name] for observation in result.observations])
    dtype = np.uint8 if feature.kind in ("image", "mask") else np.int64 if feature.is_integer else np.float32
    shape = batch_shape(feature)
    is_picture = feature.kind in ("image", "mask", "depth")
    if values.shape[1:] != shape if is_picture else values[0].size != int(np.prod(shape)):
        raise ConfigError(
            f"{feature.key} has another shape in the simulator than in the dataset",
            where=f"env.observation, {name}",
            why=f"{list(values.shape[1:])} in the simulator, {list(feature.shape)} in the dataset, and one batch holds both",
            fix="choose the env of the demonstrations; env.cameras says the size of a picture",
        )
    return values.astype(dtype).reshape(len(values), *shape)
