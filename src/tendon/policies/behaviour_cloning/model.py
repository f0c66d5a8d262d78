"""The base of behaviour cloning policies: encoder, normalisers, heads, losses and sampling, with robomimic's numbers.

Subclasses add a backbone between encoder and head. Two deliberate differences: validation uses the predicted std
(upstream uses 1e-4 there, so its loss is the distance to the nearest mode in units of 1e8); and with
``action_normalization=mean_std``, where targets leave [-1, 1], the heads have no tanh (``bounded=always``: upstream's).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from tendon.config.crops import crop_problems, keypoint_problems
from tendon.data.features import Feature
from tendon.data.normalize import normalize
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError, Problem
from tendon.policies.base import Batch, LossOutput, Memory, Policy
from tendon.policies.behaviour_cloning.config import CloningConfig
from tendon.policies.parts.augment import Augmentation
from tendon.policies.parts.encoder import ObservationEncoder
from tendon.policies.parts.heads import LOW_NOISE_STD, DeterministicHead, Gaussian, GaussianHead, MixtureHead
from tendon.policies.parts.noise import draw_normal, draw_uniform, start_noise
from tendon.policies.parts.normalize import Normalizer
from tendon.policies.parts.vision import VisionOptions
from tendon.policies.windows import ACTION, bare

NUMERICS = 1

UNREADABLE = ("text", "category", "mask")
MAX_BOUNDED_ACTION = 1.001  # what the tanh heads can reach, and a little rounding
NUM_COS_DIMS = 3  # robomimic compares directions of the first three action dimensions (the end effector's translation)
Head = DeterministicHead | GaussianHead | MixtureHead


class BehaviourCloning(Policy):
    """A policy that imitates: subclasses build a backbone and call ``make_head``."""

    config: CloningConfig
    encoder: ObservationEncoder
    head: Head

    def __init__(
        self, config: CloningConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features)
        self.observations = {key: features[key] for key in self.reads}
        if self.writes != (ACTION,):
            raise ConfigError(
                f"{config.name} predicts one action, the dataset has {len(self.writes)}",
                where=f"policy={config.name}",
                why=f"the key of its action is {ACTION}, the dataset's are {', '.join(self.writes) or 'none'}",
                fix="choose a policy of several actions, or a dataset with one",
            )
        self.action_dim = features[ACTION].dim
        problems = [*_problems(config, self.observations, stats)]
        if problems:
            raise ConfigError.of(problems)
        self.normalize_action = Normalizer(config.action_normalization, {ACTION: self.action_dim}, stats)

    @property
    def bounded(self) -> bool:
        """Whether tanh keeps actions in [-1, 1]."""
        return self.config.bounded == "always" or self.config.action_normalization != "mean_std"

    def make_encoder(
        self, stats: Mapping[str, FeatureStats] | None, *, num_times: int = 1, activate: bool = True
    ) -> ObservationEncoder:
        """The encoder of all observations and goals; ``num_times``: steps that ``loss`` gives it."""
        config = self.config
        fetches = config.pretrained and stats is not None  # without statistics all weights are loaded next
        options = VisionOptions(config.vision_backbone, fetches, config.num_keypoints, config.feature_dim)
        colours = (config.brightness, config.contrast, config.saturation, config.hue)
        encoder = ObservationEncoder(
            self.observations,
            options,
            config.observation_normalization,
            stats,
            augmentation=Augmentation(config.resize, config.crop_size, *colours),
            num_times=num_times,
            activate=activate,
        )
        self.num_draws = encoder.num_draws
        return encoder

    def make_head(self, width: int) -> Head:
        """The head that ``config.head`` names, on features of that width."""
        config = self.config
        if config.head == "deterministic":
            return DeterministicHead(width, self.action_dim, bounded=self.bounded)
        if config.head == "gaussian":
            return GaussianHead(
                width,
                self.action_dim,
                fixed_std=config.fixed_std,
                init_std=config.init_std,
                min_std=config.min_std,
                std_activation=config.std_activation,
                bounded=self.bounded,
            )
        return MixtureHead(
            width,
            self.action_dim,
            num_modes=config.num_modes,
            min_std=config.min_std,
            bounded=self.bounded,
            std_activation=config.std_activation,
        )

    def head_loss(self, features_BTH: Tensor, action_BTA: Tensor, weight_BT: Tensor | None = None) -> LossOutput:
        """Regression loss, or the negative log-likelihood of what the head predicts; the same in validation.

        Args:
            features_BTH: what the backbone gives.
            action_BTA: raw actions.
            weight_BT: 0 where a step does not count; None counts all of them.
        """
        target_BTA = self.normalize_action(action_BTA)
        if isinstance(self.head, DeterministicHead):
            return self._regression(self.head(features_BTH), target_BTA, weight_BT)
        log_likelihood = weighted_mean(self.head(features_BTH).log_prob(target_BTA), weight_BT)
        return LossOutput(-log_likelihood, {"log_likelihood": log_likelihood.detach()})

    def choose(self, features_BH: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Raw actions ``[B, A]`` with the episodes' noise, and the noise of the next step."""
        if isinstance(self.head, DeterministicHead):
            return self.normalize_action.inverse(self.head(features_BH)), noise
        distribution = self.head(features_BH)
        low_noise, device = self.config.low_noise_eval, features_BH.device
        if isinstance(distribution, Gaussian) and low_noise:
            return self.normalize_action.inverse(distribution.mean), noise
        noise = start_noise(*[0] * len(features_BH)) if noise is None else noise
        if isinstance(distribution, Gaussian):
            normal_BA, noise = draw_normal(noise, self.action_dim)
            return self.normalize_action.inverse(distribution.sample(normal_BA.to(device))), noise
        uniform_B1, noise = draw_uniform(noise, 1)
        normal_BA, noise = draw_normal(noise, self.action_dim)
        std = LOW_NOISE_STD if low_noise else None
        action_BA = distribution.sample(uniform_B1[:, 0].to(device), normal_BA.to(device), std)
        return self.normalize_action.inverse(action_BA), noise

    def start(self, *seeds: int) -> Memory:
        """What a head that samples needs: the noise of each episode."""
        return None if isinstance(self.head, DeterministicHead) else start_noise(*seeds)

    def step_weights(self, batch: Batch) -> Tensor | None:
        """0 for actions beyond the episode where ``mask_padding`` says so; upstream trains on them."""
        return (~batch[f"{ACTION}_is_pad"]).float() if self.config.mask_padding else None

    def _regression(self, action_BTA: Tensor, target_BTA: Tensor, weight_BT: Tensor | None) -> LossOutput:
        terms: dict[str, Tensor] = {}
        if self.config.l2_weight:
            terms["l2"] = weighted_mean(functional.mse_loss(action_BTA, target_BTA, reduction="none"), weight_BT)
        if self.config.l1_weight:
            terms["l1"] = weighted_mean(functional.smooth_l1_loss(action_BTA, target_BTA, reduction="none"), weight_BT)
        if self.config.cos_weight:
            directions = action_BTA[..., :NUM_COS_DIMS], target_BTA[..., :NUM_COS_DIMS]
            terms["cos"] = weighted_mean(1 - functional.cosine_similarity(*directions, dim=-1), weight_BT)
        weighted = [getattr(self.config, f"{name}_weight") * term for name, term in terms.items()]
        metrics = {f"{name}_loss": term.detach() for name, term in terms.items()}
        return LossOutput(sum(weighted[1:], weighted[0]), metrics)


def weighted_mean(values: Tensor, weight_BT: Tensor | None) -> Tensor:
    """Mean of ``[B, T]`` or ``[B, T, A]`` over the steps that count."""
    if weight_BT is None:
        return values.mean()
    per_step_BT = values if values.dim() == weight_BT.dim() else values.mean(-1)
    return (per_step_BT * weight_BT).sum() / weight_BT.sum().clamp(min=1)


def _problems(
    config: CloningConfig, observations: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
) -> Iterator[Problem]:
    """Everything that would train to nonsense."""
    sizes = {
        bare(key): (feature.shape[0], feature.shape[1])
        for key, feature in observations.items()
        if feature.kind == "image"
    }
    yield from crop_problems(config, sizes)
    if stats is not None:  # weights of others may have been made so
        yield from keypoint_problems(config, sizes)
    for key, feature in observations.items():
        if feature.kind in UNREADABLE:
            why = f"its net takes numbers and cameras, {key} is a {feature.kind}"
            yield Problem(
                f"{config.name} cannot read {bare(key)}", "env.observation", why, "leave it out of env.observation"
            )
    if not observations:
        what, why = f"{config.name} has nothing to look at", "no observation feature was selected"
        yield Problem(what, "env.observation", why, "name at least one observation")
    if config.name == "bc" and not config.hidden_dims:
        yield Problem("bc has no layers", "policy.hidden_dims", "the list is empty", "policy.hidden_dims=[1024,1024]")
    if config.head == "deterministic" and not any((config.l2_weight, config.l1_weight, config.cos_weight)):
        where, why = "policy.l2_weight, policy.l1_weight, policy.cos_weight", "all three are 0"
        yield Problem(f"{config.name} has no loss", where, why, "policy.l2_weight=1.0")
    if stats is not None and config.action_normalization != "mean_std":
        reach = _reach(config, stats[ACTION])
        if reach > MAX_BOUNDED_ACTION:
            what, where = f"{config.name} cannot reach the demonstrated actions", "policy.action_normalization"
            why = (
                f"{config.action_normalization}: actions of the dataset reach {reach:.4g}, the policy's tanh ends at 1"
            )
            yield Problem(what, where, why, "policy.action_normalization=min_max")


def _reach(config: CloningConfig, stats: FeatureStats) -> float:
    """The largest absolute value of a normalised action."""
    return float(np.abs(normalize(np.array([stats.min, stats.max]), stats, config.action_normalization)).max())


def backbone_mlp(input_dim: int, hidden_dims: tuple[int, ...]) -> tuple[nn.Module, int]:
    """The MLP between backbone and head and its width; nothing for an empty list."""
    from tendon.policies.parts.mlp import make_mlp

    return (make_mlp(input_dim, hidden_dims), hidden_dims[-1]) if hidden_dims else (nn.Identity(), input_dim)
