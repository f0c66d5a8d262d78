"""The network of pi0-FAST: pictures and a prompt that see each other, then tokens of which each sees those before it.

Legend: B batch, P tokens of the prefix, L tokens that are written, W width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tendon.policies.parts.gemma_pair import blocks_mask
from tendon.policies.parts.towers import LanguageSizes, VisionSizes, make_gemma, make_vision
from tendon.policies.vla.model import Seen

NUMERICS = 1


@dataclass
class Written:
    """What was read and written so far; grows with each token."""

    real: Tensor  # [B, P + L]
    cache: Any
    logits: Tensor  # of the token that comes next, [B, V]


class Pi0FastNetwork(nn.Module):
    """Vision and language as in pi0, without an expert. The output layer is the embedding."""

    def __init__(self, vision: VisionSizes, language: LanguageSizes) -> None:
        super().__init__()
        self.vision: Any = make_vision(vision, "gelu_fast")
        self.connector = nn.Linear(vision.width, language.width)
        self.gemma: Any = make_gemma(language)

    def forward(self, seen: Seen, written_BL: Tensor, real_BL: Tensor) -> Tensor:
        """Logits of each written token ``[B, L, V]``: what the tokens before it say."""
        prefix_BPW, real_BP = self.prefix_tokens(seen)
        num_prefix, num_written = prefix_BPW.shape[1], written_BL.shape[1]
        real_BS = torch.cat([real_BP, real_BL], 1)
        begins_S = torch.arange(num_prefix + num_written, device=real_BS.device) >= num_prefix
        tokens_BSW = torch.cat([prefix_BPW, self.gemma.embed_tokens(written_BL).to(prefix_BPW.dtype)], 1)
        hidden_BSW = self._run(tokens_BSW, blocks_mask(real_BS, begins_S), real_BS.long().cumsum(1) - 1, None)
        last_B1W = hidden_BSW.gather(1, (last_real(real_BP))[:, None, None].expand(-1, 1, hidden_BSW.shape[2]))
        return self._logits(torch.cat([last_B1W, hidden_BSW[:, num_prefix:-1]], 1))

    def read(self, seen: Seen) -> Written:
        """The prefix, once."""
        from transformers import DynamicCache

        prefix_BPW, real_BP = self.prefix_tokens(seen)
        begins_S = torch.zeros(prefix_BPW.shape[1], dtype=torch.bool, device=real_BP.device)
        cache = DynamicCache(config=self.gemma.config)
        hidden_BPW = self._run(prefix_BPW, blocks_mask(real_BP, begins_S), real_BP.long().cumsum(1) - 1, cache)
        last_BW = hidden_BPW[torch.arange(len(real_BP), device=real_BP.device), last_real(real_BP)]
        return Written(real_BP, cache, self._logits(last_BW))

    def write(self, before: Written, token_B: Tensor) -> Written:
        """One token more."""
        token_B1W = self.gemma.embed_tokens(token_B[:, None]).to(before.logits.dtype)
        real_BS = torch.cat([before.real, torch.ones_like(before.real[:, :1])], 1)
        places_B1 = real_BS.long().sum(1, keepdim=True) - 1
        hidden_B1W = self._run(token_B1W, real_BS[:, None], places_B1, before.cache)
        return Written(real_BS, before.cache, self._logits(hidden_B1W[:, 0]))

    def prefix_tokens(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Of all cameras, then of the prompt, and which are real."""
        tokens = [self.connector(self.vision(image).last_hidden_state) for image in seen.images]
        real = [torch.ones(one.shape[:2], dtype=torch.bool, device=one.device) for one in tokens]
        tokens.append(self.gemma.embed_tokens(seen.tokens).to(tokens[0].dtype))
        return torch.cat(tokens, 1), torch.cat([*real, seen.real], 1)

    def _run(self, tokens_BSW: Tensor, mask_BSS: Tensor, places_BS: Tensor, cache: Any) -> Tensor:
        output = self.gemma(
            inputs_embeds=tokens_BSW,
            attention_mask=mask_BSS[:, None],
            position_ids=places_BS,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = hidden @ self.gemma.embed_tokens.weight.to(hidden.dtype).T
        return logits.float()


def last_real(real_BP: Tensor) -> Tensor:
    """The place of the last real token of each row ``[B]``."""
    places_P = torch.arange(real_BP.shape[1], device=real_BP.device)
    return (real_BP * places_P).argmax(1)
