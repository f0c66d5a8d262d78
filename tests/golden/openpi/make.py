"""Golden numbers of pi0 and pi0.5: `python make.py FOLDER` writes pi0.npz and pi05.npz.

FOLDER: the unpacked wheel of lerobot 0.6.1, whose modeling_pi0.py and modeling_pi05.py are run as they are, on transformers
5.23 and torch 2.13, float32, CPU. What they take from the rest of lerobot is stood in for, the sizes are tiny, and transformers'
create_causal_mask takes the argument that it has lost. Weights and inputs are those of ``seeded``, so only results are kept.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import transformers
from transformers import GemmaConfig, PaliGemmaConfig, SiglipVisionConfig, masking_utils

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lerobot"))
from seeded import gemma_weights, normal, uniform  # noqa: E402

SIZES = {
    "vision_width": 24, "vision_layers": 2, "vision_heads": 2, "vision_feedforward": 40, "image_size": 28, "patch_size": 14,
    "text_width": 32, "text_layers": 3, "text_heads": 8, "text_kv_heads": 1, "text_head_dim": 8, "text_feedforward": 48,
    "vocab_size": 60, "expert_width": 16, "expert_feedforward": 24, "max_state_dim": 10, "max_action_dim": 6, "chunk_size": 7,
}  # fmt: skip
BATCH, CAMERAS, LENGTH, STEPS = 3, 2, 9, 10
REAL_TOKENS = (9, 5, 1)


def stand_in(root: Path) -> None:
    """The modules around the two files."""
    sys.path.insert(0, str(root))

    def module(name: str, path: str = "", **values: Any) -> None:
        made = types.ModuleType(name)
        if path:
            made.__path__ = [str(root / path)]
        vars(made).update(values)
        sys.modules[name] = made

    class Parent(torch.nn.Module):
        pass

    module("lerobot", "lerobot")
    module("lerobot.utils", "lerobot/utils")
    module("lerobot.utils.import_utils", _transformers_available=True, require_package=None)
    module("lerobot.utils.device_utils", get_safe_dtype=lambda dtype, device: dtype)
    module("lerobot.configs", PreTrainedConfig=object)
    module("lerobot.policies", "lerobot/policies")
    module("lerobot.policies.pretrained", PreTrainedPolicy=Parent, T=TypeVar("T"))
    module("lerobot.policies.rtc", RTCProcessor=Parent)
    module("lerobot.policies.rtc.modeling_rtc", RTCProcessor=Parent)
    for name, config in (("pi0", "PI0Config"), ("pi05", "PI05Config")):
        module(f"lerobot.policies.{name}", f"lerobot/policies/{name}")
        values = {"DEFAULT_IMAGE_SIZE": 224, config: object}
        module(f"lerobot.policies.{name}.configuration_{name}", **values)
    plain = masking_utils.create_causal_mask
    masking_utils.create_causal_mask = lambda cache_position=None, **rest: plain(**rest)


def kept(config: Any, *names: str) -> None:
    """From now on some values of a configuration stay what they are, whoever sets them."""
    kind, plain = type(config), type(config).__setattr__

    def setter(self: Any, name: str, value: Any) -> None:
        if self is not config or name not in names:
            plain(self, name, value)

    kind.__setattr__ = setter


def paligemma() -> PaliGemmaConfig:
    s = SIZES
    vision = SiglipVisionConfig(
        hidden_size=s["vision_width"], num_hidden_layers=s["vision_layers"], num_attention_heads=s["vision_heads"],
        intermediate_size=s["vision_feedforward"], patch_size=s["patch_size"], image_size=s["image_size"],
        vision_use_head=False,
    )  # fmt: skip
    vision.projection_dim, vision.projector_hidden_act, vision.hidden_act = s["text_width"], "gelu_fast", "gelu_fast"
    text = GemmaConfig(vocab_size=s["vocab_size"], pad_token_id=0)
    config = PaliGemmaConfig(vision_config=vision, text_config=text, projection_dim=s["text_width"])
    kept(config.vision_config, "intermediate_size", "projection_dim")
    kept(config.text_config, "vocab_size")
    return config


def gemma(**values: Any) -> GemmaConfig:
    return GemmaConfig(**{**values, "vocab_size": SIZES["vocab_size"]})


def make(name: str) -> torch.nn.Module:
    import importlib

    code = importlib.import_module(f"lerobot.policies.{name}.modeling_{name}")
    code.CONFIG_MAPPING = {"paligemma": paligemma, "gemma": gemma}
    s = SIZES
    tiny = {
        "big": code.GemmaConfig(s["text_width"], s["text_layers"], s["text_feedforward"], 8, 1, s["text_head_dim"]),
        "small": code.GemmaConfig(
            s["expert_width"], s["text_layers"], s["expert_feedforward"], 8, 1, s["text_head_dim"]
        ),
    }
    code.get_gemma_config = tiny.get
    config = types.SimpleNamespace(
        paligemma_variant="big", action_expert_variant="small", image_resolution=(28, 28), dtype="float32",
        freeze_vision_encoder=False, train_expert_only=False, compile_model=False, max_action_dim=s["max_action_dim"],
        max_state_dim=s["max_state_dim"], chunk_size=s["chunk_size"], min_period=4e-3, max_period=4.0,
        num_inference_steps=STEPS, rtc_config=None,
    )  # fmt: skip
    model = getattr(code, {"pi0": "PI0Pytorch", "pi05": "PI05Pytorch"}[name])(config)
    shapes = {}
    for key, tensor in model.state_dict().items():
        if not key.endswith("position_ids"):
            shapes[key] = list(tensor.shape)
            tensor.copy_(torch.from_numpy(gemma_weights(key, tuple(tensor.shape))))
    model.shapes = shapes
    return model.eval()


def inputs() -> dict[str, torch.Tensor]:
    s, B = SIZES, BATCH
    tokens = (uniform("tokens", B, LENGTH) * s["vocab_size"]).astype(np.int64)
    real = np.arange(LENGTH)[None] < np.array(REAL_TOKENS)[:, None]
    made = {
        "images": np.stack([normal(f"image{i}", B, 3, s["image_size"], s["image_size"]) for i in range(CAMERAS)]),
        "tokens": tokens,
        "real": real,
        "state": normal("state", B, s["max_state_dim"]),
        "actions": normal("actions", B, s["chunk_size"], s["max_action_dim"]),
        "noise": normal("noise", B, s["chunk_size"], s["max_action_dim"]),
        "time": uniform("time", B) * 0.999 + 0.001,
    }
    return {key: torch.from_numpy(value) for key, value in made.items()}


def main() -> None:
    stand_in(Path(sys.argv[1]))
    for name in ("pi0", "pi05"):
        model, given = make(name), inputs()
        images = [*given["images"], -torch.ones_like(given["images"][0])]  # the third camera is missing
        masks = [torch.full((BATCH,), index < CAMERAS) for index in range(CAMERAS + 1)]
        state = [given["state"]] if name == "pi0" else []
        common = (images, masks, given["tokens"], given["real"], *state)
        with torch.no_grad():
            losses = model(*common, given["actions"], given["noise"], given["time"])
            chunk = model.sample_actions(*common, noise=given["noise"], num_steps=STEPS)
        versions = {"torch": torch.__version__, "transformers": transformers.__version__, "lerobot": "0.6.1"}
        meta = json.dumps({"versions": versions, "shapes": model.shapes, "sizes": SIZES})
        np.savez(
            HERE / f"{name}.npz",
            losses=losses.numpy(),
            actions=chunk.numpy(),
            meta=np.frombuffer(meta.encode(), np.uint8),
        )
        print(name, float(losses.mean()), float(chunk.abs().mean()))


if __name__ == "__main__":
    main()
