"""VPT's recurrent blocks with a TransformerXL memory, an interaction in each of them by FiLM; MineStudio's parameter names.

A memory holds keys and values of the last steps of every block, and which of these belong to the episode at hand. A step
sees itself and the ``mem_len - 1`` steps before it, whether they are in the chunk or in the memory, and none of before the
last beginning of an episode. Axes: B rows, T steps of the chunk, M steps of the memory, L blocks, H width, h heads, n basis.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

NUM_BASIS = 10  # of the relative term, for each head
NUM_INTERACTIONS = 10  # rows of the table; 0: no target
FAR = -1e9  # added to the logit of a key that is not seen
HIDDEN_RATIO = 4


@dataclass(frozen=True)
class Visible:
    """Which keys every step of a chunk sees; the same for all blocks."""

    blocked: Tensor  # bool [B, T, K]; K: the memory without its oldest step, then the chunk
    valid: Tensor  # bool [B, M], of the memory behind the chunk


def visible(first_BT: Tensor, valid_BM: Tensor) -> Visible:
    """``first``: a step begins an episode; ``valid``: the memory's steps that belong to the episode before the chunk."""
    M, T = valid_BM.shape[1], first_BT.shape[1]
    episode_BT = first_BT.long().cumsum(1)  # 0: the one that the memory is of
    episode_BK = torch.cat([torch.where(valid_BM, 0, -1), episode_BT], 1)
    last_B1 = episode_BT[:, -1:]
    key, query = torch.arange(M + T, device=first_BT.device), torch.arange(M, M + T, device=first_BT.device)
    distance_TK = query[:, None] - key[None]
    in_reach_TK = (distance_TK >= 0) & (distance_TK < M)
    seen_BTK = in_reach_TK & (episode_BT[:, :, None] == episode_BK[:, None])
    return Visible(~seen_BTK[:, :, 1:], (episode_BK == last_B1)[:, -M:])


class Film(nn.Module):
    """Scale and shift of a normalised stream by an embedding."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.ff = nn.Sequential(
            nn.LayerNorm(hidden),
            nn.Linear(hidden, 2 * hidden, bias=False),
            nn.GELU(),
            nn.Linear(2 * hidden, hidden, bias=False),
        )
        self.fc = nn.Linear(hidden, 2 * hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, x_BTH: Tensor, condition_BTH: Tensor) -> Tensor:
        """The stream as the embedding changes it."""
        scale, shift = self.fc(condition_BTH + self.ff(condition_BTH)).chunk(2, -1)
        out: Tensor = self.norm(x_BTH * (1 + scale) + shift)
        return out


class NormedLayer(nn.Module):
    """A linear layer with rows of one length, behind a norm (then without a bias) or without one; ReLU if asked."""

    def __init__(self, inputs: int, outputs: int, scale: float, *, norm: bool, relu: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs) if norm else None
        self.layer = nn.Linear(inputs, outputs, bias=not norm)
        self.relu = relu
        scale_rows(self.layer, scale)

    def forward(self, x: Tensor) -> Tensor:
        """The next features."""
        out: Tensor = self.layer(x if self.norm is None else self.norm(x))
        return out.relu() if self.relu else out


class AttentionBlock(nn.Module):
    """Attention over memory and chunk; its residual is its own input."""

    def __init__(self, hidden: int, heads: int, mem_len: int, scale: float) -> None:
        super().__init__()
        self.heads = heads
        self.b_nd = nn.Parameter(torch.randn(NUM_BASIS, mem_len) * 0.2)
        self.q_layer = nn.Linear(hidden, hidden)
        self.k_layer = nn.Linear(hidden, hidden, bias=False)
        self.v_layer = nn.Linear(hidden, hidden, bias=False)
        self.proj_layer = nn.Linear(hidden, hidden)
        self.r_layer = nn.Linear(hidden, NUM_BASIS * heads)
        root = scale**0.5
        for layer, size in (
            (self.q_layer, 0.1),
            (self.k_layer, 0.2),
            (self.v_layer, root),
            (self.proj_layer, root),
            (self.r_layer, 0.1),
        ):
            scale_rows(layer, size)

    def forward(
        self, x_BTH: Tensor, keys_BMH: Tensor, values_BMH: Tensor, see: Visible
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The next features, and the memory's keys and values behind the chunk."""
        M = keys_BMH.shape[1]
        keys_BKH = torch.cat([keys_BMH, self.k_layer(x_BTH).to(keys_BMH.dtype)], 1)
        values_BKH = torch.cat([values_BMH, self.v_layer(x_BTH).to(values_BMH.dtype)], 1)
        query = self._split(self.q_layer(x_BTH))
        bias_BhTK = self._relative(self._split(self.r_layer(x_BTH)).to(keys_BMH.dtype))
        bias_BhTK = bias_BhTK.masked_fill(see.blocked[:, None], FAR)
        mixed_BhTd = functional.scaled_dot_product_attention(
            query,
            self._split(keys_BKH[:, 1:]).to(query.dtype),
            self._split(values_BKH[:, 1:]).to(query.dtype),
            attn_mask=bias_BhTK.to(query.dtype),
            scale=1 / query.shape[-1],
        )
        mixed_BTH = mixed_BhTd.transpose(1, 2).flatten(2)
        return x_BTH + self.proj_layer(mixed_BTH), keys_BKH[:, -M:], values_BKH[:, -M:]

    def _split(self, x_BTH: Tensor) -> Tensor:
        return x_BTH.reshape(*x_BTH.shape[:2], self.heads, -1).transpose(1, 2)

    def _relative(self, weights_BhTn: Tensor) -> Tensor:
        """What distance adds to the logits: row t of ``[T, M + T - 1]`` has the distances M - 1 to 0 from column t on."""
        M, T = self.b_nd.shape[1], weights_BhTn.shape[2]
        by_distance_BhTM = weights_BhTn @ self.b_nd.flip(1).to(weights_BhTn.dtype)
        width = M + T - 1
        shifted = functional.pad(by_distance_BhTM, (0, T)).flatten(2)[:, :, : T * width]
        return shifted.reshape(*shifted.shape[:2], T, width)


class RecurrentAttention(nn.Module):
    """Gives the attention block the name that MineStudio has for it."""

    def __init__(self, hidden: int, heads: int, mem_len: int, scale: float) -> None:
        super().__init__()
        self.orc_block = AttentionBlock(hidden, heads, mem_len, scale)


class RecurrentBlock(nn.Module):
    """Norm, FiLM, attention, MLP."""

    def __init__(self, hidden: int, heads: int, mem_len: int, scale: float) -> None:
        super().__init__()
        scale *= 2**-0.5
        self.mlp0 = NormedLayer(hidden, HIDDEN_RATIO * hidden, 1.0, norm=True, relu=True)
        self.mlp1 = NormedLayer(HIDDEN_RATIO * hidden, hidden, scale, norm=False, relu=False)
        self.pre_r_ln = nn.LayerNorm(hidden)
        self.r = RecurrentAttention(hidden, heads, mem_len, scale)
        self.injection = Film(hidden)

    def forward(
        self, x_BTH: Tensor, condition_BTH: Tensor, keys_BMH: Tensor, values_BMH: Tensor, see: Visible
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The next features, and the memory's keys and values."""
        x_BTH = self.injection(self.pre_r_ln(x_BTH), condition_BTH)
        x_BTH, keys_BMH, values_BMH = self.r.orc_block(x_BTH, keys_BMH, values_BMH, see)
        return x_BTH + self.mlp1(self.mlp0(x_BTH)), keys_BMH, values_BMH


class RecurrentBlocks(nn.Module):
    """All blocks; the memory is ``keys`` and ``values`` ``[B, L, M, H]`` and ``valid`` ``[B, M]``."""

    def __init__(self, hidden: int, heads: int, num_layers: int, mem_len: int) -> None:
        super().__init__()
        self.mem_len, self.hidden = mem_len, hidden
        scale = num_layers**-0.5
        self.blocks = nn.ModuleList(RecurrentBlock(hidden, heads, mem_len, scale) for _ in range(num_layers))

    def forward(
        self, x_BTH: Tensor, condition_BTH: Tensor, first_BT: Tensor, memory: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The features of the chunk, and the memory behind it."""
        see = visible(first_BT, memory["valid"])
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            x_BTH, k, v = block(x_BTH, condition_BTH, memory["keys"][:, i], memory["values"][:, i], see)
            keys.append(k)
            values.append(v)
        return x_BTH, {"keys": torch.stack(keys, 1), "values": torch.stack(values, 1), "valid": see.valid}

    def empty(self, num_rows: int, device: torch.device) -> dict[str, Tensor]:
        """The memory of rows that have seen nothing."""
        shape = (num_rows, len(self.blocks), self.mem_len, self.hidden)
        return {
            "keys": torch.zeros(shape, device=device),
            "values": torch.zeros(shape, device=device),
            "valid": torch.zeros(num_rows, self.mem_len, dtype=torch.bool, device=device),
        }


@torch.no_grad()
def scale_rows(layer: nn.Linear, size: float) -> None:
    """Rows of one length, no bias: how VPT's layers begin."""
    layer.weight *= size / layer.weight.norm(dim=1, keepdim=True)
    if layer.bias is not None:
        layer.bias.zero_()
