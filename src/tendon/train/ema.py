"""A moving average of the learning weights, MineStudio's: no bias correction, buffers are not averaged.

The copy begins as the weights before the first update; after update n (from 0) with n a multiple of ``every_n_steps``
it becomes decay * average + (1 - decay) * weights. Kept by the engine; a checkpoint's model.safetensors holds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from tendon.config.schema import EmaConfig


class Ema:
    """The average of some parameters, by name."""

    def __init__(self, config: EmaConfig, parameters: Mapping[str, Tensor]) -> None:
        self.config = config
        self._names = list(parameters)
        self._weights: Sequence[Tensor] = list(parameters.values())
        self._average = [self._placed(tensor).clone() for tensor in self._weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take update ``step`` (0 is the first) into account."""
        if step % self.config.every_n_steps:
            return
        decay = decay_at(self.config, step // self.config.every_n_steps)
        weights = [self._placed(tensor) for tensor in self._weights]
        torch._foreach_lerp_(self._average, weights, 1.0 - decay)

    def tensors(self) -> dict[str, Tensor]:
        """The average by parameter name."""
        return dict(zip(self._names, self._average, strict=True))

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a saved average back."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The policy acts with the average inside, and has the learning weights back afterwards, bit for bit."""
        with torch.no_grad():
            kept = [tensor.detach().clone() for tensor in self._weights]
            _copy(self._weights, self._average)
        try:
            yield
        finally:
            with torch.no_grad():
                _copy(self._weights, kept)

    def _placed(self, tensor: Tensor) -> Tensor:
        held = (
            tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
        )  # an average needs the digits
        return held.cpu() if self.config.cpu_offload else held


def decay_at(config: EmaConfig, num_updates: int) -> float:
    """The decay of average update ``num_updates``; with a power it grows from 0 (twice, as diffusion policy's) to ``decay``."""
    if not config.power:
        return config.decay
    return min(config.decay, 1.0 - float((1 + max(0, num_updates - 1)) ** -config.power))


def _copy(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
