"""Planning in latent space: MPPI with the cross-entropy method, from the plan of the step before.

Every number of chance is given (``PlanNoise``), so a plan is a function. Axes: B episodes, H steps of the plan,
I iterations, N samples (P of them from the policy), K elites, A numbers of an action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tendon.policies.tdmpc.config import TdmpcConfig
from tendon.policies.tdmpc.latent_model import LatentModel, least_of_two

NUMERICS = 1


@dataclass(frozen=True)
class PlanNoise:
    """The chance in one plan of B episodes."""

    policy: Tensor  # normal [H, P, B, A]
    samples: Tensor  # normal [I, H, N, B, A]
    last_action: Tensor  # normal [I, N + P, B, A]
    critics: Tensor  # the two critics of each iteration's terminal value, int64 [I, 2, B]
    choice: Tensor  # in [0, 1): which elite is carried out [B]

    @staticmethod
    def counts(config: TdmpcConfig, action_dim: int) -> tuple[int, int]:
        """How many normal and how many uniform numbers an episode's plan takes."""
        policy = config.horizon * config.n_pi_samples
        samples = config.horizon * config.n_gaussian_samples
        last = config.n_gaussian_samples + config.n_pi_samples
        return (policy + config.cem_iterations * (samples + last)) * action_dim, 2 * config.cem_iterations + 1

    @staticmethod
    def of(normal_BM: Tensor, uniform_BU: Tensor, config: TdmpcConfig, action_dim: int) -> PlanNoise:
        """From as many numbers as ``counts`` says, a row for each episode."""
        H, P, N, I = config.horizon, config.n_pi_samples, config.n_gaussian_samples, config.cem_iterations  # noqa: E741
        sizes = [H * P * action_dim, I * H * N * action_dim, I * (N + P) * action_dim]
        policy, samples, last = torch.split(normal_BM, sizes, 1)
        B = len(normal_BM)
        critics_BI2 = (uniform_BU[:, :-1] * config.q_ensemble_size).long().view(B, I, 2)
        return PlanNoise(
            policy.reshape(B, H, P, action_dim).movedim(0, 2),
            samples.reshape(B, I, H, N, action_dim).movedim(0, 3),
            last.reshape(B, I, N + P, action_dim).movedim(0, 2),
            critics_BI2.movedim(0, 2),
            uniform_BU[:, -1],
        )


def plan(
    model: LatentModel, config: TdmpcConfig, latent_BL: Tensor, before_HBA: Tensor, noise: PlanNoise
) -> tuple[Tensor, Tensor]:
    """Actions of the next steps ``[H, B, A]``, and the mean that the next plan starts from.

    Args:
        model: predicts latent states, rewards and values.
        config: the planner's numbers.
        latent_BL: where the episodes are.
        before_HBA: the mean of the plan before; zeros in a fresh episode.
        noise: all chance.
    """
    H, P = config.horizon, config.n_pi_samples
    sampled_HPBA = _policy_plans(model, config, latent_BL, noise.policy)
    starts_NBL = latent_BL.expand(config.n_gaussian_samples + P, *latent_BL.shape)
    mean_HBA = torch.cat([before_HBA[1:], torch.zeros_like(before_HBA[:1])])
    std_HBA = torch.full_like(mean_HBA, config.max_std)
    for i in range(config.cem_iterations):
        gaussian_HNBA = (mean_HBA.unsqueeze(1) + std_HBA.unsqueeze(1) * noise.samples[i]).clamp(-1, 1)
        actions_HNBA = torch.cat([gaussian_HNBA, sampled_HPBA], 1)
        value_NB = estimated_return(
            model, config, starts_NBL, actions_HNBA, noise.last_action[i], noise.critics[i]
        ).nan_to_num(0)
        best_KB, index_KB = value_NB.topk(config.n_elites, 0)
        elites_HKBA = actions_HNBA.take_along_dim(index_KB[None, :, :, None], 1)
        score_KB = (config.elite_weighting_temperature * (best_KB - best_KB.max(0, keepdim=True).values)).exp()
        score_KB = score_KB / score_KB.sum(0, keepdim=True)
        weights_KB1 = score_KB.unsqueeze(-1)
        new_HBA = (weights_KB1 * elites_HKBA).sum(1)
        spread_HBA = (weights_KB1 * (elites_HKBA - new_HBA.unsqueeze(1)).square()).sum(1).sqrt()
        momentum = config.gaussian_mean_momentum
        mean_HBA = momentum * mean_HBA + (1 - momentum) * new_HBA
        std_HBA = spread_HBA.clamp(config.min_std, config.max_std)
    below_KB = score_KB.cumsum(0) <= noise.choice
    chosen_B = below_KB.sum(0).clamp(max=config.n_elites - 1)
    actions_HBA = elites_HKBA.take_along_dim(chosen_B.view(1, 1, -1, 1), 1).squeeze(1)
    assert len(actions_HBA) == H
    return actions_HBA, mean_HBA


def estimated_return(
    model: LatentModel,
    config: TdmpcConfig,
    latent_NBL: Tensor,
    actions_HNBA: Tensor,
    last_action_NBA: Tensor,
    critics_2B: Tensor,
) -> Tensor:
    """Discounted rewards and a terminal value ``[N, B]``, less what the critics disagree about."""
    doubt = config.uncertainty_regularizer_coeff
    total_NB, discount = latent_NBL.new_zeros(latent_NBL.shape[:2]), 1.0
    for action_NBA in actions_HNBA:
        reward_NB = model.rewards(latent_NBL, action_NBA)
        if doubt:
            reward_NB = reward_NB - doubt * model.critic_values(latent_NBL, action_NBA).std(0)
        latent_NBL = model.next_latent(latent_NBL, action_NBA)
        total_NB = total_NB + discount * reward_NB
        discount *= config.discount
    action_NBA = model.actions(latent_NBL) + config.min_std * last_action_NBA
    terminal_ENB = model.critic_values(latent_NBL, action_NBA)
    total_NB = total_NB + discount * least_of_two(terminal_ENB, critics_2B)
    return total_NB - discount * doubt * terminal_ENB.std(0) if doubt else total_NB


def _policy_plans(model: LatentModel, config: TdmpcConfig, latent_BL: Tensor, normal_HPBA: Tensor) -> Tensor:
    """What the policy would do over the whole horizon, with a little noise."""
    latent_PBL, actions = latent_BL.expand(config.n_pi_samples, *latent_BL.shape), []
    for normal_PBA in normal_HPBA:
        actions.append(model.actions(latent_PBL) + config.min_std * normal_PBA)
        latent_PBL = model.next_latent(latent_PBL, actions[-1])
    return torch.stack(actions)
