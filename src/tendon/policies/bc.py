"""Behaviour cloning: an MLP from the current observation to the current action; robomimic's BC and BC-GMM, its numbers.

Observation keys are concatenated in sorted order. Two deliberate differences: the GMM's validation loss uses the
predicted std (upstream uses 1e-4 there, so its loss is the distance to the nearest mode in units of 1e8); and with
``action_normalization=mean_std``, where targets leave [-1, 1], the heads have no tanh.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tendon.config.schema import BcConfig
from tendon.data.normalize import normalize
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError, Problem
from tendon.policies.base import Batch, LossOutput, Memory, Policy, Window
from tendon.policies.parts.heads import LOW_NOISE_STD, DeterministicHead, MixtureHead
from tendon.policies.parts.mlp import make_mlp
from tendon.policies.parts.noise import draw_normal, draw_uniform, start_noise
from tendon.policies.parts.normalize import Normalizer

ACTION = "action"
MAX_BOUNDED_ACTION = 1.001  # what the tanh heads can reach, and a little rounding
NUM_COS_DIMS = 3  # robomimic compares directions of the first three action dimensions (the end effector's translation)


class Bc(Policy):
    """One observation in, one action out."""

    def __init__(self, config: BcConfig, features: Mapping[str, int], stats: Mapping[str, FeatureStats] | None) -> None:
        super().__init__()
        self.config = config
        observations = {key: features[key] for key in sorted(features) if key != ACTION}
        self.window = Window(tuple(observations), ACTION, (0,), (0,), 1)
        _check(config, observations, stats)
        self.normalize_observation = Normalizer(config.observation_normalization, observations, stats)
        self.normalize_action = Normalizer(config.action_normalization, {ACTION: features[ACTION]}, stats)
        self.trunk = make_mlp(sum(observations.values()), config.hidden_dims)
        width, bounded = config.hidden_dims[-1], config.action_normalization != "mean_std"
        self.head: DeterministicHead | MixtureHead
        if config.head == "deterministic":
            self.head = DeterministicHead(width, features[ACTION], bounded=bounded)
        else:
            self.head = MixtureHead(
                width, features[ACTION], num_modes=config.num_modes, min_std=config.min_std, bounded=bounded
            )

    def loss(self, batch: Batch, memory: Memory = None) -> LossOutput:
        """Regression loss, or the negative log-likelihood of the predicted mixture; the same in validation."""
        features_BH, target_BA = self._trunk(batch), self.normalize_action(batch[ACTION][:, 0])
        if isinstance(self.head, DeterministicHead):
            return self._regression(self.head(features_BH), target_BA)
        log_likelihood = self.head(features_BH).log_prob(target_BA).mean()
        return LossOutput(-log_likelihood, {"log_likelihood": log_likelihood.detach()})

    def start(self, *seeds: int) -> Memory:
        """The GMM head samples: its memory is the noise of each episode."""
        return None if isinstance(self.head, DeterministicHead) else start_noise(*seeds)

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Tensor, Memory]:
        """The action, or one drawn from the mixture with the episode's noise (no memory: a fresh episode of seed 0)."""
        features_BH = self._trunk(observation)
        if isinstance(self.head, DeterministicHead):
            action_BA = self.head(features_BH)
        else:
            mixture = self.head(features_BH)
            memory = start_noise(*[0] * len(features_BH)) if memory is None else memory
            uniform_B1, memory = draw_uniform(memory, 1)
            normal_BA, memory = draw_normal(memory, mixture.mean.shape[-1])
            device = features_BH.device
            std = LOW_NOISE_STD if self.config.low_noise_eval else None
            action_BA = mixture.sample(uniform_B1[:, 0].to(device), normal_BA.to(device), std)
        return self.normalize_action.inverse(action_BA).unsqueeze(1), memory

    def _trunk(self, batch: Batch) -> Tensor:
        observation_BD = torch.cat([batch[key][:, 0] for key in self.window.observation_keys], dim=-1)
        features_BH: Tensor = self.trunk(self.normalize_observation(observation_BD))
        return features_BH

    def _regression(self, action_BA: Tensor, target_BA: Tensor) -> LossOutput:
        terms: dict[str, Tensor] = {}
        if self.config.l2_weight:
            terms["l2"] = functional.mse_loss(action_BA, target_BA)
        if self.config.l1_weight:
            terms["l1"] = functional.smooth_l1_loss(action_BA, target_BA)
        if self.config.cos_weight:
            cosine_B = functional.cosine_similarity(action_BA[:, :NUM_COS_DIMS], target_BA[:, :NUM_COS_DIMS], dim=-1)
            terms["cos"] = (1 - cosine_B).mean()
        weighted = [getattr(self.config, f"{name}_weight") * term for name, term in terms.items()]
        metrics = {f"{name}_loss": term.detach() for name, term in terms.items()}
        return LossOutput(sum(weighted[1:], weighted[0]), metrics)


def _check(config: BcConfig, observations: Mapping[str, int], stats: Mapping[str, FeatureStats] | None) -> None:
    """Raise a ConfigError with everything that would train to nonsense."""
    problems: list[Problem] = []
    if not observations:
        what, why = "bc has nothing to look at", "no observation feature was selected"
        problems.append(Problem(what, "env.observation", why, "name at least one observation"))
    if not config.hidden_dims:
        fix = "policy.hidden_dims=[1024,1024]"
        problems.append(Problem("bc has no layers", "policy.hidden_dims", "the list is empty", fix))
    if config.head == "deterministic" and not any((config.l2_weight, config.l1_weight, config.cos_weight)):
        where, why = "policy.l2_weight, policy.l1_weight, policy.cos_weight", "all three are 0"
        problems.append(Problem("bc has no loss", where, why, "policy.l2_weight=1.0"))
    if stats is not None and config.action_normalization != "mean_std":
        reach = _reach(config, stats[ACTION])
        if reach > MAX_BOUNDED_ACTION:
            what, where = "bc cannot reach the demonstrated actions", "policy.action_normalization"
            why = (
                f"{config.action_normalization}: actions of the dataset reach {reach:.4g}, the policy's tanh ends at 1"
            )
            problems.append(Problem(what, where, why, "policy.action_normalization=min_max"))
    if problems:
        raise ConfigError.of(problems)


def _reach(config: BcConfig, stats: FeatureStats) -> float:
    """The largest absolute value of a normalised action."""
    return float(np.abs(normalize(np.array([stats.min, stats.max]), stats, config.action_normalization)).max())
