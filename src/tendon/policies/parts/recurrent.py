"""LSTM and GRU over time with a memory that is one tensor per episode: state ``[B, layers, parts, H]``.

Parts: hidden and cell of an LSTM, hidden alone of a GRU. A leading batch axis lets episodes be stacked and split.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

NUMERICS = 1

Cell = Literal["LSTM", "GRU"]


class Recurrent(nn.Module):
    """``[B, T, D]`` and the state before to ``[B, T, H]`` and the state after."""

    def __init__(self, input_dim: int, hidden_dim: int, num_layers: int, cell: Cell) -> None:
        super().__init__()
        kind = nn.LSTM if cell == "LSTM" else nn.GRU
        self.net: nn.LSTM | nn.GRU = kind(input_dim, hidden_dim, num_layers, batch_first=True)

    def forward(self, features_BTD: Tensor) -> Tensor:
        """From a zero state; the state after is not wanted (training)."""
        with _without_missing_kernels(features_BTD):
            outputs_BTH: Tensor = self.net(features_BTD)[0]
        return outputs_BTH

    def zero_state(self, num_episodes: int) -> Tensor:
        """The state of fresh episodes."""
        parts = 2 if isinstance(self.net, nn.LSTM) else 1
        weight = self.net.weight_hh_l0
        assert isinstance(weight, Tensor)
        return weight.new_zeros(num_episodes, self.net.num_layers, parts, self.net.hidden_size)

    def step(self, features_BTD: Tensor, state_BLPH: Tensor) -> tuple[Tensor, Tensor]:
        """One or more steps from a state (acting)."""
        parts = [part.transpose(0, 1).contiguous() for part in state_BLPH.unbind(2)]
        if isinstance(self.net, nn.LSTM):
            outputs_BTH, after = self.net(features_BTD, (parts[0], parts[1]))
            return outputs_BTH, torch.stack([part.transpose(0, 1) for part in after], 2)
        outputs_BTH, hidden_LBH = self.net(features_BTD, parts[0])
        return outputs_BTH, hidden_LBH.transpose(0, 1).unsqueeze(2)


@contextmanager
def _without_missing_kernels(features: Tensor) -> Iterator[None]:
    """OneDNN has no recurrent nets in bfloat16 for processors without AVX-512, and fails instead of leaving them to torch."""
    half = features.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
    if not half or features.device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TF32, which nobody asked for
        with torch.backends.mkldnn.flags(enabled=False):
            yield
