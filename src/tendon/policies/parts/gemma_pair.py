"""Two Gemmas that attend together, layer by layer: PaliGemma's language model and pi0's action expert.

Queries, keys and values of both are joined along the sequence; norms, projections and MLPs are each one's own. The prefix
never sees the suffix, so its keys and values can be kept while actions are denoised. Stock GemmaDecoderLayers inside.
Legend: B batch, S tokens, D width, H heads, K numbers of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tendon.policies.parts.towers import LanguageSizes, gemma_config, needs_transformers

NUMERICS = 1

KeyValues = tuple[Tensor, Tensor]  # of one layer, [B, H, S, K] each


class AdaptiveNorm(nn.Module):
    """RMS norm whose scale, shift and gate come from a condition (pi0.5)."""

    def __init__(self, width: int, condition: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.dense = nn.Linear(condition, 3 * width)
        nn.init.zeros_(self.dense.weight)

    def forward(self, hidden_BSD: Tensor, condition_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Normed tokens and the gate of what they become."""
        variance = hidden_BSD.float().square().mean(-1, keepdim=True)
        normed = hidden_BSD * torch.rsqrt(variance + self.eps)
        scale, shift, gate = self.dense(condition_BD).unsqueeze(1).chunk(3, -1)
        return (normed * (1 + scale.float()) + shift.float()).type_as(hidden_BSD), gate.type_as(hidden_BSD)


class PairedLayer(nn.Module):
    """One layer of both."""

    def __init__(self, prefix: nn.Module, expert: nn.Module, *, last: bool) -> None:
        super().__init__()
        self.prefix: Any = prefix
        self.expert: Any = expert
        self.last = last

    def forward(
        self,
        prefix_BSD: Tensor | None,
        expert_BSD: Tensor | None,
        mask_B1SS: Tensor,
        waves: tuple[Tensor, Tensor],
        condition_BD: Tensor | None = None,
        kept: KeyValues | None = None,
    ) -> tuple[Tensor | None, Tensor | None, KeyValues]:
        """Tokens of both behind the layer, and the keys and values of all.

        Args:
            prefix_BSD: tokens of pictures and text, or None where ``kept`` stands for them.
            expert_BSD: tokens of state and actions, or None when only the prefix is run.
            mask_B1SS: which token sees which; rows are the tokens given here.
            waves: cosines and sines of their places.
            condition_BD: of adaptive norms.
            kept: keys and values of the prefix.
        """
        ways = [(self.prefix, prefix_BSD, None), (self.expert, expert_BSD, condition_BD)]
        present = [(layer, hidden, condition) for layer, hidden, condition in ways if hidden is not None]
        queries: list[Tensor] = []
        keys: list[Tensor] = []
        values: list[Tensor] = []
        gates = []
        for layer, hidden, condition in present:
            normed, gate = _normed(layer.input_layernorm, hidden, condition)
            gates.append(gate)
            for name, parts in (("q_proj", queries), ("k_proj", keys), ("v_proj", values)):
                parts.append(_heads(getattr(layer.self_attn, name)(normed), layer.self_attn.head_dim))
        query, key = _turned(torch.cat(queries, 2), waves), _turned(torch.cat(keys, 2), waves)
        value = torch.cat(values, 2)
        if kept is not None:
            key, value = torch.cat([kept[0], key], 2), torch.cat([kept[1], value], 2)
        seen = functional.scaled_dot_product_attention(
            query, key, value, mask_B1SS, enable_gqa=query.shape[1] != key.shape[1]
        )
        seen_BSD = seen.transpose(1, 2).flatten(2)
        outputs: dict[int, Tensor | None] = {id(self.prefix): None, id(self.expert): None}
        start = 0
        for (layer, hidden, condition), gate in zip(present, gates, strict=True):
            end = start + hidden.shape[1]
            if not (self.last and layer is self.prefix):  # nothing reads the prefix behind its last layer
                outputs[id(layer)] = _behind(layer, hidden, seen_BSD[:, start:end], condition, gate)
            start = end
        return outputs[id(self.prefix)], outputs[id(self.expert)], (key, value)


class GemmaPair(nn.Module):
    """All layers of both, and the expert's last norm."""

    def __init__(self, prefix: LanguageSizes, expert: LanguageSizes, *, adaptive: bool) -> None:
        super().__init__()
        with needs_transformers("pi0"):
            from transformers.models.gemma.modeling_gemma import GemmaModel
        prefix_config = gemma_config(prefix)
        whole: Any = GemmaModel(prefix_config)
        other: Any = GemmaModel(gemma_config(replace(expert, vocab_size=1)))
        self.embed_tokens = whole.embed_tokens
        self.rotary = whole.rotary_emb
        self.prefix_norm = whole.norm
        self.expert_norm = other.norm
        if adaptive:
            eps = prefix_config.rms_norm_eps
            for layer in other.layers:
                layer.input_layernorm = AdaptiveNorm(expert.width, expert.width, eps)
                layer.post_attention_layernorm = AdaptiveNorm(expert.width, expert.width, eps)
            self.expert_norm = AdaptiveNorm(expert.width, expert.width, eps)
        last = prefix.num_layers - 1
        self.layers = nn.ModuleList(
            PairedLayer(first, second, last=index == last)
            for index, (first, second) in enumerate(zip(whole.layers, other.layers, strict=True))
        )

    def unused(self) -> list[nn.Module]:
        """What the published files hold and no number depends on: the prefix behind the keys and values of its last layer."""
        layer: Any = self.layers[-1]
        last = layer.prefix
        return [self.prefix_norm, last.self_attn.q_proj, last.self_attn.o_proj, last.post_attention_layernorm, last.mlp]

    def forward(
        self,
        prefix_BSD: Tensor | None,
        expert_BSD: Tensor | None,
        mask_BSS: Tensor,
        places_BS: Tensor,
        condition_BD: Tensor | None = None,
        kept: Sequence[KeyValues] = (),
    ) -> tuple[Tensor | None, list[KeyValues]]:
        """The expert's tokens behind its last norm (None without one), and keys and values of every layer."""
        given = expert_BSD if prefix_BSD is None else prefix_BSD
        waves = self.rotary(given, places_BS)
        made = []
        for index, layer in enumerate(self.layers):
            before = kept[index] if kept else None
            prefix_BSD, expert_BSD, pair = layer(prefix_BSD, expert_BSD, mask_BSS[:, None], waves, condition_BD, before)
            made.append(pair)
        if expert_BSD is None:
            return None, made
        return _normed(self.expert_norm, expert_BSD, condition_BD)[0], made


def blocks_mask(real_BS: Tensor, begins_S: Tensor) -> Tensor:
    """``[B, S, S]``: a token sees the tokens of its block and of those before; ``begins_S``: where a block begins.

    Padding is seen by nobody and sees itself, so that no row is empty.
    """
    block_S = begins_S.long().cumsum(0)
    seen_SS = block_S[None, :] <= block_S[:, None]
    mask_BSS = seen_SS[None] & real_BS[:, None, :] & real_BS[:, :, None]
    return mask_BSS | torch.eye(real_BS.shape[1], dtype=torch.bool, device=real_BS.device)


def _normed(norm: Any, hidden: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if isinstance(norm, AdaptiveNorm):
        assert condition is not None
        normed, gate = norm(hidden, condition)
        return normed, gate
    return norm(hidden), None


def _behind(layer: Any, hidden: Tensor, seen: Tensor, condition: Tensor | None, gate: Tensor | None) -> Tensor:
    """A tower's own half of a layer."""
    hidden = _beside(hidden, layer.self_attn.o_proj(seen), gate)
    normed, gate = _normed(layer.post_attention_layernorm, hidden, condition)
    return _beside(hidden, layer.mlp(normed), gate)


def _beside(hidden: Tensor, change: Tensor, gate: Tensor | None) -> Tensor:
    return hidden + change if gate is None else hidden + change * gate


def _heads(values_BSD: Tensor, head_dim: int) -> Tensor:
    B, S, _ = values_BSD.shape
    return values_BSD.view(B, S, -1, head_dim).transpose(1, 2)


def _turned(values_BHSK: Tensor, waves: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary places."""
    cos, sin = (wave.unsqueeze(1).to(values_BHSK.dtype) for wave in waves)
    first, second = values_BHSK.chunk(2, -1)
    return values_BHSK * cos + torch.cat([-second, first], -1) * sin
