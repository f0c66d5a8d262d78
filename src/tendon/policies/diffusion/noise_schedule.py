"""Noise that is added in training and taken away when acting: DDPM and DDIM, with the numbers of diffusers' schedulers.

Every step is one line of arithmetic with constants made beforehand, and the noise comes from the caller: an episode's
actions depend on its seed alone, and nothing but the network takes time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

NUMERICS = 1

BetaSchedule = Literal["squaredcos_cap_v2", "linear", "scaled_linear"]
MAX_BETA = 0.999
Predict = Callable[[Tensor, int], Tensor]  # of a noisy sample and the time step: the noise, or the sample itself


@dataclass(frozen=True)
class DenoisingStep:
    """One step towards less noise: what the sample before it is made of."""

    timestep: int
    signal: float  # share of the clean sample in the noisy one, and of the noise
    noise: float
    clean_factor: float  # of the predicted clean sample
    other_factor: float  # DDPM: of the noisy sample; DDIM: of the predicted noise
    fresh: float  # of new noise; DDIM has none


@dataclass(frozen=True)
class NoiseSchedule:
    """Which share of a sample is noise after how many steps."""

    num_timesteps: int
    beta_schedule: BetaSchedule
    beta_start: float
    beta_end: float

    def kept(self) -> Tensor:
        """The share of the sample's variance that is left at each time step ``[num_timesteps]``, falling."""
        return (1 - self.betas()).cumprod(0)

    def betas(self) -> Tensor:
        """The share of the variance that each step replaces with noise."""
        count, first, last = self.num_timesteps, self.beta_start, self.beta_end
        if self.beta_schedule == "linear":
            return torch.linspace(first, last, count, dtype=torch.float32, device="cpu")
        if self.beta_schedule == "scaled_linear":
            return torch.linspace(first**0.5, last**0.5, count, dtype=torch.float32, device="cpu") ** 2

        def left(share: float) -> float:
            return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

        values = [min(1 - left((i + 1) / count) / left(i / count), MAX_BETA) for i in range(count)]
        return torch.tensor(values, dtype=torch.float32, device="cpu")

    def steps(self, kind: Literal["DDPM", "DDIM"], num_steps: int) -> tuple[DenoisingStep, ...]:
        """From pure noise to the sample, evenly spaced time steps of which 0 is the last."""
        stride = self.num_timesteps // num_steps
        kept = self.kept()
        return tuple(self._step(kind, kept, index * stride, stride) for index in reversed(range(num_steps)))

    def _step(self, kind: str, kept: Tensor, timestep: int, stride: int) -> DenoisingStep:
        """In float32, as the network computes."""
        one = torch.ones((), dtype=torch.float32, device="cpu")
        now, before = kept[timestep], kept[timestep - stride] if timestep >= stride else one
        signal, noise = now.sqrt(), (1 - now).sqrt()
        if kind == "DDIM":
            factors = before.sqrt(), (1 - before).sqrt(), 0 * one
        else:
            replaced = 1 - now / before
            variance = (1 - before) / (1 - now) * replaced
            fresh = variance.clamp(min=1e-20).sqrt() if timestep > 0 else 0 * one
            factors = before.sqrt() * replaced / (1 - now), (now / before).sqrt() * (1 - before) / (1 - now), fresh
        return DenoisingStep(timestep, *(float(value) for value in (signal, noise, *factors)))


def noisy(kept_T: Tensor, sample_BHA: Tensor, noise_BHA: Tensor, timestep_B: Tensor) -> Tensor:
    """Samples with so much noise as their time steps say."""
    kept_B11 = kept_T[timestep_B][:, None, None]
    return kept_B11.sqrt() * sample_BHA + (1 - kept_B11).sqrt() * noise_BHA


def denoise(
    steps: tuple[DenoisingStep, ...],
    predict: Predict,
    noise_BSHA: Tensor,
    *,
    predicts_noise: bool,
    clip: float | None,
) -> Tensor:
    """A sample ``[B, H, A]``.

    Args:
        steps: of ``NoiseSchedule.steps``.
        predict: the network.
        noise_BSHA: what it begins with, then the fresh noise of each step; DDIM takes the first one only.
        predicts_noise: what the network predicts.
        clip: clean samples stay within plus and minus this.
    """
    sample = noise_BSHA[:, 0]
    for index, step in enumerate(steps):
        predicted = predict(sample, step.timestep)
        clean = (sample - step.noise * predicted) / step.signal if predicts_noise else predicted
        is_ddim = step.fresh == 0.0 and noise_BSHA.shape[1] == 1
        other = sample
        if is_ddim:
            other = predicted if predicts_noise else (sample - step.signal * clean) / step.noise
        if clip is not None:
            clean = clean.clamp(-clip, clip)
        sample = step.clean_factor * clean + step.other_factor * other
        if step.fresh:
            sample = sample + step.fresh * noise_BSHA[:, index + 1]
    return sample
