"""dp_clip and act_clip against compositions of transformers', diffusers' and torch's parts (golden/language/make.py)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tendon.config.compose import compose
from tendon.data.features import Feature
from tendon.policies.base import Policy
from tendon.policies.registry import make_policy
from tendon.weights.build import build_policy
from tendon.weights.spec import content_sha256
from tests.golden.language.make import fill
from tests.policies.features_of import features_of

GOLDEN = Path(__file__).parents[1] / "golden" / "language"
SIZES = json.loads((GOLDEN / "sizes.json").read_text())
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
TOP, STATE, WORLD = "observation.images.top", "observation.state", "observation.environment_state"
TASK = Feature("task", "text", (), "int64")
STILL = [f"policy.{key}=0" for key in ("text_dropout", "brightness", "contrast", "saturation", "hue")]
STILL += ["policy.resize_shape=[]", "policy.crop_scale=1.0", "policy.text_length=24", "policy.text_tokenizer=bytes"]
PLAIN = [f"policy.{kind}_normalization=identity" for kind in ("state", "environment", "action")]
DP, ACT = SIZES["dp"], SIZES["act"]
KEYS = {
    "dp": [
        "policy=dp_clip", f"policy.down_dims={DP['down_dims']}".replace(" ", ""), f"policy.n_groups={DP['groups']}",
        f"policy.kernel_size={DP['kernel']}", f"policy.diffusion_step_embed_dim={DP['embed']}",
        f"policy.horizon={DP['horizon']}", f"policy.spatial_softmax_num_keypoints={DP['keypoints']}",
        f"policy.text_dim={DP['text_dim']}", f"policy.num_train_timesteps={DP['steps']}",
        "policy.noise_scheduler_type=DDIM", "policy.num_inference_steps=5",
    ],
    "act": [
        "policy=act_clip", f"policy.dim_model={ACT['width']}", f"policy.n_heads={ACT['heads']}",
        "policy.dim_feedforward=24", f"policy.n_encoder_layers={ACT['encoder']}", f"policy.chunk_size={ACT['chunk']}",
        f"policy.n_decoder_layers={ACT['decoder']}", f"policy.latent_dim={ACT['latent']}", "policy.dropout=0",
        f"policy.n_action_steps={ACT['chunk']}",
    ],
}  # fmt: skip
CASES = {
    "dp_clip": ("dp", "clip", ["policy.vision_backbone=resnet18"]),
    "dp_bert_deep": ("dp", "minilm", ["policy.vision_backbone=resnet50"]),
    "act_clip": ("act", "clip", []),
    "act_bert_post_norm": ("act", "minilm", ["policy.pre_norm=false"]),
}


def policy_of(case: str, *more: str) -> tuple[Policy, dict[str, np.ndarray]]:
    """Weights by name, and what the file holds."""
    family, _, options = CASES[case]
    golden = dict(np.load(GOLDEN / f"{case}.npz"))
    sizes: dict[str, Any] = {STATE: 5, **({} if family == "dp" else {WORLD: 4}), TOP: (40, 44, 3), "action": 3}
    config = compose([*KEYS[family], *STILL, *PLAIN, *options, *more, "data.uri=x"]).policy
    torch.manual_seed(0)
    policy = make_policy(config, {**features_of(sizes), "task": TASK}, {})
    refill(policy)
    policy.set_texts(SIZES["texts"])
    return policy.eval(), golden


def refill(policy: Policy) -> None:
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if not parameter.is_meta:
                parameter.copy_(fill(name, tuple(parameter.shape)))


def batch_of(golden: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    names = {STATE: "state", WORLD: "world", TOP: "images", "action": "actions", "action_is_pad": "padding"}
    batch = {key: torch.from_numpy(golden[name]) for key, name in names.items() if name in golden}
    return batch | {"task": torch.from_numpy(golden["which"])[:, None]}


@pytest.mark.parametrize("case", list(CASES))
def test_loss_and_actions_are_those_of_the_composition(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the golden's vectors of the texts, so that it needs no transformers."""
    kind = "clip" if CASES[case][1] == "clip" else "bert"
    width = SIZES[kind].get("projection_dim", SIZES[kind]["hidden_size"])
    policy, golden = policy_of(
        case, "policy.text_encoder=bytes", f"policy.text_sizes={{hidden_size: {width}, num_attention_heads: 1}}"
    )
    vectors = torch.from_numpy(golden["vectors"])
    monkeypatch.setattr(policy, "_table", lambda: vectors)
    check(policy, golden, monkeypatch)


@pytest.mark.parametrize("case", list(CASES))
def test_with_the_text_encoders_of_transformers(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="the extra vla is not installed")
    _, encoder, _ = CASES[case]
    sizes = SIZES["clip" if encoder == "clip" else "bert"]
    shown = ", ".join(f"{key}: {value}" for key, value in sizes.items())
    named = [f"policy.text_encoder={encoder}", f"policy.text_sizes={{{shown}}}"]
    file = save_encoder(tmp_path / "text.safetensors", encoder, sizes)
    where = [f"policy.text_weights={file}", f"policy.text_weights_sha256={content_sha256(file)}"]
    made, golden = policy_of(case, *named, *where)
    built = build_policy(made.config, made.features, {}, kept_uri=str(tmp_path / "kept"))
    built.load_state_dict(
        {name: value for name, value in made.state_dict().items() if not name.startswith("text_encoder.")}, strict=False
    )
    built.set_texts(SIZES["texts"])
    check(built.eval(), golden, monkeypatch)
    assert not any(name.startswith("text_encoder.net") for name in built.trainable_state_dict())
    learning = replace(made.config, tune_llm=True)  # type: ignore[type-var]
    tuned = build_policy(learning, made.features, {}, kept_uri=str(tmp_path / "kept"))
    assert any(name.startswith("text_encoder.net") for name in tuned.trainable_state_dict())


def save_encoder(path: Path, encoder: str, sizes: dict[str, Any]) -> Path:
    """A published file: the text side, and what else such a file holds."""
    from tendon.policies.parts.text_encoder import TextEncoder
    from tendon.policies.parts.text_sources import TEXT_ENCODERS

    net = TextEncoder(TEXT_ENCODERS[encoder], sizes, empty=False).net
    tensors = {key: fill(f"text_encoder.net.{key}", tuple(value.shape)) for key, value in net.state_dict().items()}
    others = ("vision_model.embeddings.class_embedding", "logit_scale", "text_model.embeddings.position_ids")
    if encoder == "minilm":
        others = ("pooler.dense.weight", "embeddings.position_ids")
    save_file({**tensors, **{name: torch.zeros(2) for name in others}}, path)
    return path


def check(policy: Any, golden: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(golden)
    if "noise" not in golden:
        loss = policy.loss(batch).loss
        chunk = policy.act({key: value for key, value in batch.items() if not key.startswith("action")})[0]["action"]
    else:
        noise, steps = torch.from_numpy(golden["noise"]), torch.from_numpy(golden["steps"])
        monkeypatch.setattr(torch, "randn", lambda *shape, **options: noise)
        monkeypatch.setattr(torch, "randint", lambda *shape, **options: steps)
        loss = policy.loss(batch).loss
        seen = policy.processing(batch, "acting")
        with torch.no_grad():
            chunk = policy.sample(seen, torch.from_numpy(golden["start"])[:, None])
    torch.testing.assert_close(loss.detach(), torch.from_numpy(golden["loss"]), **TOLERANCE)
    torch.testing.assert_close(chunk, torch.from_numpy(golden["chunk"]), **TOLERANCE)
