"""A GPT-like backbone, pre-LayerNorm: tokens ``[B, T, D]`` in, as many out (or the last one only).

robomimic's numbers: qkv without bias, LayerNorm eps 1e-5, exact GELU or GEGLU, N(0, 0.02) weights and zero biases.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

NUMERICS = 1

Activation = Literal["gelu", "geglu"]
Position = Literal["parameter", "embedding", "sinusoidal"]
INIT_STD = 0.02


class Geglu(nn.Module):
    """The first half of the features, gated by the GELU of the second."""

    def forward(self, x: Tensor) -> Tensor:
        """``[..., 2D]`` to ``[..., D]``."""
        value, gate = x.chunk(2, dim=-1)
        return value * functional.gelu(gate)


class AttentionBlock(nn.Module):
    """Attention and a two-layer net, each behind a LayerNorm and a residual."""

    def __init__(
        self, dim: int, num_heads: int, attention_dropout: float, output_dropout: float, activation: Activation
    ) -> None:
        super().__init__()
        self.num_heads, self.attention_dropout = num_heads, attention_dropout
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim)
        width = 8 * dim if activation == "geglu" else 4 * dim
        act = Geglu() if activation == "geglu" else nn.GELU()
        self.mlp = nn.Sequential(nn.Linear(dim, width), act, nn.Linear(4 * dim, dim), nn.Dropout(output_dropout))
        self.dropout = nn.Dropout(output_dropout)

    def forward(self, x_BTD: Tensor, *, causal: bool, last_only: bool = False) -> Tensor:
        """All tokens, or the last one ``[B, 1, D]``, which costs less and gives the same numbers."""
        kept_BTD = x_BTD[:, -1:] if last_only else x_BTD
        x_BTD = kept_BTD + self._attend(self.ln1(x_BTD), causal=causal, last_only=last_only)
        result_BTD: Tensor = x_BTD + self.mlp(self.ln2(x_BTD))
        return result_BTD

    def _attend(self, x_BTD: Tensor, *, causal: bool, last_only: bool) -> Tensor:
        B, _, D = x_BTD.shape
        if last_only:  # the last token looks at everything: no mask is needed
            q = functional.linear(x_BTD[:, -1:], self.qkv.weight[:D])
            k, v = functional.linear(x_BTD, self.qkv.weight[D:]).chunk(2, dim=-1)
        else:
            q, k, v = self.qkv(x_BTD).chunk(3, dim=-1)
        q, k, v = (one.view(B, -1, self.num_heads, D // self.num_heads).transpose(1, 2) for one in (q, k, v))
        mixed = functional.scaled_dot_product_attention(
            q,
            k,
            v,
            dropout_p=self.attention_dropout if self.training else 0.0,
            is_causal=causal and not last_only,
        )
        result: Tensor = self.dropout(self.output(mixed.transpose(1, 2).reshape(B, -1, D)))
        return result


class Transformer(nn.Module):
    """Positions, the blocks, and a last LayerNorm, over projected tokens."""

    def __init__(
        self,
        input_dim: int,
        dim: int,
        *,
        context: int,
        num_layers: int,
        num_heads: int,
        embedding_dropout: float,
        attention_dropout: float,
        output_dropout: float,
        activation: Activation,
        position: Position,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(input_dim, dim)
        self.embed_ln = nn.LayerNorm(dim)
        self.embed_dropout = nn.Dropout(embedding_dropout)
        self.position: nn.Parameter | nn.Embedding | None = None
        if position == "parameter":
            self.position = nn.Parameter(torch.zeros(1, context, dim))
        elif position == "embedding":
            self.position = nn.Embedding(context, dim)
        else:
            self.register_buffer("sines", sinusoidal(context, dim), persistent=False)
        self.blocks = nn.ModuleList(
            AttentionBlock(dim, num_heads, attention_dropout, output_dropout, activation) for _ in range(num_layers)
        )
        self.output_ln = nn.LayerNorm(dim)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features_BTE: Tensor, *, causal: bool = True, last_only: bool = False) -> Tensor:
        """``[B, T, D]``, or ``[B, 1, D]`` with ``last_only``."""
        x_BTD = self.embed(features_BTE) + self._positions()
        x_BTD = self.embed_dropout(self.embed_ln(x_BTD))
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, causal=causal, last_only=last_only and index == last)
        result_BTD: Tensor = self.output_ln(x_BTD)
        return result_BTD

    def _positions(self) -> Tensor:
        if self.position is None:
            sines = self.sines
            assert isinstance(sines, Tensor)
            return sines
        return self.position.weight if isinstance(self.position, nn.Embedding) else self.position


def sinusoidal(context: int, dim: int) -> Tensor:
    """``[1, T, D]``: sines in even dimensions, cosines in odd ones."""
    angles_TD = torch.arange(context).unsqueeze(1) * torch.exp(torch.arange(0, dim, 2) * (-math.log(10_000.0) / dim))
    table_TD = torch.zeros(context, dim)
    table_TD[:, 0::2], table_TD[:, 1::2] = angles_TD.sin(), angles_TD.cos()
    return table_TD.unsqueeze(0)
