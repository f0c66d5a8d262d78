"""Golden numbers of LeRobot's VQ-BeT: `python make_vqbet.py` in an environment with lerobot 0.4.4 writes vqbet.npz.

Chance is given: torch.multinomial is the inverse of the distribution at numbers of ``seeded``, a crop is where they say.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torchvision
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig
from lerobot.policies.vqbet.modeling_vqbet import VQBeTPolicy
from seeded import UNTOUCHED, normal, picture, uniform, weights

STATE, ACTION, HEIGHT, WIDTH, CROP = 3, 2, 44, 47, (36, 38)
SMALL = {
    "n_obs_steps": 3,
    "n_action_pred_token": 2,
    "action_chunk_size": 4,
    "crop_shape": CROP,
    "spatial_softmax_num_keypoints": 4,
    "n_vqvae_training_steps": 3,
    "vqvae_n_embed": 6,
    "vqvae_embedding_dim": 5,
    "vqvae_enc_hidden_dim": 12,
    "gpt_block_size": 20,
    "gpt_input_dim": 16,
    "gpt_output_dim": 14,
    "gpt_n_layer": 2,
    "gpt_n_head": 2,
    "gpt_hidden_dim": 12,
    "dropout": 0.0,
    "scheduler_warmup_steps": 2,
}
VARIANTS = {
    "plain": {},
    "sequential": {"sequentially_select": True},
    "batch_norm": {"use_group_norm": False},
    "resnet34": {"vision_backbone": "resnet34", "crop_shape": None},
}
BATCH, STEPS, ALL_STEPS = 5, 7, 40
QUERIES = SMALL["n_obs_steps"] + SMALL["n_action_pred_token"] - 1


def make(**changes: object) -> VQBeTPolicy:
    inputs = {
        "observation.image": PolicyFeature(FeatureType.VISUAL, (3, HEIGHT, WIDTH)),
        "observation.state": PolicyFeature(FeatureType.STATE, (STATE,)),
    }
    modes = dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY)
    config = VQBeTConfig(
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (ACTION,))},
        device="cpu",
        push_to_hub=False,
        normalization_mapping=modes,
        **{**SMALL, **changes},
    )
    policy = VQBeTPolicy(config)
    state = policy.state_dict()
    for name, tensor in state.items():
        if not name.endswith((*UNTOUCHED, "num_batches_tracked")):
            tensor.copy_(torch.from_numpy(weights(name, tuple(tensor.shape))))
    return policy


def batch(name: str) -> dict[str, torch.Tensor]:
    seen = SMALL["n_obs_steps"]
    pictures = torch.from_numpy(picture(f"{name} image", BATCH, seen, HEIGHT, WIDTH, 3))
    return {
        "observation.image": pictures.movedim(-1, -3).float() / 255,
        "observation.state": torch.from_numpy(normal(f"{name} state", BATCH, seen, STATE)),
        "action": torch.from_numpy(normal(f"{name} action", BATCH, QUERIES + SMALL["action_chunk_size"] - 1, ACTION)),
    }


class Chance:
    """What torch draws, from a list of numbers."""

    def __init__(self, name: str, sequential: bool) -> None:
        self.codes = uniform(f"{name} codes", BATCH * QUERIES, 2)
        self.place = uniform(f"{name} place", 2)
        self.parts = [self.codes[:, 0], self.codes[:, 1]] if sequential else [self.codes.reshape(-1)]

    def multinomial(self, probabilities: torch.Tensor, num_samples: int) -> torch.Tensor:
        drawn = torch.from_numpy(self.parts.pop(0)).unsqueeze(1)
        below = (probabilities.cumsum(-1) <= drawn).sum(-1, keepdim=True)
        return below.clamp(max=probabilities.shape[-1] - 1)

    def crop(self, image: torch.Tensor, size: tuple[int, int]) -> tuple[int, int, int, int]:
        height, width = size
        row, column = (int(self.place[i] * np.float32(s + 1)) for i, s in enumerate((HEIGHT - height, WIDTH - width)))
        return row, column, height, width

    def __enter__(self) -> None:
        self.patches = [
            patch.object(torch, "multinomial", self.multinomial),
            patch.object(torchvision.transforms.RandomCrop, "get_params", self.crop),
        ]
        for one in self.patches:
            one.start()

    def __exit__(self, *_: object) -> None:
        for one in self.patches:
            one.stop()


def single(variant: str, changes: dict[str, object]) -> dict[str, np.ndarray]:
    """Losses and a chunk in evaluation mode, with the codes known."""
    policy = make(**changes)
    policy.vqbet.action_head.vqvae_model.discretized.fill_(True)
    policy.vqbet.action_head.vqvae_model.vq_layer.freeze_codebook.fill_(True)
    policy.eval()
    inputs = batch(variant)
    sequential = bool(changes.get("sequentially_select"))
    with torch.no_grad(), Chance(variant, sequential):
        loss, terms = policy.forward(dict(inputs))
    with torch.no_grad(), Chance(variant, sequential):
        images = inputs["observation.image"].unsqueeze(2)
        acting = {"observation.images": images, "observation.state": inputs["observation.state"]}
        chunk = policy.vqbet(acting, rollout=True)
    made = {"loss": loss, "chunk": chunk} | {key: torch.tensor(value) for key, value in terms.items()}
    return {f"{variant}/{key}": value.numpy() for key, value in made.items()}


def training() -> dict[str, np.ndarray]:
    """Updates of both phases by LeRobot's optimiser, schedule and clipping."""
    policy = make()
    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    scheduler = policy.config.get_scheduler_preset().build(optimizer, ALL_STEPS)
    rows: dict[str, list[float]] = {}
    for step in range(STEPS):
        policy.train()
        name = f"step {step}"
        with Chance(name, False):
            loss, terms = policy.forward(batch(name))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 10.0, error_if_nonfinite=False)
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        row = {"loss": loss.item(), "grad_norm": norm.item(), "lr": rates[0], "vqvae_lr": rates[1], **terms}
        for key, value in row.items():
            rows.setdefault(key, []).append(float(value))
    made = {f"training/{key}": np.array(values) for key, values in rows.items()}
    for name, tensor in policy.state_dict().items():
        if "vqvae_model" in name or "map_to" in name or "h.0.attn.c_proj" in name or name.endswith("action_token"):
            made[f"weights/{name}"] = tensor.numpy()
    return made


def main() -> None:
    torch.set_num_threads(1)
    content: dict[str, np.ndarray] = {}
    shapes = {}
    for variant, changes in VARIANTS.items():
        content |= single(variant, changes)
        shapes[variant] = {name: list(tensor.shape) for name, tensor in make(**changes).state_dict().items()}
    content |= training()
    meta = {"lerobot": version("lerobot"), "torch": torch.__version__, "small": SMALL, "shapes": shapes}
    content["meta"] = np.frombuffer(json.dumps(meta | {"variants": VARIANTS}).encode(), np.uint8)
    np.savez_compressed(Path(__file__).with_name("vqbet.npz"), **content)


if __name__ == "__main__":
    main()
