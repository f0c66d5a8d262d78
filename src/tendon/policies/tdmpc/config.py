"""TD-MPC: its keys, its windows and what stands between the dataset and its nets. No torch.

The names and the defaults are LeRobot's, whose TD-MPC is FOWM's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from tendon.config.schema import (
    Beta,
    Conflict,
    Count,
    CountOrNone,
    Normalization,
    NotNegative,
    PolicyConfig,
    Positive,
    Share,
)
from tendon.data.features import REWARD, Feature
from tendon.policies.processing.images import ToFloat
from tendon.policies.processing.normalize import Mode, Normalize
from tendon.policies.processing.transform import Transform
from tendon.policies.windows import ACTION, NOW, Span, Windows, in_order

ENVIRONMENT_STATE = "observation.environment_state"  # has an encoder of its own, as with LeRobot


@dataclass(frozen=True)
class TdmpcConfig(PolicyConfig):
    """A latent model of the task, values learnt from data, and actions planned with both."""

    model: ClassVar[str] = "tendon.policies.tdmpc.model:Tdmpc"
    decides: ClassVar[tuple[str, ...]] = ("use_mpc",)

    n_action_repeats: Count
    horizon: Count
    n_action_steps: Count
    image_encoder_hidden_dim: Count
    state_encoder_hidden_dim: Count
    latent_dim: Count
    q_ensemble_size: Count
    mlp_dim: Count
    discount: Share
    use_mpc: bool
    cem_iterations: Count
    max_std: Positive
    min_std: Positive
    n_gaussian_samples: Count
    n_pi_samples: CountOrNone
    uncertainty_regularizer_coeff: NotNegative
    n_elites: Count
    elite_weighting_temperature: Positive
    gaussian_mean_momentum: Share
    max_random_shift_ratio: Share
    reward_coeff: NotNegative
    expectile_weight: Share
    value_coeff: NotNegative
    consistency_coeff: NotNegative
    advantage_scaling: NotNegative
    pi_coeff: NotNegative
    temporal_decay_coeff: Share
    target_model_momentum: Beta
    state_normalization: Normalization
    environment_normalization: Normalization

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

    def processing(self, features: Mapping[str, Feature]) -> tuple[Transform, ...]:
        """Pictures as floats in [0, 1]; actions in [-1, 1], which planning and the policy's tanh need."""
        cameras = tuple(key for key, feature in features.items() if feature.kind == "image")
        modes: dict[str, Mode] = {key: self.state_normalization for key, f in features.items() if f.kind == "state"}
        if ENVIRONMENT_STATE in modes:
            modes[ENVIRONMENT_STATE] = self.environment_normalization
        modes |= dict.fromkeys((key for key in self.writes(features) if key == ACTION), "min_max")
        return (ToFloat(keys=cameras), Normalize(modes=modes, rules="lerobot"))
