"""Tiny policies of the LeRobot family for the small trial, with everything on that draws at random."""

from __future__ import annotations

from typing import Any

from tendon.policies.act.config import ActConfig
from tendon.policies.diffusion.config import DiffusionConfig

ACT = ActConfig(
    "act",
    chunk_size=4,
    n_action_steps=2,
    dim_model=8,
    n_heads=2,
    dim_feedforward=8,
    n_encoder_layers=1,
    n_vae_encoder_layers=1,
    latent_dim=2,
)
DIFFUSION = DiffusionConfig(
    "diffusion",
    horizon=4,
    n_action_steps=2,
    down_dims=(8, 16),
    kernel_size=3,
    n_groups=4,
    diffusion_step_embed_dim=8,
    num_train_timesteps=10,
)
OPTIONS: dict[str, dict[str, Any]] = {
    "act": {"policy": ACT, "optimizer": "adamw", "weight_decay": 1e-4, "grad_clip_norm": 10.0},
    "diffusion": {"policy": DIFFUSION, "grad_clip_norm": 10.0, "ema": {"enable": True, "every_n_steps": 2}},
}
