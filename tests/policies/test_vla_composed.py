"""Whole GR00T N1 and N1.5 against compositions of transformers' own models, prompt by prompt; FAST against scipy and tokenizers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tendon.errors import ConfigError, DataError
from tendon.policies.pi0fast.fast import FastTokenizer
from tests.golden.lerobot.seeded import gemma_weights
from tests.policies.vla_cases import policy_of, seen_of

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install 'tendon-robotics[vla]'"
)

Weights = Mapping[str, Tensor]


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def own(w: Weights, name: str, x: Tensor, embodiment: int) -> Tensor:
    return x @ w[f"{name}.W"][embodiment] + w[f"{name}.b"][embodiment]


def attention(w: Weights, name: str, x: Tensor, context: Tensor, heads: int) -> Tensor:
    query, key, value = (linear(w, f"{name}.to_{k}", one) for k, one in (("q", x), ("k", context), ("v", context)))
    parts = [one.reshape(len(one), heads, -1) for one in (query, key, value)]
    scores = torch.einsum("qhd,khd->hqk", parts[0], parts[1]) / math.sqrt(parts[0].shape[-1])
    return linear(w, f"{name}.to_out.0", torch.einsum("hqk,khd->qhd", scores.softmax(-1), parts[2]).flatten(1))


def feed(w: Weights, name: str, x: Tensor) -> Tensor:
    return linear(w, f"{name}.ff.net.2", F.gelu(linear(w, f"{name}.ff.net.0.proj", x), approximate="tanh"))


def head_velocity(
    w: Weights, c: Any, features: Tensor, state: Tensor, actions: Tensor, bucket: int, embodiment: int
) -> Tensor:
    """One sample, no batch: the head of the public code in functions."""
    width, heads = c.input_embedding_dim, c.diffusion_heads
    hidden = F.relu(own(w, "state_encoder.layer1", state[None], embodiment))
    tokens = [own(w, "state_encoder.layer2", hidden, embodiment)]
    half = width // 2
    rates = torch.exp(-torch.arange(half) * math.log(10000.0) / half) * bucket
    wave = torch.cat([rates.sin(), rates.cos()]).expand(len(actions), -1)
    a = own(w, "action_encoder.W1", actions, embodiment)
    a = own(w, "action_encoder.W2", torch.cat([a, wave], 1), embodiment)
    a = own(w, "action_encoder.W3", a * a.sigmoid(), embodiment) + w["position_embedding.weight"][: len(actions)]
    if "future_tokens.weight" in w:
        tokens.append(w["future_tokens.weight"])
    x = torch.cat([*tokens, a])
    angles = bucket * torch.exp(-math.log(10000.0) * torch.arange(128) / 127)
    time = torch.cat([angles.cos(), angles.sin()])
    time = linear(w, "model.timestep_encoder.timestep_embedder.linear_1", time)
    time = linear(w, "model.timestep_encoder.timestep_embedder.linear_2", F.silu(time))
    for layer in range(c.diffusion_layers):
        name = f"model.transformer_blocks.{layer}"
        scale, shift = linear(w, f"{name}.norm1.linear", F.silu(time)).chunk(2)
        normed = F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
        x = x + attention(w, f"{name}.attn1", normed, features if layer % 2 == 0 else normed, heads)
        x = x + feed(w, name, F.layer_norm(x, x.shape[-1:]))
    shift, scale = linear(w, "model.proj_out_1", F.silu(time)).chunk(2)
    x = linear(w, "model.proj_out_2", F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift)
    hidden = F.relu(own(w, "action_decoder.layer1", x[-len(actions) :], embodiment))
    return own(w, "action_decoder.layer2", hidden, embodiment)


def backbone_features(policy: Any, seen: Any, row: int) -> Tensor:
    """One prompt without padding through whole models of transformers, with their output layers and all."""
    c, net = policy.config, policy.net.backbone
    if c.name == "gr00t_n1_5":
        language = transformers.Qwen3ForCausalLM(net.language.config)
    else:
        language = transformers.LlamaForCausalLM(net.language.config)
    language.model.load_state_dict(net.language.state_dict())
    vision = transformers.SiglipVisionModel(net.vision.config)
    vision.load_state_dict(net.vision.state_dict())
    ids = seen.tokens[row][seen.real[row]]
    embedded = language.model.embed_tokens(ids)
    pictures = []
    for image in seen.images:
        patches = vision.eval()(image[row : row + 1]).last_hidden_state
        if c.name == "gr00t_n1":  # the public code's shuffle, step by step
            side = math.isqrt(patches.shape[1])
            x = patches.view(1, side, side, -1)
            x = x.view(1, side, side // 2, -1).permute(0, 2, 1, 3).contiguous()
            x = x.view(1, side // 2, side // 2, -1).permute(0, 2, 1, 3).contiguous()
            patches = x.view(1, (side // 2) ** 2, -1)
        pictures.append(net.connector(patches)[0])
    embedded = embedded.clone()
    embedded[ids == c.image_token_id] = torch.cat(pictures)
    output = language.eval()(inputs_embeds=embedded[None], output_hidden_states=True)
    return policy.net.linear(output.hidden_states[c.text_layers][0])


@pytest.mark.parametrize("name", ["gr00t_n1", "gr00t_n1_5"])
@torch.no_grad()
def test_whole_gr00t_is_the_composition_of_transformers_models(name: str) -> None:
    policy = policy_of(name).eval()
    for inner, parameter in policy.net.named_parameters():
        parameter.copy_(torch.from_numpy(gemma_weights(inner, tuple(parameter.shape))))
    batch = policy.processing(seen_of(policy, size=2), "acting")
    seen, c = policy.seen(batch), policy.config
    noise = torch.randn(2, c.chunk_size, c.max_action_dim)
    made = policy.sample(seen, noise)
    w = policy.net.head.state_dict()
    for row in range(2):
        features = backbone_features(policy, seen, row)
        if c.name == "gr00t_n1_5":
            features = F.layer_norm(features, features.shape[-1:], w["vlln.weight"], w["vlln.bias"])
            for layer in range(c.vl_layers):
                block = f"vl_self_attention.transformer_blocks.{layer}"
                normed = F.layer_norm(
                    features, features.shape[-1:], w[f"{block}.norm1.weight"], w[f"{block}.norm1.bias"]
                )
                features = features + attention(w, f"{block}.attn1", normed, normed, c.vl_heads)
                normed = F.layer_norm(
                    features, features.shape[-1:], w[f"{block}.norm3.weight"], w[f"{block}.norm3.bias"]
                )
                features = features + feed(w, block, normed)
        actions = noise[row]
        for step in range(c.num_inference_steps):
            bucket = int(step / c.num_inference_steps * 1000)
            actions = (
                actions + head_velocity(w, c, features, seen.state[row], actions, bucket, 31) / c.num_inference_steps
            )
        torch.testing.assert_close(made[row], actions, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------- FAST


def chunks(seed: int, num: int = 400) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    steps = torch.linspace(0, 1, 10)[None, :, None]
    slopes = torch.rand(num, 1, 3, generator=generator) * 2 - 1
    return (slopes * steps + 0.05 * torch.randn(num, 10, 3, generator=generator)).clamp(-1, 1)


def fitted(vocab_size: int = 256) -> FastTokenizer:
    fast = FastTokenizer(10, 3, vocab_size)
    fast.fit(chunks(0))
    return fast


def test_fast_tokens_are_scipys_dct_and_tokenizers_pairs() -> None:
    fft = pytest.importorskip("scipy.fft", reason="scipy is not installed")
    from tokenizers import Tokenizer, models, trainers

    def texts(values: Tensor, low: int) -> list[str]:
        coefficients = [fft.dct(one.double().numpy(), axis=0, norm="ortho") for one in values]
        return ["".join(chr(int(k) - low) for k in (10 * one).round().astype(int).flatten()) for one in coefficients]

    low = min(int((10 * fft.dct(one.double().numpy(), axis=0, norm="ortho")).round().min()) for one in chunks(0))
    plain = texts(chunks(0), low)
    tokenizer = Tokenizer(models.BPE())
    alphabet = [chr(one) for one in range(max(map(ord, "".join(plain))) + 1)]
    trainer = trainers.BpeTrainer(
        vocab_size=256, min_frequency=2, show_progress=False, initial_alphabet=alphabet, max_token_length=10000
    )
    tokenizer.train_from_iterator(plain, trainer)
    fast = fitted()
    assert int(fast.limits[0]) == low
    inside = chunks(0)[:50]
    assert fast.encode(inside) == [one.ids for one in tokenizer.encode_batch(texts(inside, low))]
    assert sum(map(len, fast.encode(inside))) < 0.6 * inside.numel()  # pairs were found


def test_fast_round_trip_is_within_what_rounding_takes() -> None:
    fast = fitted()
    back = fast.decode(fast.encode(chunks(0)))
    bound = 0.5 / 10 * math.sqrt(10)  # each of 10 coefficients is off by half a step at most
    assert (back - chunks(0)).abs().max() < bound
    assert not fast.decode([[0, 1, 2]]).any()  # another number of coefficients


def test_fast_travels_in_its_buffers_and_is_refused_without_a_table() -> None:
    fast, other = fitted(), FastTokenizer(10, 3, 256)
    with pytest.raises(DataError, match="FAST is not fitted"):
        other.encode(chunks(1))
    other.load_state_dict(fast.state_dict())
    assert other.encode(chunks(1)) == fast.encode(chunks(1))
    assert other.encode(100 * chunks(1))  # beyond what was fitted: the nearest
    with pytest.raises(ConfigError, match="symbols and room for 8"):
        FastTokenizer(10, 3, 8).fit(chunks(0))
