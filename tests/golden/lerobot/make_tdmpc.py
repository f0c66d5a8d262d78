"""Golden numbers of LeRobot's TD-MPC: `python make_tdmpc.py` in an environment with lerobot 0.4.4 writes tdmpc.npz.

Chance is given: what numpy and torch draw comes from lists of numbers that ``seeded`` makes.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.tdmpc.configuration_tdmpc import TDMPCConfig
from lerobot.policies.tdmpc.modeling_tdmpc import TDMPCPolicy
from seeded import normal, picture, uniform, weights

STATE, ENV, ACTION, SIDE = 3, 4, 2, 40
SMALL = {
    "horizon": 3,
    "image_encoder_hidden_dim": 4,
    "state_encoder_hidden_dim": 10,
    "latent_dim": 8,
    "q_ensemble_size": 5,
    "mlp_dim": 16,
    "cem_iterations": 3,
    "n_gaussian_samples": 24,
    "n_pi_samples": 6,
    "n_elites": 7,
    "max_random_shift_ratio": 0.05,
}
VARIANTS = {
    "image": {},
    "keypoints": {"n_action_repeats": 1, "n_action_steps": 2, "discount": 0.98},
    "few": {"q_ensemble_size": 2, "n_pi_samples": 0, "uncertainty_regularizer_coeff": 0.0},
    "policy": {"use_mpc": False},
}
BATCH, STEPS, EPISODES, PLANS = 5, 4, 3, 3


def make(variant: str) -> TDMPCPolicy:
    """Keypoints: two vectors; the others: a picture and a state."""
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (STATE,))}
    if variant == "keypoints":
        inputs["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (ENV,))
    else:
        inputs["observation.image"] = PolicyFeature(FeatureType.VISUAL, (3, SIDE, SIDE))
    modes = dict.fromkeys(("VISUAL", "STATE", "ENV"), NormalizationMode.IDENTITY)
    config = TDMPCConfig(
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (ACTION,))},
        device="cpu",
        push_to_hub=False,
        normalization_mapping={**modes, "ACTION": NormalizationMode.MIN_MAX},
        **{**SMALL, **VARIANTS[variant]},
    )
    policy = TDMPCPolicy(config)
    for name, tensor in policy.state_dict().items():
        tensor.copy_(torch.from_numpy(weights(name, tuple(tensor.shape))))
    return policy


def observation(variant: str, name: str, *axes: int) -> dict[str, torch.Tensor]:
    made = {"observation.state": torch.from_numpy(normal(f"{name} state", *axes, STATE))}
    if variant == "keypoints":
        made["observation.environment_state"] = torch.from_numpy(normal(f"{name} env", *axes, ENV))
    else:
        pictures = torch.from_numpy(picture(f"{name} image", *axes, SIDE, SIDE, 3))
        made["observation.image"] = pictures.movedim(-1, -3).float() / 255
    return made


def batch(variant: str, name: str) -> dict[str, torch.Tensor]:
    """The last two windows reach over the end of their episodes."""
    H = SMALL["horizon"]
    made = observation(variant, name, BATCH, H + 1)
    made["action"] = torch.from_numpy(uniform(f"{name} action", BATCH, H, ACTION) * 2 - 1)
    made["next.reward"] = torch.from_numpy(normal(f"{name} reward", BATCH, H))
    made["index"] = torch.arange(BATCH)
    for key in (*[key for key in made if key.startswith("observation")], "action", "next.reward"):
        steps = made[key].shape[1]
        pad = torch.zeros(BATCH, steps, dtype=torch.bool)
        pad[-1, 1:], pad[-2, 2:] = True, True
        made[f"{key}_is_pad"] = pad
    return made


class Queue:
    """Hands out arrays in their order, whatever is asked for."""

    def __init__(self, *arrays: np.ndarray) -> None:
        self.arrays = list(arrays)

    def __call__(self, *_: object, **__: object) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.arrays.pop(0)))


def loss_chance(name: str, num_critics: int) -> list[object]:
    pairs = (uniform(f"{name} critics", 4) * np.float32(num_critics)).astype(np.int64)
    shifts = uniform(f"{name} shifts", BATCH, SMALL["horizon"] + 1, 2)
    pad = round(SMALL["max_random_shift_ratio"] * SIDE)
    pixels = (shifts * np.float32(2 * pad + 1)).astype(np.int64).transpose(1, 0, 2)[..., ::-1]  # [T, B, (x, y)]
    moved = pixels.reshape(-1, 1, 1, 2).astype(np.float32)
    choices = [pairs[:2], pairs[2:]]
    return [
        patch.object(np.random, "choice", lambda *_, **__: choices.pop(0)),
        patch.object(torch, "randint", Queue(moved)),
    ]


def plan_chance(config: TDMPCConfig, name: str) -> list[object]:
    """As tendon.policies.tdmpc.planner.PlanNoise lays the numbers of one episode's plan out."""
    H, P, N, num = config.horizon, config.n_pi_samples, config.n_gaussian_samples, config.cem_iterations
    sizes = [H * P * ACTION, num * H * N * ACTION, num * (N + P) * ACTION]
    policy, samples, last = np.split(normal(f"{name} normal", sum(sizes)), np.cumsum(sizes)[:2])
    drawn = uniform(f"{name} uniform", 2 * num + 1)
    critics = (drawn[:-1] * np.float32(config.q_ensemble_size)).astype(np.int64).reshape(num, 2)

    def multinomial(scores: torch.Tensor, _: int) -> torch.Tensor:
        return (scores.cumsum(-1) <= float(drawn[-1])).sum(-1, keepdim=True).clamp(max=scores.shape[-1] - 1)

    likes = [*policy.reshape(H, P, 1, ACTION)] if P else []
    return [
        patch.object(torch, "randn_like", Queue(*likes, *last.reshape(num, N + P, 1, ACTION))),
        patch.object(torch, "randn", Queue(*samples.reshape(num, H, N, 1, ACTION))),
        patch.object(torch, "randint", Queue(*critics)),
        patch.object(torch, "multinomial", multinomial),
    ]


class Patched:
    def __init__(self, patches: list[object]) -> None:
        self.patches = patches

    def __enter__(self) -> None:
        for one in self.patches:
            one.start()

    def __exit__(self, *_: object) -> None:
        for one in self.patches:
            one.stop()


def training(variant: str) -> dict[str, np.ndarray]:
    """Updates with LeRobot's optimiser, clipping and moving target."""
    policy = make(variant)
    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    rows: dict[str, list[float]] = {}
    for step in range(STEPS):
        name = f"{variant} {step}"
        policy.train()
        with Patched(loss_chance(name, policy.config.q_ensemble_size)):
            loss, terms = policy.forward(batch(variant, name))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 10.0, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
        row = {"loss": loss.item(), "grad_norm": norm.item(), **{k: v for k, v in terms.items() if k != "advantage"}}
        for key, value in row.items():
            rows.setdefault(key, []).append(float(value))
    made = {f"{variant}/training/{key}": np.array(values) for key, values in rows.items()}
    kept = ("_V.0.weight", "_pi.6.weight", "_Qs.0.5.weight", "state_enc_layers.0.weight", "_dynamics.0.bias")
    for name, tensor in policy.state_dict().items():
        if name.endswith(kept):
            made[f"{variant}/weights/{name}"] = tensor.numpy()
    return made


def acting(variant: str) -> dict[str, np.ndarray]:
    """Actions of a few episodes, each alone, over several plans that start from the one before."""
    policy = make(variant).eval()
    executed = max(policy.config.n_action_repeats, policy.config.n_action_steps)
    episodes = []
    for episode in range(EPISODES):
        policy.reset()
        actions = []
        for number in range(PLANS):
            name = f"{variant} episode {episode} plan {number}"
            seen = observation(variant, name, 1)
            with Patched(plan_chance(policy.config, name)):
                actions += [policy.select_action(dict(seen))[0] for _ in range(executed)]
        episodes.append(torch.stack(actions))
    return {f"{variant}/actions": torch.stack(episodes).numpy()}


def main() -> None:
    torch.set_num_threads(1)
    content: dict[str, np.ndarray] = {}
    shapes = {}
    for variant in VARIANTS:
        content |= training(variant) | acting(variant)
        shapes[variant] = {name: list(tensor.shape) for name, tensor in make(variant).state_dict().items()}
    meta = {"lerobot": version("lerobot"), "torch": torch.__version__, "small": SMALL, "shapes": shapes}
    content["meta"] = np.frombuffer(json.dumps(meta | {"variants": VARIANTS}).encode(), np.uint8)
    np.savez_compressed(Path(__file__).with_name("tdmpc.npz"), **content)


if __name__ == "__main__":
    main()
