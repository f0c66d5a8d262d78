"""Numbers of pi0, pi0.5 and GR00T N1.5's head are those of LeRobot's code (tests/golden/openpi/make.py, gr00t/make.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tendon.policies.gr00t.head import ActionHead, HeadInput, HeadSizes
from tendon.policies.parts.towers import LanguageSizes, VisionSizes
from tendon.policies.pi0.network import Pi0Network, Pi0Sizes
from tendon.policies.pi0.weights import openpi_name, our_name
from tendon.policies.vla.model import Seen
from tests.golden.lerobot import seeded

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def golden(name: str) -> tuple[Any, dict[str, Any]]:
    values = np.load(GOLDEN / name)
    return values, json.loads(bytes(values["meta"]))


def pi0_of(name: str) -> tuple[Pi0Network, Any]:
    values, meta = golden(f"openpi/{name}.npz")
    s = meta["sizes"]
    vision = VisionSizes(
        *(s[f"vision_{key}"] for key in ("width", "layers", "heads", "feedforward")), s["image_size"], s["patch_size"]
    )
    text = ("width", "layers", "heads", "kv_heads", "head_dim", "feedforward")
    language = LanguageSizes(*(s[f"text_{key}"] for key in text), s["vocab_size"])
    expert = LanguageSizes(
        s["expert_width"], s["text_layers"], s["text_heads"], 1, s["text_head_dim"], s["expert_feedforward"], 1
    )
    sizes = Pi0Sizes(vision, language, expert, s["max_state_dim"], s["max_action_dim"], 4e-3, 4.0, name == "pi05")
    net = Pi0Network(sizes).eval()
    published = {our_name(theirs): (theirs, tuple(shape)) for theirs, shape in meta["shapes"].items()}
    published.pop("")
    held = net.state_dict()
    assert set(held) == set(published)
    for ours, tensor in held.items():
        theirs, shape = published[ours]
        assert shape == tuple(tensor.shape), ours
        name_there = openpi_name(ours)
        assert name_there.replace("vision_model.", "") == theirs.replace("vision_model.", "") or "lm_head" in theirs
        tensor.copy_(
            torch.from_numpy(
                seeded.gemma_weights(name_there.replace("vision_tower.vision_model.", "vision_tower."), shape)
            )
        )
    return net, values


def pi0_inputs(sizes: Pi0Sizes, chunk: int) -> tuple[Seen, dict[str, Tensor]]:
    B, length, vocab = 3, 9, sizes.language.vocab_size
    tokens = (seeded.uniform("tokens", B, length) * vocab).astype(np.int64)
    real = np.arange(length)[None] < np.array([9, 5, 1])[:, None]
    side = sizes.vision.image_size
    images = tuple(torch.from_numpy(seeded.normal(f"image{i}", B, 3, side, side)) for i in range(2))
    state = torch.from_numpy(seeded.normal("state", B, sizes.state_dim))
    seen = Seen(images, torch.from_numpy(tokens), torch.from_numpy(real), state)
    numbers = {key: torch.from_numpy(seeded.normal(key, B, chunk, sizes.action_dim)) for key in ("actions", "noise")}
    return seen, numbers | {"time": torch.from_numpy(seeded.uniform("time", B) * np.float32(0.999) + np.float32(0.001))}


@pytest.mark.parametrize("name", ["pi0", "pi05"])
@torch.no_grad()
def test_losses_and_ten_steps_of_pi0(name: str) -> None:
    pytest.importorskip("transformers", reason="pip install 'tendon-robotics[vla]'")
    net, expected = pi0_of(name)
    seen, given = pi0_inputs(net.sizes, expected["losses"].shape[1])
    losses = net.velocity_errors(seen, given["actions"], given["noise"], given["time"])
    torch.testing.assert_close(losses, torch.from_numpy(expected["losses"]), **TOLERANCE)
    actions = net.sample(seen, given["noise"], 10)
    torch.testing.assert_close(actions, torch.from_numpy(expected["actions"]), **TOLERANCE)


@torch.no_grad()
def test_loss_and_actions_of_gr00t_n1_5s_head() -> None:
    expected, meta = golden("gr00t/head.npz")
    s, B = meta["sizes"], 3
    sizes = HeadSizes(
        s["max_num_embodiments"], s["max_state_dim"], s["max_action_dim"], s["hidden_size"], s["input_embedding_dim"],
        s["text_width"], s["diffusion_heads"], s["diffusion_layers"], 0.2, s["max_seq_len"], s["num_timestep_buckets"],
        s["num_target_vision_tokens"], s["vl_heads"], s["vl_layers"],
    )  # fmt: skip
    head = ActionHead(sizes).eval()
    held = head.state_dict()
    assert {name: list(tensor.shape) for name, tensor in held.items()} == meta["shapes"]
    for name, tensor in held.items():
        tensor.copy_(torch.from_numpy(seeded.weights(name, tuple(tensor.shape))))
    features = torch.from_numpy(seeded.normal("features", B, 11, s["text_width"]))
    state = torch.from_numpy(seeded.normal("state", B, 1, s["max_state_dim"]))[:, 0]
    actions, noise = (
        torch.from_numpy(seeded.normal(key, B, s["chunk_size"], s["max_action_dim"])) for key in ("actions", "noise")
    )
    mask = torch.from_numpy(seeded.uniform("mask", *actions.shape) < 0.7)
    given = HeadInput(head.adapted(features, None), None, state, torch.tensor([4, 0, 2]))
    errors = head.velocity_errors(given, actions, noise, torch.from_numpy(seeded.uniform("time", B)))
    torch.testing.assert_close((errors * mask).sum() / mask.sum(), torch.from_numpy(expected["loss"]), **TOLERANCE)
    torch.testing.assert_close(head.sample(given, noise, 4), torch.from_numpy(expected["actions"]), **TOLERANCE)
