"""Transformer blocks of a diffusion transformer (DiT), named and computed as diffusers' are, without importing it.

A block is attention, to its own tokens or to others, and a feed-forward net; with a time its first norm is adaptive. Legend: B
batch, S tokens, D width, C width of what is attended to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

NUMERICS = 1

TIME_WAVES = 256


@dataclass(frozen=True)
class BlockSizes:
    """What all blocks share."""

    num_heads: int
    head_dim: int
    dropout: float

    @property
    def width(self) -> int:
        """Of a token."""
        return self.num_heads * self.head_dim


class Attention(nn.Module):
    """Multi-head attention with biases."""

    def __init__(self, sizes: BlockSizes, context: int | None) -> None:
        super().__init__()
        self.num_heads, width = sizes.num_heads, sizes.width
        self.to_q = nn.Linear(width, width)
        self.to_k, self.to_v = nn.Linear(context or width, width), nn.Linear(context or width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width), nn.Dropout(sizes.dropout)])

    def forward(self, tokens_BSD: Tensor, context_BSC: Tensor, mask_B1S: Tensor | None) -> Tensor:
        """``mask``: which tokens of the context are real."""
        query, key, value = self.to_q(tokens_BSD), self.to_k(context_BSC), self.to_v(context_BSC)
        heads = [one.view(*one.shape[:2], self.num_heads, -1).transpose(1, 2) for one in (query, key, value)]
        mask = None if mask_B1S is None else mask_B1S[:, None]
        seen = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], mask)
        out: Tensor = self.to_out[1](self.to_out[0](seen.transpose(1, 2).flatten(2)))
        return out


class Gelu(nn.Module):
    """A layer and the approximate GELU; the name ``proj`` is diffusers'."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, inner)

    def forward(self, tokens_BSD: Tensor) -> Tensor:
        """Four times as wide."""
        return functional.gelu(self.proj(tokens_BSD), approximate="tanh")


class FeedForward(nn.Module):
    """GELU between two layers."""

    def __init__(self, sizes: BlockSizes) -> None:
        super().__init__()
        inner, width = 4 * sizes.width, sizes.width
        dropouts = nn.Dropout(sizes.dropout), nn.Dropout(sizes.dropout)
        self.net = nn.Sequential(Gelu(width, inner), dropouts[0], nn.Linear(inner, width), dropouts[1])

    def forward(self, tokens_BSD: Tensor) -> Tensor:
        """As wide as before."""
        out: Tensor = self.net(tokens_BSD)
        return out


class TimeNorm(nn.Module):
    """A norm whose scale and shift come from a time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width, 1e-5, elementwise_affine=False)

    def forward(self, tokens_BSD: Tensor, time_BD: Tensor) -> Tensor:
        """Scale first, then shift."""
        scale, shift = self.linear(functional.silu(time_BD)).chunk(2, 1)
        normed: Tensor = self.norm(tokens_BSD) * (1 + scale[:, None]) + shift[:, None]
        return normed


class Block(nn.Module):
    """Attention and a feed-forward net, each beside a shortcut."""

    def __init__(self, sizes: BlockSizes, *, context: int | None = None, timed: bool = False) -> None:
        super().__init__()
        self.norm1: nn.Module = TimeNorm(sizes.width) if timed else nn.LayerNorm(sizes.width, 1e-5)
        self.attn1 = Attention(sizes, context)
        self.norm3 = nn.LayerNorm(sizes.width, 1e-5, elementwise_affine=not timed)
        self.ff = FeedForward(sizes)
        self.final_dropout = nn.Dropout(sizes.dropout)

    def forward(
        self,
        tokens_BSD: Tensor,
        context_BSC: Tensor | None = None,
        time_BD: Tensor | None = None,
        mask_B1S: Tensor | None = None,
    ) -> Tensor:
        """To its own tokens where there is no context."""
        normed = self.norm1(tokens_BSD) if time_BD is None else self.norm1(tokens_BSD, time_BD)
        seen = self.attn1(normed, normed if context_BSC is None else context_BSC, mask_B1S)
        tokens_BSD = self.final_dropout(seen) + tokens_BSD
        out: Tensor = self.ff(self.norm3(tokens_BSD)) + tokens_BSD
        return out


class TimeEncoder(nn.Module):
    """A time step: cosines and sines, then two layers. The names of its layers are diffusers'."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.timestep_embedder = nn.ModuleDict(
            {"linear_1": nn.Linear(TIME_WAVES, width), "linear_2": nn.Linear(width, width)}
        )

    def forward(self, step_B: Tensor) -> Tensor:
        """``[B, D]``."""
        half = TIME_WAVES // 2
        exponent = -math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=step_B.device) / (half - 1)
        angles = step_B[:, None].float() * exponent.exp()[None]
        first, second = self.timestep_embedder["linear_1"], self.timestep_embedder["linear_2"]
        waves = torch.cat([angles.cos(), angles.sin()], -1).to(first.weight.dtype)  # type: ignore[arg-type]
        out: Tensor = second(functional.silu(first(waves)))
        return out


class DiffusionTransformer(nn.Module):
    """Blocks that attend to a context and to themselves in turns, all of them seeing the time."""

    def __init__(self, sizes: BlockSizes, num_layers: int, context: int, output_dim: int) -> None:
        super().__init__()
        self.timestep_encoder = TimeEncoder(sizes.width)
        self.transformer_blocks = nn.ModuleList(
            Block(sizes, context=None if index % 2 else context, timed=True) for index in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(sizes.width, 1e-6, elementwise_affine=False)
        self.proj_out_1 = nn.Linear(sizes.width, 2 * sizes.width)
        self.proj_out_2 = nn.Linear(sizes.width, output_dim)

    def forward(self, tokens_BSD: Tensor, context_BSC: Tensor, step_B: Tensor, real_BS: Tensor | None) -> Tensor:
        """``[B, S, output_dim]``; ``real``: tokens of the context that are attended to, None: all."""
        time_BD = self.timestep_encoder(step_B)
        mask = None if real_BS is None else real_BS[:, None]
        for index, block in enumerate(self.transformer_blocks):
            crosses = index % 2 == 0
            tokens_BSD = block(tokens_BSD, context_BSC if crosses else None, time_BD, mask if crosses else None)
        shift, scale = self.proj_out_1(functional.silu(time_BD)).chunk(2, 1)
        normed = self.norm_out(tokens_BSD) * (1 + scale[:, None]) + shift[:, None]
        out: Tensor = self.proj_out_2(normed)
        return out
