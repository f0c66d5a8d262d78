"""GR00T's action head: states and actions through weights of their embodiment, a DiT that looks at the backbone's features.

Time runs from 0 (noise) to 1 (actions), which the networks see as one of 1000 buckets. Legend: B batch, S tokens, T chunk, A width
of actions, D width of states, L tokens of the backbone, W width of a token, E embodiments.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tendon.policies.parts.dit import Block, BlockSizes, DiffusionTransformer
from tendon.policies.parts.flow_matching import between, euler, step_embedding

NUMERICS = 1


@dataclass(frozen=True)
class HeadSizes:
    """Of the whole head; without future tokens and adapter layers it is N1's."""

    num_embodiments: int
    state_dim: int
    action_dim: int
    hidden: int
    width: int
    context: int
    num_heads: int
    num_layers: int
    dropout: float
    max_places: int
    num_buckets: int
    num_future_tokens: int = 0
    adapter_heads: int = 0
    adapter_layers: int = 0


@dataclass(frozen=True)
class HeadInput:
    """What stays the same for all steps of denoising."""

    features: Tensor  # [B, L, W]
    real: Tensor | None  # [B, L], features that are attended to; None: all
    state: Tensor  # [B, D]
    embodiment: Tensor  # [B]


class EmbodimentLinear(nn.Module):
    """A layer with weights for each embodiment."""

    def __init__(self, num_embodiments: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.W = nn.Parameter(0.02 * torch.randn(num_embodiments, inputs, outputs))
        self.b = nn.Parameter(torch.zeros(num_embodiments, outputs))

    def forward(self, values_BSD: Tensor, embodiment_B: Tensor) -> Tensor:
        """Each row with its own."""
        return torch.bmm(values_BSD, self.W[embodiment_B]) + self.b[embodiment_B].unsqueeze(1)


class EmbodimentMlp(nn.Module):
    """Two layers with a ReLU between them."""

    def __init__(self, num_embodiments: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layer1 = EmbodimentLinear(num_embodiments, inputs, hidden)
        self.layer2 = EmbodimentLinear(num_embodiments, hidden, outputs)

    def forward(self, values_BSD: Tensor, embodiment_B: Tensor) -> Tensor:
        """``[B, S, outputs]``."""
        out: Tensor = self.layer2(functional.relu(self.layer1(values_BSD, embodiment_B)), embodiment_B)
        return out


class ActionEncoder(nn.Module):
    """Noisy actions and their time to tokens."""

    def __init__(self, num_embodiments: int, action_dim: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.W1 = EmbodimentLinear(num_embodiments, action_dim, width)
        self.W2 = EmbodimentLinear(num_embodiments, 2 * width, width)
        self.W3 = EmbodimentLinear(num_embodiments, width, width)

    def forward(self, actions_BTA: Tensor, bucket_B: Tensor, embodiment_B: Tensor) -> Tensor:
        """``[B, T, W]``."""
        first_BTW = self.W1(actions_BTA, embodiment_B)
        time_BTW = step_embedding(bucket_B, self.width)[:, None].expand(-1, actions_BTA.shape[1], -1)
        joined = torch.cat([first_BTW, time_BTW.to(first_BTW.dtype)], -1)
        out: Tensor = self.W3(functional.silu(self.W2(joined, embodiment_B)), embodiment_B)
        return out


class FeatureBlocks(nn.Module):
    """Blocks of self-attention between backbone and DiT."""

    def __init__(self, sizes: BlockSizes, num_layers: int) -> None:
        super().__init__()
        self.transformer_blocks = nn.ModuleList(Block(sizes) for _ in range(num_layers))

    def forward(self, features_BLW: Tensor, mask_B1L: Tensor | None) -> Tensor:
        """As wide as before."""
        for block in self.transformer_blocks:
            features_BLW = block(features_BLW, mask_B1S=mask_B1L)
        return features_BLW


class ActionHead(nn.Module):
    """No chance in here but dropout: noise and time are arguments."""

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.sizes, E = sizes, sizes.num_embodiments
        blocks = BlockSizes(sizes.num_heads, sizes.width // sizes.num_heads, sizes.dropout)
        self.model = DiffusionTransformer(blocks, sizes.num_layers, sizes.context, sizes.hidden)
        self.state_encoder = EmbodimentMlp(E, sizes.state_dim, sizes.hidden, sizes.width)
        self.action_encoder = ActionEncoder(E, sizes.action_dim, sizes.width)
        self.action_decoder = EmbodimentMlp(E, sizes.hidden, sizes.hidden, sizes.action_dim)
        self.position_embedding = nn.Embedding(sizes.max_places, sizes.width)
        nn.init.normal_(self.position_embedding.weight, std=0.02)
        if sizes.num_future_tokens:
            self.future_tokens = nn.Embedding(sizes.num_future_tokens, sizes.width)
            nn.init.normal_(self.future_tokens.weight, std=0.02)
        if sizes.adapter_layers:
            self.vlln = nn.LayerNorm(sizes.context)
            adapter = BlockSizes(sizes.adapter_heads, sizes.context // sizes.adapter_heads, sizes.dropout)
            self.vl_self_attention = FeatureBlocks(adapter, sizes.adapter_layers)

    def adapted(self, features_BLW: Tensor, real_BL: Tensor | None) -> Tensor:
        """Features of the backbone as the DiT looks at them."""
        if not self.sizes.adapter_layers:
            return features_BLW
        features_BLW = self.vlln(features_BLW)
        adapted: Tensor = self.vl_self_attention(features_BLW, None if real_BL is None else real_BL[:, None])
        return adapted

    def velocity(self, given: HeadInput, sample_BTA: Tensor, time_B: Tensor) -> Tensor:
        """From noise to actions, as one of ``adapted`` features sees it."""
        bucket_B = (time_B * self.sizes.num_buckets).long()
        T = sample_BTA.shape[1]
        actions_BTW = self.action_encoder(sample_BTA, bucket_B, given.embodiment)
        actions_BTW = actions_BTW + self.position_embedding.weight[:T]
        tokens = [self.state_encoder(given.state[:, None], given.embodiment), actions_BTW]
        if self.sizes.num_future_tokens:
            tokens.insert(1, self.future_tokens.weight.expand(len(sample_BTA), -1, -1))
        hidden_BSW = self.model(torch.cat(tokens, 1), given.features, bucket_B, given.real)
        predicted: Tensor = self.action_decoder(hidden_BSW[:, -T:], given.embodiment)
        return predicted.float()

    def velocity_errors(self, given: HeadInput, actions_BTA: Tensor, noise_BTA: Tensor, time_B: Tensor) -> Tensor:
        """Squared error of each number."""
        noisy_BTA = between(noise_BTA, actions_BTA, time_B)
        return functional.mse_loss(self.velocity(given, noisy_BTA, time_B), actions_BTA - noise_BTA, reduction="none")

    def sample(self, given: HeadInput, noise_BTA: Tensor, num_steps: int) -> Tensor:
        """Actions ``[B, T, A]``."""
        times = [step / num_steps for step in range(num_steps)]
        return euler(lambda sample, time: self.velocity(given, sample, time), noise_BTA, times, 1.0 / num_steps)
