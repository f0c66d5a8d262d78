"""The transformer of ACT: places are added to queries and keys only, as in DETR; norms stand behind or before each part.

Legend: S tokens of a sequence, B batch, D width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

NUMERICS = 1

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": functional.relu, "gelu": functional.gelu}
MAX_PERIOD = 10_000.0


@dataclass(frozen=True)
class LayerSizes:
    """What all layers share."""

    width: int
    num_heads: int
    feedforward: int
    dropout: float
    activation: str
    pre_norm: bool


class Layer(nn.Module):
    """What the layers of encoder and decoder share: self-attention and an MLP, each beside a shortcut."""

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.self_attn = nn.MultiheadAttention(sizes.width, sizes.num_heads, dropout=sizes.dropout)
        self.linear1 = nn.Linear(sizes.width, sizes.feedforward)
        self.linear2 = nn.Linear(sizes.feedforward, sizes.width)
        self.norm1, self.norm2 = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)

    def _mlp(self, tokens: Tensor) -> Tensor:
        hidden = self._dropped(ACTIVATIONS[self.sizes.activation](self.linear1(tokens)))
        result: Tensor = self.linear2(hidden)
        return result

    def _beside(self, norm: nn.Module, part: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
        """A part with its shortcut, the norm before the part or behind their sum."""
        if self.sizes.pre_norm:
            return tokens + self._dropped(part(norm(tokens)))
        result: Tensor = norm(tokens + self._dropped(part(tokens)))
        return result

    def _dropped(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.sizes.dropout, self.training)


class EncoderLayer(Layer):
    """Tokens look at each other."""

    def forward(self, tokens_SBD: Tensor, places_SBD: Tensor, padding_BS: Tensor | None = None) -> Tensor:
        """The tokens of the next layer; ``padding_BS``: True where a token is looked at by none."""

        def attend(tokens: Tensor) -> Tensor:
            placed = tokens + places_SBD
            return attention(self.self_attn, placed, placed, tokens, padding_BS)

        tokens_SBD = self._beside(self.norm1, attend, tokens_SBD)
        return self._beside(self.norm2, self._mlp, tokens_SBD)


class DecoderLayer(Layer):
    """As the encoder's, with a look at the encoder's tokens between the two parts."""

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__(sizes)
        self.multihead_attn = nn.MultiheadAttention(sizes.width, sizes.num_heads, dropout=sizes.dropout)
        self.norm3 = nn.LayerNorm(sizes.width)

    def forward(self, tokens_SBD: Tensor, places_SBD: Tensor, seen_SBD: Tensor, keys_SBD: Tensor) -> Tensor:
        """``keys_SBD``: the encoder's tokens with their places; ``seen_SBD``: without."""

        def attend(tokens: Tensor) -> Tensor:
            placed = tokens + places_SBD
            return attention(self.self_attn, placed, placed, tokens)

        def look(tokens: Tensor) -> Tensor:
            return attention(self.multihead_attn, tokens + places_SBD, keys_SBD, seen_SBD)

        tokens_SBD = self._beside(self.norm1, attend, tokens_SBD)
        tokens_SBD = self._beside(self.norm2, look, tokens_SBD)
        return self._beside(self.norm3, self._mlp, tokens_SBD)


class Encoder(nn.Module):
    """Layers one after another; a norm behind them where norms stand before the parts."""

    def __init__(self, sizes: LayerSizes, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(sizes) for _ in range(num_layers))
        self.norm: nn.Module = nn.LayerNorm(sizes.width) if sizes.pre_norm else nn.Identity()

    def forward(self, tokens_SBD: Tensor, places_SBD: Tensor, padding_BS: Tensor | None = None) -> Tensor:
        """``[S, B, D]``."""
        for layer in self.layers:
            tokens_SBD = layer(tokens_SBD, places_SBD, padding_BS)
        result: Tensor = self.norm(tokens_SBD)
        return result


class Decoder(nn.Module):
    """Layers that look at the encoder's tokens, and a norm."""

    def __init__(self, sizes: LayerSizes, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(num_layers))
        self.norm = nn.LayerNorm(sizes.width)

    def forward(self, places_S1D: Tensor, seen_SBD: Tensor, seen_places_SBD: Tensor) -> Tensor:
        """``[S, B, D]``; it begins with zeros, so the places are the question."""
        tokens_SBD = seen_SBD.new_zeros(len(places_S1D), seen_SBD.shape[1], seen_SBD.shape[2])
        keys_SBD = seen_SBD + seen_places_SBD
        for layer in self.layers:
            tokens_SBD = layer(tokens_SBD, places_S1D, seen_SBD, keys_SBD)
        result: Tensor = self.norm(tokens_SBD)
        return result


def attention(
    net: nn.MultiheadAttention, queries: Tensor, keys: Tensor, values: Tensor, padding_BS: Tensor | None = None
) -> Tensor:
    """Without the weights, which nobody looks at: torch's fused kernels compute it."""
    result: Tensor = net(queries, keys, values, key_padding_mask=padding_BS, need_weights=False)[0]
    return result


def sequence_places(num_places: int, width: int) -> Tensor:
    """Sines and cosines in turn ``[num_places, width]``, as in Attention Is All You Need."""
    columns = torch.arange(width, dtype=torch.float64, device="cpu")
    periods = MAX_PERIOD ** (2 * (columns // 2) / width)
    angles = torch.arange(num_places, dtype=torch.float64, device="cpu")[:, None] / periods
    angles[:, 0::2], angles[:, 1::2] = angles[:, 0::2].sin(), angles[:, 1::2].cos()
    return angles.float()


def image_places(height: int, width: int, channels: int) -> Tensor:
    """``[height * width, channels]``: rows in the first half, columns in the second, both as shares of a full turn."""
    half = channels // 2
    periods = MAX_PERIOD ** (2 * (torch.arange(half, dtype=torch.float32, device="cpu") // 2) / half)

    def waves(count: int) -> Tensor:
        steps = torch.arange(1, count + 1, dtype=torch.float32, device="cpu")
        angles = (steps / (steps[-1] + 1e-6) * (2 * torch.pi))[:, None] / periods
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], -1).flatten(1)

    rows, columns = waves(height)[:, None].expand(-1, width, -1), waves(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)
