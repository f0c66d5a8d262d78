"""A GPT as nanoGPT has it: learned positions, pre-LayerNorm, biases everywhere; tokens ``[B, T, D]`` in, as many out.

N(0, 0.02) weights, those behind an attention divided by sqrt(2 * layers); zero biases. ``transformer.py`` is robomimic's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

NUMERICS = 1

INIT_STD = 0.02


class GptBlock(nn.Module):
    """Causal attention and a two-layer net, each behind a LayerNorm and a residual."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.output = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim), nn.Dropout(dropout))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """As many tokens."""
        x_BTD = x_BTD + self._attend(self.norm1(x_BTD))
        result_BTD: Tensor = x_BTD + self.mlp(self.norm2(x_BTD))
        return result_BTD

    def _attend(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        q, k, v = (
            one.view(B, T, self.num_heads, D // self.num_heads).transpose(1, 2) for one in self.qkv(x_BTD).chunk(3, -1)
        )
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        result_BTD: Tensor = self.output(mixed.transpose(1, 2).reshape(B, T, D))
        return functional.dropout(result_BTD, self.dropout, self.training)


class Gpt(nn.Module):
    """Projected tokens with positions, the blocks, a last LayerNorm and a projection without bias."""

    def __init__(
        self,
        input_dim: int,
        dim: int,
        output_dim: int,
        *,
        context: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(input_dim, dim)
        self.position = nn.Embedding(context, dim)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(GptBlock(dim, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, output_dim, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, 0.0, INIT_STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            assert isinstance(block, GptBlock)
            nn.init.normal_(block.output.weight, 0.0, INIT_STD / math.sqrt(2 * num_layers))

    def forward(self, tokens_BTE: Tensor) -> Tensor:
        """``[B, T, output_dim]``."""
        places = torch.arange(tokens_BTE.shape[1], device=tokens_BTE.device)
        x_BTD = self.dropout(self.embed(tokens_BTE) + self.position(places))
        for block in self.blocks:
            x_BTD = block(x_BTD)
        result_BTO: Tensor = self.head(self.norm(x_BTD))
        return result_BTO

    def names_without_decay(self) -> Iterator[str]:
        """Biases, LayerNorms and positions: weight decay is for the weights of linear layers."""
        for name, module in self.named_modules():
            for parameter, _ in module.named_parameters(recurse=False):
                if not (isinstance(module, nn.Linear) and parameter == "weight"):
                    yield f"{name}.{parameter}"
