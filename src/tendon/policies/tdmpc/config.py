"""TD-MPC: its keys, its windows and what stands between the dataset and its nets. No torch.

The names and the defaults are LeRobot's, whose TD-MPC is FOWM's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from tendon.config.schema import Beta, Conflict, Count, CountOrNone, NotNegative, Positive, Share
from tendon.data.features import REWARD, Feature
from tendon.errors import Problem
from tendon.policies.lerobot.config import ImageScaling, LeRobotScaling, Scaling, one_camera_problems
from tendon.policies.windows import NOW, Span, Windows, in_order


@dataclass(frozen=True)
class TdmpcConfig(LeRobotScaling):
    """A latent model of the task, values learnt from data, and actions planned with both; these are in [-1, 1]."""

    model: ClassVar[str] = "tendon.policies.tdmpc.model:Tdmpc"
    decides: ClassVar[tuple[str, ...]] = ("use_mpc",)
    learns_online: ClassVar[bool] = True

    state_normalization: Scaling = "identity"
    environment_normalization: Scaling = "identity"
    image_normalization: ImageScaling = "identity"
    n_action_repeats: Count = 2
    horizon: Count = 5
    n_action_steps: Count = 1
    image_encoder_hidden_dim: Count = 32
    state_encoder_hidden_dim: Count = 256
    latent_dim: Count = 50
    q_ensemble_size: Count = 5
    mlp_dim: Count = 512
    discount: Share = 0.9
    use_mpc: bool = True
    cem_iterations: Count = 6
    max_std: Positive = 2.0
    min_std: Positive = 0.05
    n_gaussian_samples: Count = 512
    n_pi_samples: CountOrNone = 51
    uncertainty_regularizer_coeff: NotNegative = 1.0
    n_elites: Count = 50
    elite_weighting_temperature: Positive = 0.5
    gaussian_mean_momentum: Share = 0.1
    max_random_shift_ratio: Share = 0.0476
    reward_coeff: NotNegative = 0.5
    expectile_weight: Share = 0.9
    value_coeff: NotNegative = 0.1
    consistency_coeff: NotNegative = 20.0
    advantage_scaling: NotNegative = 3.0
    pi_coeff: NotNegative = 0.5
    temporal_decay_coeff: Share = 0.5
    target_model_momentum: Beta = 0.995

    def feature_problems(self, features: Mapping[str, Feature]) -> Iterator[Problem]:
        """As every policy."""
        yield from one_camera_problems(self, features, "its encoder takes one picture")

    def conflicts(self) -> Iterator[Conflict]:
        """Several planned actions, or one that is repeated; elites come from the samples."""
        if self.n_action_steps > 1 and self.n_action_repeats > 1:
            yield Conflict(
                "n_action_repeats",
                f"policy.n_action_steps is {self.n_action_steps}, policy.n_action_repeats {self.n_action_repeats}",
                "either several planned actions are carried out, or one is repeated",
                "policy.n_action_repeats=1 or policy.n_action_steps=1",
            )
        if self.n_action_steps > 1 and not self.use_mpc:
            yield Conflict(
                "n_action_steps",
                f"policy.n_action_steps is {self.n_action_steps} and policy.use_mpc false",
                "without planning there is one action",
                "policy.n_action_steps=1 or policy.use_mpc=true",
            )
        if self.n_action_steps > self.horizon:
            yield Conflict(
                "n_action_steps",
                f"policy.n_action_steps is {self.n_action_steps}, policy.horizon {self.horizon}",
                "no more actions can be carried out than are planned",
                f"policy.n_action_steps={self.horizon}",
            )
        num_samples = self.n_gaussian_samples + self.n_pi_samples
        if self.n_elites > num_samples:
            yield Conflict(
                "n_elites",
                f"policy.n_elites is {self.n_elites}, there are {num_samples} samples",
                "the elites are the best of the samples: policy.n_gaussian_samples and policy.n_pi_samples",
                f"policy.n_elites={num_samples}",
            )

    def without_effect(self) -> dict[str, str]:
        """Keys of the planner, where nothing is planned."""
        planner = (
            *("cem_iterations", "max_std", "min_std", "n_gaussian_samples", "n_pi_samples", "n_elites"),
            *("uncertainty_regularizer_coeff", "elite_weighting_temperature", "gaussian_mean_momentum"),
        )
        return {} if self.use_mpc else dict.fromkeys(planner, "policy.use_mpc=true")

    def reads(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """Every observation and goal, sorted by bare name."""
        return in_order([key for key, feature in features.items() if feature.kind not in ("action", "reward")])

    def windows(self, features: Mapping[str, Feature]) -> Windows:
        """Observations up to ``horizon`` steps ahead with the actions and rewards between them; acting sees now."""
        reads, steps = self.reads(features), tuple(range(self.horizon))
        seen = dict.fromkeys(reads, Span((*steps, self.horizon)))
        targets = dict.fromkeys((*self.writes(features), REWARD), Span(steps))
        repeats = self.n_action_repeats
        chunk = repeats if repeats > 1 or not self.use_mpc else self.horizon
        execute = max(repeats, self.n_action_steps)
        return Windows(seen | targets, dict.fromkeys(reads, NOW), chunk=chunk, execute=execute)
