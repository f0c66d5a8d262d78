"""Writes this folder's files by running LeRobot 0.4.4 itself, in an environment of its own: `python make.py`.

Weights are seeded by name (``fill``) and not stored, but for two tiny checkpoint folders that LeRobot saves. Each .npz has
the configuration, the inputs, the constants among the weights, and what LeRobot makes of them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
STATE, ENVIRONMENT, ACTION = "observation.state", "observation.environment_state", "action"
CONSTANTS = ("pos_grid", "vae_encoder_pos_enc")
B, STEPS, SEEN_STEPS = 3, 12, 6  # the last one with cameras
TINY_ACT: dict[str, Any] = {
    "chunk_size": 6, "n_action_steps": 4, "dim_model": 16, "n_heads": 2, "dim_feedforward": 24, "n_encoder_layers": 2,
    "n_decoder_layers": 1, "n_vae_encoder_layers": 2, "latent_dim": 4, "dropout": 0.0, "pretrained_backbone_weights": None,
}  # fmt: skip
TINY_UNET: dict[str, Any] = {
    "down_dims": [16, 24], "diffusion_step_embed_dim": 8, "kernel_size": 3, "n_groups": 4, "horizon": 8,
    "n_action_steps": 4, "n_obs_steps": 2, "noise_scheduler_type": "DDIM", "num_inference_steps": 5,
    "spatial_softmax_num_keypoints": 4,
}  # fmt: skip
NUMBERS = {STATE: (3,), ENVIRONMENT: (4,)}
CAMERA = {STATE: (3,), "observation.images.top": (3, 40, 44)}
CAMERAS = {**CAMERA, "observation.images.wrist": (3, 40, 44)}
LONG = {"noise_scheduler_type": "DDPM", "num_inference_steps": None, "num_train_timesteps": 20}
CASES: dict[str, tuple[str, dict[str, tuple[int, ...]], dict[str, Any]]] = {
    "act_numbers": ("act", NUMBERS, {}),
    "act_no_vae": ("act", NUMBERS, {"use_vae": False, "n_decoder_layers": 2}),
    "act_pre_norm": ("act", NUMBERS, {"pre_norm": True, "feedforward_activation": "gelu"}),
    "act_ensemble": ("act", NUMBERS, {"temporal_ensemble_coeff": 0.01, "n_action_steps": 1}),
    "act_cameras": ("act", CAMERAS, {}),
    "act_camera_no_vae": ("act", {**CAMERA, ENVIRONMENT: (4,)}, {"use_vae": False}),
    "diffusion_ddim": ("diffusion", NUMBERS, {}),
    "diffusion_ddpm": ("diffusion", NUMBERS, LONG),
    "diffusion_ddpm_strides": ("diffusion", NUMBERS, {**LONG, "num_inference_steps": 6}),
    "diffusion_default_ddpm": ("diffusion", NUMBERS, {"noise_scheduler_type": "DDPM", "num_inference_steps": None}),
    "diffusion_sample": ("diffusion", NUMBERS, {"prediction_type": "sample", "do_mask_loss_for_padding": True}),
    "diffusion_sample_ddpm": ("diffusion", NUMBERS, {**LONG, "prediction_type": "sample", "clip_sample": False}),
    "diffusion_linear": ("diffusion", NUMBERS, {"beta_schedule": "linear", "clip_sample_range": 2.0}),
    "diffusion_scaled": ("diffusion", NUMBERS, {"beta_schedule": "scaled_linear", "use_film_scale_modulation": False}),
    "diffusion_three_levels": (
        "diffusion",
        NUMBERS,
        {"down_dims": [16, 24, 32], "n_obs_steps": 3, "n_action_steps": 5},
    ),
    "diffusion_camera": ("diffusion", CAMERA, {"crop_shape": [36, 40]}),
    "diffusion_cameras": ("diffusion", {**CAMERAS, ENVIRONMENT: (4,)}, {}),
    "diffusion_encoders": ("diffusion", CAMERAS, {"use_separate_rgb_encoder_per_camera": True}),
    "diffusion_batch_norm": ("diffusion", CAMERA, {"use_group_norm": False, "resize_shape": [48, 56]}),
    "diffusion_crop_ratio": ("diffusion", CAMERA, {"resize_shape": [48, 56], "crop_ratio": 0.75}),
}
FOLDERS = {"act_folder": "act_numbers", "diffusion_folder": "diffusion_ddim"}


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Weights that follow from a name; test_lerobot_golden.py has the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        return torch.from_numpy(np.abs(values) * 0.5 + 0.5)
    if len(shape) < 2:
        return torch.from_numpy(np.asarray(values * np.float32(0.3) + np.float32(name.endswith("weight"))))
    return torch.from_numpy(values / np.float32(np.sqrt(np.prod(shape[1:]))))


def make_case(name: str) -> None:
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
    from lerobot.policies.factory import make_policy_config, make_pre_post_processors

    kind, shapes, options = CASES[name]
    types = {STATE: FeatureType.STATE, ENVIRONMENT: FeatureType.ENV}
    config = make_policy_config(
        kind, **{**(TINY_ACT if kind == "act" else TINY_UNET), **options}, device="cpu", push_to_hub=False
    )
    config.input_features = {k: PolicyFeature(types.get(k, FeatureType.VISUAL), s) for k, s in shapes.items()}
    config.output_features = {ACTION: PolicyFeature(FeatureType.ACTION, (2,))}
    mode = config.normalization_mapping["STATE"]
    config.normalization_mapping["ENV"] = mode
    torch.manual_seed(0)
    policy = (ACTPolicy if kind == "act" else DiffusionPolicy)(config)
    state = policy.state_dict()
    constants = {key: value for key, value in state.items() if key.endswith(CONSTANTS)}
    for key, value in state.items():
        if key not in constants and value.is_floating_point():
            state[key] = fill(key, tuple(value.shape))
    policy.load_state_dict(state)

    rng = np.random.default_rng(zlib.crc32(name.encode()))
    stats: dict[str, dict[str, np.ndarray]] = {}
    for key, shape in {**shapes, ACTION: (2,)}.items():
        size = (3, 1, 1) if len(shape) == 3 else shape
        low = rng.uniform(-2, -1, size)
        found = {"mean": rng.normal(size=size) * 0.3, "std": rng.uniform(0.3, 1.2, size), "min": low}
        stats[key] = {k: v.astype(np.float32) for k, v in {**found, "max": low + rng.uniform(1, 4, size)}.items()}
    pre, post = make_pre_post_processors(
        config, dataset_stats={k: {n: torch.from_numpy(v) for n, v in s.items()} for k, s in stats.items()}
    )

    sees = any(len(shape) == 3 for shape in shapes.values())
    num_steps = SEEN_STEPS if sees else STEPS
    times = 1 if kind == "act" else config.n_obs_steps
    horizon = config.chunk_size if kind == "act" else config.horizon
    batch: dict[str, np.ndarray] = {}
    episode: dict[str, np.ndarray] = {}
    for key, shape in shapes.items():
        for target, lead in ((batch, (B, times)), (episode, (num_steps, B))):
            if len(shape) == 3:
                target[key] = rng.integers(0, 256, (*lead, *shape[1:], shape[0]), dtype=np.uint8)
            else:
                target[key] = rng.normal(size=(*lead, *shape)).astype(np.float32)
    batch[ACTION] = rng.normal(size=(B, horizon, 2)).astype(np.float32)
    batch["action_is_pad"] = np.zeros((B, horizon), bool)
    batch["action_is_pad"][1, -2:] = True

    def tensors(values: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        made = {}
        for key, value in values.items():
            tensor = torch.from_numpy(value)
            made[key] = tensor.movedim(-1, -3).float() / 255 if value.dtype == np.uint8 else tensor
        return made

    given = tensors(batch)
    if kind == "act":
        given = {key: value[:, 0] if key in shapes else value for key, value in given.items()}
    seen = pre(dict(given))
    results: dict[str, np.ndarray] = {}
    policy.train(kind == "act" or not sees)
    torch.manual_seed(5)
    loss, metrics = policy.forward({k: v for k, v in seen.items() if isinstance(v, torch.Tensor)})
    results["loss"] = np.float32(loss.item())
    for key, value in (metrics or {}).items():
        results[f"metric/{key}"] = np.float32(value)
    loss.backward()
    grads = [p.grad for p in policy.parameters() if p.grad is not None]
    results["grad_norm"] = np.float32(torch.nn.utils.get_total_norm(grads).item())

    policy.eval()
    policy.reset()
    actions = []
    with torch.no_grad():
        for step in range(num_steps):
            torch.manual_seed(100 + step)
            observed = pre(tensors({key: value[step] for key, value in episode.items()}))
            action = policy.select_action({k: v for k, v in observed.items() if k in shapes})
            actions.append(post(action).numpy())
    results["actions"] = np.stack(actions)

    text = {
        "lerobot": "0.4.4", "torch": torch.__version__, "policy": kind, "names": list(state),
        "sizes": [list(v.shape) for v in state.values()],
    }  # fmt: skip
    folder = HERE / "scratch"
    policy.save_pretrained(folder)
    pre.save_pretrained(folder)
    post.save_pretrained(folder)
    text["config"] = json.loads((folder / "config.json").read_text())
    for kept, case in FOLDERS.items():
        if case == name:
            shutil.rmtree(HERE / kept, ignore_errors=True)
            shutil.copytree(folder, HERE / kept)
    shutil.rmtree(folder)
    arrays = {f"in/{key}": value for key, value in batch.items()}
    arrays |= {f"episode/{key}": value for key, value in episode.items()}
    arrays |= {f"constant/{key}": value.numpy() for key, value in constants.items()}
    arrays |= {f"stat/{key}/{stat}": v for key, values in stats.items() for stat, v in values.items()}
    meta = np.frombuffer(json.dumps(text).encode(), np.uint8)
    np.savez_compressed(HERE / f"{name}.npz", meta=meta, **arrays, **{f"out/{k}": v for k, v in results.items()})
    print(name, loss.item(), results["grad_norm"], results["actions"].std())


def schedules() -> None:
    """The tables and chains of diffusers' schedulers that LeRobot uses, on a network that is a formula."""
    from lerobot.policies.diffusion.modeling_diffusion import _make_noise_scheduler

    arrays: dict[str, np.ndarray] = {}
    for kind in ("DDPM", "DDIM"):
        for beta in ("squaredcos_cap_v2", "linear", "scaled_linear"):
            for prediction in ("epsilon", "sample"):
                for steps in (100, 10, 7):
                    scheduler = _make_noise_scheduler(
                        kind, num_train_timesteps=100, beta_start=1e-4, beta_end=0.02, beta_schedule=beta,
                        clip_sample=True, clip_sample_range=1.0, prediction_type=prediction,
                    )  # fmt: skip
                    scheduler.set_timesteps(steps)
                    torch.manual_seed(steps)
                    sample = torch.randn(2, 4, 3)
                    for t in scheduler.timesteps:
                        sample = scheduler.step(torch.tanh(sample * 0.7 + t * 0.01), t, sample).prev_sample
                    arrays[f"{kind}/{beta}/{prediction}/{steps}"] = sample.numpy()
                    arrays[f"kept/{beta}"] = scheduler.alphas_cumprod.numpy()
    np.savez_compressed(HERE / "schedules.npz", **arrays)


if __name__ == "__main__":
    torch.set_num_threads(2)
    for case in sys.argv[1:] or CASES:
        make_case(case)
    schedules()
