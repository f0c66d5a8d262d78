"""Writes this folder's files: dp_clip and act_clip composed anew of transformers', diffusers' and torch's parts. `python make.py`

Nothing of tendon is imported. Texts go through transformers' CLIPTextModelWithProjection or BertModel, pictures through its
ResNetModel, the noise through diffusers' schedulers; the U-Net and the transformer around them are torch.nn.functional over a
dictionary of weights. Weights follow from their names (``fill``) and are not stored. Made with transformers 5.24.0,
diffusers 0.42.1, torch 2.13.0.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
TEXTS = ("open the faucet", "push")
CLIP = {
    "vocab_size": 300, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 24, "projection_dim": 12, "hidden_act": "quick_gelu", "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
BERT = {
    "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 32, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
}  # fmt: skip
LENGTH = 24
DP = {
    "down_dims": [8, 16],
    "groups": 4,
    "kernel": 3,
    "embed": 8,
    "horizon": 8,
    "keypoints": 4,
    "text_dim": 6,
    "steps": 20,
}
ACT = {"width": 16, "heads": 2, "encoder": 2, "decoder": 2, "chunk": 6, "latent": 4}
STATE, TOP, ENVIRONMENT, ACTION = 5, (40, 44, 3), 4, 3
B = 3


def fill(name: str, shape: tuple[int, ...]) -> Tensor:
    """Weights that follow from a name; tests/policies/test_language_golden.py has the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape).astype(np.float32)
    if len(shape) < 2:
        return torch.from_numpy(np.asarray(values * np.float32(0.3) + np.float32(name.endswith("weight"))))
    return torch.from_numpy(values / np.float32(np.sqrt(np.prod(shape[1:]))))


def byte_ids(text: str) -> tuple[list[int], list[bool]]:
    """1, each byte + 3, 2; padded with 0."""
    ids = [1, *(byte + 3 for byte in text.encode()), 2]
    return ids + [0] * (LENGTH - len(ids)), [True] * len(ids) + [False] * (LENGTH - len(ids))


def text_vectors(kind: str) -> Tensor:
    """``[2, W]``."""
    import transformers

    pairs = [byte_ids(text) for text in TEXTS]
    ids, real = torch.tensor([p[0] for p in pairs]), torch.tensor([p[1] for p in pairs])
    if kind == "clip":
        net: Any = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**CLIP))
    else:
        net = transformers.BertModel(transformers.BertConfig(**BERT), add_pooling_layer=False)
    net.eval().load_state_dict({k: fill(f"text_encoder.net.{k}", tuple(v.shape)) for k, v in net.state_dict().items()})
    with torch.no_grad():
        out = net(input_ids=ids, attention_mask=real.long())
    if kind == "clip":
        return out.text_embeds
    weights = real.float()[..., None]
    return F.normalize((out.last_hidden_state * weights).sum(1) / weights.sum(1), dim=-1)


class Weights:
    """Tensors by name, made when they are asked for; all that was asked for is remembered."""

    def __init__(self) -> None:
        self.made: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        return self.made.setdefault(name, fill(name, shape))

    def linear(self, name: str, x: Tensor, out: int) -> Tensor:
        return F.linear(x, self(f"{name}.weight", out, x.shape[-1]), self(f"{name}.bias", out))

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self(f"{name}.weight", x.shape[-1]), self(f"{name}.bias", x.shape[-1]))


def hf_resnet(prefix: str, kind: str, *, groups: bool) -> tuple[Any, int]:
    """transformers' ResNet with our names' weights; batch norms as constants, or group norms of 16 channels."""
    import transformers

    deep = kind == "resnet50"
    depths, sizes = ([3, 4, 6, 3], [256, 512, 1024, 2048]) if deep else ([2, 2, 2, 2], [64, 128, 256, 512])
    config = transformers.ResNetConfig(depths=depths, hidden_sizes=sizes, layer_type="bottleneck" if deep else "basic")
    net = transformers.ResNetModel(config).eval()

    def put(conv: Any, conv_name: str, norm_name: str) -> None:
        conv.convolution.weight.data = fill(f"{prefix}{conv_name}.weight", tuple(conv.convolution.weight.shape))
        width = conv.convolution.weight.shape[0]
        if groups:
            norm = torch.nn.GroupNorm(width // 16, width)
            norm.weight.data = fill(f"{prefix}{norm_name}.weight", (width,))
            norm.bias.data = fill(f"{prefix}{norm_name}.bias", (width,))
            conv.normalization = norm
        # frozen batch norms keep weight 1, bias 0, mean 0, variance 1, as transformers' begins

    put(net.embedder.embedder, "0", "1")
    for s, stage in enumerate(net.encoder.stages):
        for b, block in enumerate(stage.layers):
            at = f"{4 + s}.{b}"
            if hasattr(block.shortcut, "convolution"):
                put(block.shortcut, f"{at}.downsample.0", f"{at}.downsample.1")
            for index, layer in enumerate(block.layer, 1):
                put(layer, f"{at}.conv{index}", f"{at}.bn{index}")
    return net, sizes[-1]


def keypoints(w: Weights, images: Tensor, kind: str) -> Tensor:
    """ResNet, spatial softmax, linear, ReLU."""
    net, _ = hf_resnet("rgb_encoder.backbone.", kind, groups=True)
    with torch.no_grad():
        maps = net(images).last_hidden_state
    c, height, width = maps.shape[1:]
    k = DP["keypoints"]
    weight = w("rgb_encoder.pool.filters.weight", k, c, 1, 1)
    logits = F.conv2d(maps, weight, w("rgb_encoder.pool.filters.bias", k)).flatten(2)
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    places = logits.softmax(-1) @ torch.stack([xs.flatten(), ys.flatten()], -1)
    return w.linear("rgb_encoder.out", places.flatten(1), 2 * k).relu()


def sine_embedding(steps: Tensor, dim: int) -> Tensor:
    angles = steps[:, None].float() * torch.exp(torch.arange(dim // 2) * -(math.log(10_000) / (dim // 2 - 1)))
    return torch.cat([angles.sin(), angles.cos()], -1)


def unet(w: Weights, x_BHA: Tensor, steps: Tensor, condition: Tensor) -> Tensor:
    """Diffusion Policy's 1-D U-Net with FiLM of scale and bias."""
    g, kernel, dims, embed = DP["groups"], DP["kernel"], DP["down_dims"], DP["embed"]

    def conv(name: str, x: Tensor, out: int, groups: int = g) -> Tensor:
        x = F.conv1d(x, w(f"{name}.0.weight", out, x.shape[1], kernel), w(f"{name}.0.bias", out), padding=kernel // 2)
        return F.mish(F.group_norm(x, groups, w(f"{name}.1.weight", out), w(f"{name}.1.bias", out)))

    time = w.linear("unet.diffusion_step_encoder.1", sine_embedding(steps, embed), 4 * embed)
    time = w.linear("unet.diffusion_step_encoder.3", F.mish(time), embed)
    seen = torch.cat([time, condition], -1)

    def block(name: str, x: Tensor, out: int) -> Tensor:
        inner = conv(f"{name}.conv1", x, out)
        scale, bias = w.linear(f"{name}.cond_encoder.1", F.mish(seen), 2 * out)[..., None].chunk(2, 1)
        inner = conv(f"{name}.conv2", scale * inner + bias, out)
        if x.shape[1] != out:
            x = F.conv1d(x, w(f"{name}.residual_conv.weight", out, x.shape[1], 1), w(f"{name}.residual_conv.bias", out))
        return inner + x

    x, skips = x_BHA.transpose(1, 2), []
    for level, dim in enumerate(dims):
        x = block(f"unet.down_modules.{level}.0", x, dim)
        x = block(f"unet.down_modules.{level}.1", x, dim)
        skips.append(x)
        if level < len(dims) - 1:
            name = f"unet.down_modules.{level}.2"
            x = F.conv1d(x, w(f"{name}.weight", dim, dim, 3), w(f"{name}.bias", dim), stride=2, padding=1)
    for index in range(2):
        x = block(f"unet.mid_modules.{index}", x, dims[-1])
    for level, dim in enumerate(reversed(dims[:-1])):
        x = torch.cat([x, skips.pop()], 1)
        x = block(f"unet.up_modules.{level}.0", x, dim)
        x = block(f"unet.up_modules.{level}.1", x, dim)
        name = f"unet.up_modules.{level}.2"
        x = F.conv_transpose1d(x, w(f"{name}.weight", dim, dim, 4), w(f"{name}.bias", dim), stride=2, padding=1)
    x = conv("unet.final_conv.0", x, dims[0], 8)
    x = F.conv1d(x, w("unet.final_conv.1.weight", ACTION, dims[0], 1), w("unet.final_conv.1.bias", ACTION))
    return x.transpose(1, 2)


def make_dp(kind: str, resnet: str) -> dict[str, np.ndarray]:
    """One file's arrays."""
    from diffusers import DDIMScheduler, DDPMScheduler

    rng, w = np.random.default_rng(7), Weights()
    state = torch.from_numpy(rng.normal(size=(B, 1, STATE)).astype(np.float32))
    images = rng.integers(0, 256, (B, 1, *TOP), dtype=np.uint8)
    actions = torch.from_numpy(rng.normal(size=(B, DP["horizon"], ACTION)).astype(np.float32))
    padding = torch.zeros(B, DP["horizon"], dtype=torch.bool)
    padding[1, -2:] = True
    which = torch.tensor([0, 1, 0])
    noise = torch.from_numpy(rng.normal(size=tuple(actions.shape)).astype(np.float32))
    steps = torch.tensor([3, 17, 0])
    start = torch.from_numpy(rng.normal(size=tuple(actions.shape)).astype(np.float32))
    vectors = text_vectors(kind)
    text = w.linear("text_projection", vectors[which], DP["text_dim"])
    pictures = torch.from_numpy(images[:, 0]).permute(0, 3, 1, 2).float() / 255
    condition = torch.cat([state[:, 0], keypoints(w, pictures, resnet), text], -1)
    training = DDPMScheduler(DP["steps"], beta_schedule="squaredcos_cap_v2", clip_sample=False)
    predicted = unet(w, training.add_noise(actions, noise, steps), steps, condition)
    loss = ((predicted - noise).square() * ~padding[..., None]).mean()
    acting = DDIMScheduler(
        DP["steps"], beta_schedule="squaredcos_cap_v2", clip_sample=False, set_alpha_to_one=True, steps_offset=0
    )
    acting.set_timesteps(5)
    sample = start
    for step in acting.timesteps:
        out = unet(w, sample, torch.full((B,), int(step)), condition)
        sample = acting.step(out, step, sample).prev_sample
    arrays = {
        "state": state, "images": torch.from_numpy(images), "actions": actions, "padding": padding, "which": which,
        "noise": noise, "steps": steps, "start": start, "vectors": vectors, "loss": loss, "chunk": sample,
    }  # fmt: skip
    return {key: value.detach().numpy() for key, value in arrays.items()}


def act_places(count: int, width: int) -> Tensor:
    columns = torch.arange(width, dtype=torch.float64)
    angles = torch.arange(count, dtype=torch.float64)[:, None] / 10_000 ** (2 * (columns // 2) / width)
    return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], -1).flatten(1).float()


def image_places(height: int, width: int, channels: int) -> Tensor:
    half = channels // 2
    periods = 10_000 ** (2 * (torch.arange(half).float() // 2) / half)

    def waves(count: int) -> Tensor:
        steps = torch.arange(1, count + 1).float()
        angles = (steps / (steps[-1] + 1e-6) * 2 * math.pi)[:, None] / periods
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], -1).flatten(1)

    rows, columns = waves(height)[:, None].expand(-1, width, -1), waves(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)


def attend(w: Weights, name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Batch first ``[B, S, D]``, written out."""
    d, heads = q.shape[-1], ACT["heads"]
    weight, bias = w(f"{name}.in_proj_weight", 3 * d, d), w(f"{name}.in_proj_bias", 3 * d)
    parts = []
    for index, x in enumerate((q, k, v)):
        rows = slice(index * d, (index + 1) * d)
        parts.append(F.linear(x, weight[rows], bias[rows]).unflatten(-1, (heads, d // heads)).transpose(1, 2))
    q, k, v = parts
    mixed = (q @ k.transpose(-1, -2) / math.sqrt(d // heads)).softmax(-1) @ v
    return w.linear(f"{name}.out_proj", mixed.transpose(1, 2).flatten(2), d)


def mlp(w: Weights, name: str, x: Tensor) -> Tensor:
    return w.linear(f"{name}.linear2", w.linear(f"{name}.linear1", x, 24).relu(), x.shape[-1])


def make_act(kind: str, pre_norm: bool) -> dict[str, np.ndarray]:
    """One file's arrays; without a latent's encoder."""
    rng, w, d = np.random.default_rng(8), Weights(), ACT["width"]
    state = torch.from_numpy(rng.normal(size=(B, 1, STATE)).astype(np.float32))
    world = torch.from_numpy(rng.normal(size=(B, 1, ENVIRONMENT)).astype(np.float32))
    images = rng.integers(0, 256, (B, 1, *TOP), dtype=np.uint8)
    actions = torch.from_numpy(rng.normal(size=(B, ACT["chunk"], ACTION)).astype(np.float32))
    padding = torch.zeros(B, ACT["chunk"], dtype=torch.bool)
    padding[2, -3:] = True
    which = torch.tensor([1, 0, 1])
    vectors = text_vectors(kind)
    tokens = [
        w.linear("encoder_latent_input_proj", torch.zeros(B, ACT["latent"]), d),
        w.linear("encoder_robot_state_input_proj", state[:, 0], d),
        w.linear("encoder_env_state_input_proj", world[:, 0], d),
        w.linear("text_projection", vectors[which], d),
    ]
    net, channels = hf_resnet("backbone.", "resnet18", groups=False)
    with torch.no_grad():
        maps = net(torch.from_numpy(images[:, 0]).permute(0, 3, 1, 2).float() / 255).last_hidden_state
    project = w("encoder_img_feat_input_proj.weight", d, channels, 1, 1)
    patches = F.conv2d(maps, project, w("encoder_img_feat_input_proj.bias", d)).flatten(2).transpose(1, 2)
    x = torch.cat([torch.stack(tokens, 1), patches], 1)
    places = torch.cat([w("encoder_1d_feature_pos_embed.weight", 4, d), image_places(*maps.shape[-2:], d)])

    def beside(norm: str, x: Tensor, part: Any) -> Tensor:
        return x + part(w.norm(norm, x)) if pre_norm else w.norm(norm, x + part(x))

    for layer in range(ACT["encoder"]):
        at = f"encoder.layers.{layer}"
        x = beside(f"{at}.norm1", x, lambda y, at=at: attend(w, f"{at}.self_attn", y + places, y + places, y))
        x = beside(f"{at}.norm2", x, lambda y, at=at: mlp(w, at, y))
    x = w.norm("encoder.norm", x) if pre_norm else x
    asks = w("decoder_pos_embed.weight", ACT["chunk"], d)
    y = torch.zeros(B, ACT["chunk"], d)
    for layer in range(ACT["decoder"]):
        at = f"decoder.layers.{layer}"
        y = beside(f"{at}.norm1", y, lambda z, at=at: attend(w, f"{at}.self_attn", z + asks, z + asks, z))
        y = beside(f"{at}.norm2", y, lambda z, at=at: attend(w, f"{at}.multihead_attn", z + asks, x + places, x))
        y = beside(f"{at}.norm3", y, lambda z, at=at: mlp(w, at, z))
    chunk = w.linear("action_head", w.norm("decoder.norm", y), ACTION)
    errors = (chunk - actions).abs() * ~padding[..., None]
    loss = errors.sum() / ((~padding).sum() * ACTION)
    arrays = {
        "state": state, "world": world, "images": torch.from_numpy(images), "actions": actions, "padding": padding,
        "which": which, "vectors": vectors, "loss": loss, "chunk": chunk,
    }  # fmt: skip
    return {key: value.detach().numpy() for key, value in arrays.items()}


def main() -> None:
    torch.set_num_threads(1)
    np.savez_compressed(HERE / "dp_clip.npz", **make_dp("clip", "resnet18"))
    np.savez_compressed(HERE / "dp_bert_deep.npz", **make_dp("bert", "resnet50"))
    np.savez_compressed(HERE / "act_clip.npz", **make_act("clip", pre_norm=True))
    np.savez_compressed(HERE / "act_bert_post_norm.npz", **make_act("bert", pre_norm=False))
    sizes = {"clip": CLIP, "bert": BERT, "length": LENGTH, "texts": TEXTS, "dp": DP, "act": ACT}
    (HERE / "sizes.json").write_text(json.dumps(sizes, indent=1) + "\n")


if __name__ == "__main__":
    main()
