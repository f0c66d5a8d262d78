"""The network of pi0 and pi0.5: pictures and text as a prefix, state and noisy actions as a suffix, a velocity out of it.

Time runs from 1 (noise) to 0 (actions). Legend: B batch, S tokens, T chunk, A width of actions, D width of states, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tendon.policies.parts.flow_matching import between, euler, wave_embedding
from tendon.policies.parts.gemma_pair import GemmaPair, KeyValues, blocks_mask
from tendon.policies.parts.towers import LanguageSizes, VisionSizes, make_vision
from tendon.policies.vla.model import Seen

NUMERICS = 1


@dataclass(frozen=True)
class Pi0Sizes:
    """Of the whole network."""

    vision: VisionSizes
    language: LanguageSizes
    expert: LanguageSizes
    state_dim: int
    action_dim: int
    min_period: float
    max_period: float
    adaptive: bool  # pi0.5


@dataclass(frozen=True)
class Prefix:
    """Pictures and text: computed once for all steps of denoising."""

    real: Tensor  # [B, S]
    kept: list[KeyValues]


class Pi0Network(nn.Module):
    """No chance in here: noise and time are arguments."""

    def __init__(self, sizes: Pi0Sizes) -> None:
        super().__init__()
        self.sizes, width = sizes, sizes.expert.width
        self.vision: Any = make_vision(sizes.vision, "gelu_fast")
        self.connector = nn.Linear(sizes.vision.width, sizes.language.width)
        self.gemma = GemmaPair(sizes.language, sizes.expert, adaptive=sizes.adaptive)
        self.action_in_proj = nn.Linear(sizes.action_dim, width)
        self.action_out_proj = nn.Linear(width, sizes.action_dim)
        if sizes.adaptive:
            self.time_mlp_in, self.time_mlp_out = nn.Linear(width, width), nn.Linear(width, width)
        else:
            self.state_proj = nn.Linear(sizes.state_dim, width)
            self.action_time_mlp_in, self.action_time_mlp_out = nn.Linear(2 * width, width), nn.Linear(width, width)

    def velocity_errors(self, seen: Seen, actions_BTA: Tensor, noise_BTA: Tensor, time_B: Tensor) -> Tensor:
        """Squared error of each number: prefix and suffix in one pass."""
        noisy_BTA = between(actions_BTA, noise_BTA, time_B)
        prefix_BSW, real_BS = self.prefix_tokens(seen)
        suffix_BSW, condition_BW = self.suffix_tokens(seen.state, noisy_BTA, time_B)
        real_BS = functional.pad(real_BS, (0, suffix_BSW.shape[1]), value=True)
        mask_BSS = blocks_mask(real_BS, self._begins(prefix_BSW.shape[1], suffix_BSW.shape[1], real_BS.device))
        places_BS = real_BS.long().cumsum(1) - 1
        hidden_BSW, _ = self.gemma(prefix_BSW, suffix_BSW, mask_BSS, places_BS, condition_BW)
        return functional.mse_loss(self._velocity(hidden_BSW, noise_BTA), noise_BTA - actions_BTA, reduction="none")

    def sample(self, seen: Seen, noise_BTA: Tensor, num_steps: int) -> Tensor:
        """Actions ``[B, T, A]``."""
        prefix = self.prefix(seen)
        times = [1.0 - step / num_steps for step in range(num_steps)]

        def velocity(sample_BTA: Tensor, time_B: Tensor) -> Tensor:
            return self.velocity(prefix, seen.state, sample_BTA, time_B)

        return euler(velocity, noise_BTA, times, -1.0 / num_steps)

    def prefix(self, seen: Seen) -> Prefix:
        """Keys and values of pictures and text."""
        tokens_BSW, real_BS = self.prefix_tokens(seen)
        begins_S = torch.zeros(tokens_BSW.shape[1], dtype=torch.bool, device=real_BS.device)
        places_BS = real_BS.long().cumsum(1) - 1
        _, kept = self.gemma(tokens_BSW, None, blocks_mask(real_BS, begins_S), places_BS)
        return Prefix(real_BS, kept)

    def velocity(self, prefix: Prefix, state_BD: Tensor, sample_BTA: Tensor, time_B: Tensor) -> Tensor:
        """Of noisy actions, with the prefix's keys and values."""
        suffix_BSW, condition_BW = self.suffix_tokens(state_BD, sample_BTA, time_B)
        num_prefix, num_suffix = prefix.real.shape[1], suffix_BSW.shape[1]
        real_BS = functional.pad(prefix.real, (0, num_suffix), value=True)
        begins_S = self._begins(num_prefix, num_suffix, real_BS.device)
        mask_BSS = blocks_mask(real_BS, begins_S)[:, num_prefix:]
        places_BS = (real_BS.long().cumsum(1) - 1)[:, num_prefix:]
        hidden_BSW, _ = self.gemma(None, suffix_BSW, mask_BSS, places_BS, condition_BW, prefix.kept)
        return self._velocity(hidden_BSW, sample_BTA)

    def prefix_tokens(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Tokens of all cameras, then of the text, and which are real. A camera slot that is empty has none: nothing sees it."""
        tokens, real = [], []
        for image_BCHW in seen.images:
            tokens.append(self.connector(self.vision(image_BCHW).last_hidden_state))
            real.append(torch.ones(tokens[-1].shape[:2], dtype=torch.bool, device=image_BCHW.device))
        tokens.append(self.gemma.embed_tokens(seen.tokens).to(tokens[0].dtype if tokens else torch.float32))
        return torch.cat(tokens, 1), torch.cat([*real, seen.real], 1)

    def suffix_tokens(self, state_BD: Tensor, noisy_BTA: Tensor, time_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """A token of the state (pi0) and one for each action; of pi0.5 the condition of its norms."""
        sizes = self.sizes
        wave_BW = wave_embedding(time_B, sizes.expert.width, sizes.min_period, sizes.max_period)
        actions_BTW = self.action_in_proj(noisy_BTA)
        if sizes.adaptive:
            return actions_BTW, functional.silu(self.time_mlp_out(functional.silu(self.time_mlp_in(wave_BW))))
        wave_BTW = wave_BW[:, None].expand(-1, noisy_BTA.shape[1], -1).to(actions_BTW.dtype)
        joined = functional.silu(self.action_time_mlp_in(torch.cat([actions_BTW, wave_BTW], 2)))
        return torch.cat([self.state_proj(state_BD)[:, None], self.action_time_mlp_out(joined)], 1), None

    def _begins(self, num_prefix: int, num_suffix: int, device: torch.device) -> Tensor:
        """A block of the prefix, one of the state (pi0), one of the actions."""
        begins_S = torch.zeros(num_prefix + num_suffix, dtype=torch.bool, device=device)
        begins_S[num_prefix] = True
        if not self.sizes.adaptive:
            begins_S[num_prefix + 1] = True
        return begins_S

    def _velocity(self, hidden_BSW: Tensor | None, like_BTA: Tensor) -> Tensor:
        assert hidden_BSW is not None
        velocity: Tensor = self.action_out_proj(hidden_BSW[:, -like_BTA.shape[1] :].float())
        return velocity.float()
