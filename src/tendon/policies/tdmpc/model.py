"""TD-MPC as FOWM and LeRobot have it: a latent model learnt from recorded steps, and actions planned with it.

The target of the latent states and of the values is a copy of the model that follows it slowly; it is saved with the
weights. Rewards of the dataset (``next.reward``) are read in training. All chance is numbers of the batch
(``AUGMENT_NOISE``) or of the episode (``start``). Axes: B windows, H steps, L numbers of a latent state, A of an action.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn import functional

from tendon.data.features import REWARD, Feature
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError, Problem
from tendon.policies.base import AUGMENT_NOISE, Batch, LossOutput, Memory, Policy
from tendon.policies.parts.augment import cropped
from tendon.policies.parts.noise import draw_normal, draw_uniform, start_noise
from tendon.policies.processing.processing import Processing
from tendon.policies.tdmpc.config import TdmpcConfig
from tendon.policies.tdmpc.latent_model import LatentModel, least_of_two, smallest_picture
from tendon.policies.tdmpc.planner import PlanNoise, plan
from tendon.policies.windows import ACTION, bare

NUMERICS = 1

NUM_CRITIC_DRAWS = 4  # two critics for the values, two for the advantage
MAX_ADVANTAGE_WEIGHT = 100.0


class Tdmpc(Policy):
    """The memory is the noise of each episode and the mean of its last plan ``[B, H, A]``."""

    config: TdmpcConfig
    processing: Processing

    def __init__(
        self, config: TdmpcConfig, features: Mapping[str, Feature], stats: Mapping[str, FeatureStats] | None
    ) -> None:
        super().__init__(config, features)
        problems = [*_problems(config, features)]
        if problems:
            raise ConfigError.of(problems)
        self.processing = Processing(config.processing(features), features, stats)
        self.action_dim = features[ACTION].dim
        self.online = LatentModel(config, {key: features[key] for key in self.reads}, self.action_dim)
        self.target = deepcopy(self.online)
        self.target.requires_grad_(False)
        self.camera = next((key for key in self.reads if features[key].kind == "image"), "")
        side = features[self.camera].shape[0] if self.camera else 0
        self.max_shift = round(config.max_random_shift_ratio * side)
        self.num_draws = NUM_CRITIC_DRAWS + 2 * (config.horizon + 1) * bool(self.max_shift)

    def frozen(self) -> tuple[str, ...]:
        """The target learns nothing, it follows."""
        return ("target",)

    def after_update(self, step: int) -> None:
        """The target follows the model."""
        held: list[Tensor] = list(self.target.parameters())
        learnt: list[Tensor] = list(self.online.parameters())
        momentum = self.config.target_model_momentum
        torch._foreach_mul_(held, momentum)
        torch._foreach_add_(held, learnt, alpha=1 - momentum)

    # ------------------------------------------------------------------------------------------------------------- loss

    def loss(self, batch: Batch, memory: Memory = None, step: int = 0) -> LossOutput:
        """Consistency of latent states, reward, critics, value and the policy that imitates good actions.

        Steps beyond the episode do not count. Without numbers of chance (validation) the first two critics are taken and
        pictures stay where they are.
        """
        config, draws_BN = self.config, batch.get(AUGMENT_NOISE)
        seen = {key: value.transpose(0, 1) for key, value in self._shifted(self.processing(batch), draws_BN).items()}
        action_HBA, reward_HB = seen[ACTION], batch[REWARD].squeeze(-1).transpose(0, 1)
        first_22B = self._critics(draws_BN, len(batch[ACTION])).reshape(2, 2, -1)
        following = {key: seen[key][1:] for key in self.reads}
        latents = [self.online.encode({key: seen[key][0] for key in self.reads})]
        for action_BA in action_HBA:
            latents.append(self.online.next_latent(latents[-1], action_BA))
        latent_HBL, predicted_HBL = torch.stack(latents[:-1]), torch.stack(latents[1:])
        reward_error_HB = (self.online.rewards(latent_HBL, action_HBA) - reward_HB).square()
        critics_EHB = self.online.critic_values(latent_HBL, action_HBA)
        value_HB = self.online.values(latent_HBL)
        with torch.no_grad():
            aim_HBL = self.target.encode(following)
            q_aim_HB = reward_HB + config.discount * self.online.values(self.online.encode(following))
            target_EHB = self.target.critic_values(latent_HBL, action_HBA)
            value_aim_HB, other_HB = (least_of_two(target_EHB, pair_2B) for pair_2B in first_22B)
            advantage_HB = other_HB - value_HB
            imitation_HB = (config.advantage_scaling * advantage_HB).exp().clamp(max=MAX_ADVANTAGE_WEIGHT)
        gap_HB = value_aim_HB - value_HB
        side_HB = torch.where(gap_HB > 0, config.expectile_weight, 1 - config.expectile_weight)
        policy_error_HB = (self.online.actions(latent_HBL.detach()) - action_HBA).square().sum(-1)
        weight_HB, counted_HB, rewarded_HB = self._weights(batch)
        terms = {
            "consistency_loss": (predicted_HBL - aim_HBL).square().mean(-1) * counted_HB,
            "reward_loss": reward_error_HB * rewarded_HB,
            "Q_value_loss": (critics_EHB - q_aim_HB).square().sum(0) * rewarded_HB * counted_HB,
            "V_value_loss": side_HB * gap_HB.square(),
        }
        losses = {name: (weight_HB * term).sum(0).mean() for name, term in terms.items()}
        losses["pi_loss"] = (weight_HB * imitation_HB * policy_error_HB).mean()  # a mean over the steps too, upstream's
        coefficients = {
            "consistency_loss": config.consistency_coeff,
            "reward_loss": config.reward_coeff,
            "Q_value_loss": config.value_coeff,
            "V_value_loss": config.value_coeff,
            "pi_loss": config.pi_coeff,
        }
        total = torch.stack([coefficients[name] * losses[name] for name in losses]).sum()
        metrics = {name: value.detach() for name, value in losses.items()}
        return LossOutput(total, metrics | {"Q": critics_EHB.detach().mean(), "V": value_HB.detach().mean()})

    def _weights(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Of every step: its share where observation and action are real, whether the next observation is, and the reward."""
        real_BT = ~batch[f"{self.reads[0]}_is_pad"]
        action_BH, reward_BH = ~batch[f"{ACTION}_is_pad"], ~batch[f"{REWARD}_is_pad"]
        steps_H = torch.arange(action_BH.shape[1], device=action_BH.device)
        weight_BH = self.config.temporal_decay_coeff**steps_H * real_BT[:, :1] * action_BH
        return weight_BH.t(), real_BT[:, 1:].t(), reward_BH.t()

    def _critics(self, draws_BN: Tensor | None, batch_size: int) -> Tensor:
        """Numbers of critics ``[4, B]``."""
        if draws_BN is None:
            device = next(self.online.parameters()).device
            return torch.arange(NUM_CRITIC_DRAWS, device=device).remainder(2).unsqueeze(-1).expand(-1, batch_size)
        return (draws_BN[:, :NUM_CRITIC_DRAWS] * self.config.q_ensemble_size).long().t()

    def _shifted(self, seen: dict[str, Tensor], draws_BN: Tensor | None) -> dict[str, Tensor]:
        """Every picture moved by up to ``max_shift`` pixels, its edges repeated."""
        kept = {key: seen[key] for key in (*self.reads, ACTION)}
        if draws_BN is None or not self.max_shift:
            return kept
        pictures, pad = seen[self.camera], self.max_shift
        corners_BT2 = (draws_BN[:, NUM_CRITIC_DRAWS:] * (2 * pad + 1)).long().view(len(pictures), -1, 2)
        padded = functional.pad(pictures.flatten(0, 1), (pad,) * 4, "replicate")
        padded = padded.view(*pictures.shape[:2], *padded.shape[1:])
        height, width = pictures.shape[-2:]
        return kept | {self.camera: cropped(padded, (height, width), corners_BT2)}

    # ----------------------------------------------------------------------------------------------------------- acting

    def start(self, *seeds: int) -> Memory:
        """The noise of the plans, and no plan yet."""
        mean_BHA = next(self.online.parameters()).new_zeros(len(seeds), self.config.horizon, self.action_dim)
        return {"noise": start_noise(*seeds), "mean": mean_BHA}

    @torch.no_grad()
    def act(self, observation: Batch, memory: Memory = None) -> tuple[Batch, Memory]:
        """The planned actions, or one of them repeated; what the policy says where nothing is planned."""
        config = self.config
        seen = self.processing(observation, "acting")
        latent_BL = self.online.encode({key: seen[key][:, -1] for key in self.reads})
        memory = self.start(*[0] * len(latent_BL)) if memory is None else memory
        if config.use_mpc:
            noise, memory_noise = self._noise(memory["noise"], latent_BL.device)
            actions_HBA, mean_HBA = plan(self.online, config, latent_BL, memory["mean"].transpose(0, 1), noise)
            memory = {"noise": memory_noise, "mean": mean_HBA.transpose(0, 1)}
        else:
            actions_HBA = self.online.actions(latent_BL).unsqueeze(0)
        if config.n_action_repeats > 1 or not config.use_mpc:
            actions_HBA = actions_HBA[:1].expand(config.n_action_repeats, -1, -1)
        action_BHA = actions_HBA.clamp(-1, 1).transpose(0, 1)
        return {ACTION: self.processing.inverse({ACTION: action_BHA}, seen)[ACTION]}, memory

    def _noise(self, noise_B2: Tensor, device: torch.device) -> tuple[PlanNoise, Tensor]:
        num_normal, num_uniform = PlanNoise.counts(self.config, self.action_dim)
        normal_BM, noise_B2 = draw_normal(noise_B2, num_normal)
        uniform_BU, noise_B2 = draw_uniform(noise_B2, num_uniform)
        return PlanNoise.of(normal_BM.to(device), uniform_BU.to(device), self.config, self.action_dim), noise_B2


def _problems(config: TdmpcConfig, features: Mapping[str, Feature]) -> Iterator[Problem]:
    reads = config.reads(features)
    pictures = [key for key in reads if features[key].kind == "image"]
    yield from config.feature_problems(features)
    for key in pictures:
        height, width = features[key].shape[:2]
        if height != width or height < smallest_picture():
            why = f"{bare(key)} is {height} x {width}; it takes squares of at least {smallest_picture()} pixels"
            fix = "convert the demonstrations with data.resize=[84,84]"
            yield Problem("tdmpc cannot read the camera", "env.observation", why, fix)
