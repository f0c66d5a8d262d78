"""The same policy as LeRobot has it: names of tensors and keys of the configuration, both ways.

Called by the weight format. The statistics of the normalisation are not here: LeRobot has them in its processors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tendon.data.features import Feature
from tendon.policies.tdmpc.config import TdmpcConfig
from tendon.policies.tdmpc.model import Tdmpc

MODELS = {"online.": "model.", "target.": "model_target."}
PARTS = {
    "encode.image.": "_encoder.image_enc_layers.",
    "encode.environment.": "_encoder.env_state_enc_layers.",
    "encode.state.": "_encoder.state_enc_layers.",
    "dynamics.": "_dynamics.",
    "reward.": "_reward.",
    "policy.": "_pi.",
    "critics.": "_Qs.",
    "value.": "_V.",
}
SAME = (
    *("n_action_repeats", "horizon", "n_action_steps", "image_encoder_hidden_dim", "state_encoder_hidden_dim"),
    *("latent_dim", "q_ensemble_size", "mlp_dim", "discount", "use_mpc", "cem_iterations", "max_std", "min_std"),
    *("n_gaussian_samples", "n_pi_samples", "uncertainty_regularizer_coeff", "n_elites"),
    *("elite_weighting_temperature", "gaussian_mean_momentum", "max_random_shift_ratio", "reward_coeff"),
    *("expectile_weight", "value_coeff", "consistency_coeff", "advantage_scaling", "pi_coeff"),
    *("temporal_decay_coeff", "target_model_momentum"),
)


def names(config: TdmpcConfig, features: Mapping[str, Feature]) -> dict[str, str]:
    """Of every tensor but those of the processing: our name to theirs, one to one."""
    with torch.device("meta"):
        state = Tdmpc(config, features, None).state_dict()
    return {name: _theirs(name) for name in state if not name.startswith("processing.")}


def to_lerobot(config: TdmpcConfig) -> dict[str, Any]:
    """The fields of their config.json that this policy decides."""
    return {name: getattr(config, name) for name in SAME} | {
        "type": "tdmpc",
        "n_obs_steps": 1,
        "normalization_mapping": {
            "VISUAL": "IDENTITY",
            "STATE": config.state_normalization.upper(),
            "ENV": config.environment_normalization.upper(),
            "ACTION": "MIN_MAX",
        },
    }


def from_lerobot(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Our keys of the policy from their config.json."""
    mapping = {kind: str(mode).lower() for kind, mode in fields["normalization_mapping"].items()}
    return {name: fields[name] for name in SAME} | {
        "name": "tdmpc",
        "state_normalization": mapping["STATE"],
        "environment_normalization": mapping.get("ENV", "identity"),
    }


def _theirs(name: str) -> str:
    model = next(one for one in MODELS if name.startswith(one))
    part = next(one for one in PARTS if name.startswith(model + one))
    return MODELS[model] + PARTS[part] + name.removeprefix(model + part)
