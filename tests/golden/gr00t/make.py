"""Golden numbers of GR00T N1.5's action head: `python make.py FOLDER` writes head.npz.

FOLDER: site-packages of an environment with lerobot 0.4.4, whose flow_matching_action_head.py is run as it is on diffusers (what
it takes from the rest of lerobot is stood in for), float32, CPU, tiny sizes. Chance is given; dropout is off. Weights and inputs
are those of ``seeded``, so only results are kept.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import torch
from transformers.feature_extraction_utils import BatchFeature

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lerobot"))
from seeded import normal, uniform, weights  # noqa: E402

SIZES = {
    "max_num_embodiments": 5, "max_state_dim": 7, "max_action_dim": 6, "hidden_size": 20, "input_embedding_dim": 24,
    "diffusion_heads": 2, "diffusion_layers": 4, "max_seq_len": 16, "num_timestep_buckets": 1000, "text_width": 32,
    "num_target_vision_tokens": 3, "vl_heads": 4, "vl_layers": 2, "chunk_size": 8,
}  # fmt: skip
BATCH, LENGTH, STEPS = 3, 11, 4


def stand_in(root: Path) -> None:
    sys.path.insert(0, str(root))
    for name in ("lerobot", "lerobot.utils", "lerobot.policies", "lerobot.policies.groot"):
        made = types.ModuleType(name)
        made.__path__ = [str(root / name.replace(".", "/"))]
        sys.modules[name] = made
    made = types.ModuleType("lerobot.utils.import_utils")
    made._transformers_available = True
    sys.modules["lerobot.utils.import_utils"] = made


def make() -> torch.nn.Module:
    from lerobot.policies.groot.action_head.flow_matching_action_head import FlowmatchingActionHead

    s = SIZES
    dit = {
        "num_attention_heads": s["diffusion_heads"], "attention_head_dim": s["input_embedding_dim"] // s["diffusion_heads"],
        "num_layers": s["diffusion_layers"], "cross_attention_dim": s["text_width"], "dropout": 0.2, "final_dropout": True,
        "interleave_self_attention": True, "norm_type": "ada_norm", "output_dim": s["hidden_size"], "positional_embeddings": None,
    }  # fmt: skip
    adapter = {
        "num_attention_heads": s["vl_heads"], "attention_head_dim": s["text_width"] // s["vl_heads"], "num_layers": s["vl_layers"],
        "dropout": 0.2, "final_dropout": True, "positional_embeddings": None,
    }  # fmt: skip
    config = types.SimpleNamespace(
        hidden_size=s["hidden_size"], input_embedding_dim=s["input_embedding_dim"], diffusion_model_cfg=dit,
        action_dim=s["max_action_dim"], action_horizon=s["chunk_size"], num_inference_timesteps=STEPS,
        max_num_embodiments=s["max_num_embodiments"], max_state_dim=s["max_state_dim"], use_vlln=True,
        num_target_vision_tokens=s["num_target_vision_tokens"], backbone_embedding_dim=s["text_width"],
        vl_self_attention_cfg=adapter, add_pos_embed=True, max_seq_len=s["max_seq_len"], noise_beta_alpha=1.5,
        noise_beta_beta=1.0, noise_s=0.999, num_timestep_buckets=1000, tune_projector=True, tune_diffusion_model=True,
        expand_batch=None,
    )  # fmt: skip
    head = FlowmatchingActionHead(config)
    for name, tensor in head.state_dict().items():
        tensor.copy_(torch.from_numpy(weights(name, tuple(tensor.shape))))
    return head.eval()


def inputs() -> dict[str, torch.Tensor]:
    s, B = SIZES, BATCH
    made = {
        "features": normal("features", B, LENGTH, s["text_width"]),
        "state": normal("state", B, 1, s["max_state_dim"]),
        "actions": normal("actions", B, s["chunk_size"], s["max_action_dim"]),
        "mask": (uniform("mask", B, s["chunk_size"], s["max_action_dim"]) < 0.7).astype(np.float32),
        "noise": normal("noise", B, s["chunk_size"], s["max_action_dim"]),
        "time": uniform("time", B),
        "embodiment": np.array([4, 0, 2]),
    }
    return {key: torch.from_numpy(value) for key, value in made.items()}


def main() -> None:
    stand_in(Path(sys.argv[1]))
    head, given = make(), inputs()

    def features() -> BatchFeature:
        mask = torch.ones(BATCH, LENGTH, dtype=torch.bool)
        return BatchFeature(data={"backbone_features": given["features"].clone(), "backbone_attention_mask": mask})

    action = {"state": given["state"], "action": given["actions"], "action_mask": given["mask"]}
    action_input = BatchFeature(data={**action, "embodiment_id": given["embodiment"]})
    with torch.no_grad(), patch("torch.randn", lambda *size, **rest: given["noise"].clone()):
        head.sample_time = lambda *size, **rest: given["time"]
        loss = head(features(), action_input)["loss"]
        chunk = head.get_action(features(), action_input)["action_pred"]
    shapes = {name: list(tensor.shape) for name, tensor in head.state_dict().items()}
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "lerobot": "0.4.4"}
    meta = json.dumps({"versions": versions, "shapes": shapes, "sizes": SIZES})
    results: dict[str, Any] = {"loss": loss.numpy(), "actions": chunk.numpy()}
    np.savez(HERE / "head.npz", **results, meta=np.frombuffer(meta.encode(), np.uint8))
    print(float(loss), float(chunk.abs().mean()))


if __name__ == "__main__":
    main()
