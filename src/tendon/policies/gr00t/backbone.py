"""Eagle: pictures as tokens among those of a text, read by a language model that is cut off early.

The vision tower and the language model are transformers'; what joins them is here. Legend: B batch, L tokens of the prompt, W
width, P patches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tendon.policies.vla.model import Seen

NUMERICS = 1


class EagleBackbone(nn.Module):
    """``vision`` and ``language`` are whole models of transformers."""

    def __init__(self, vision: Any, connector: nn.Module, language: Any, *, shuffle: int, image_token_id: int) -> None:
        super().__init__()
        self.vision, self.connector, self.language = vision, connector, language
        self.shuffle, self.image_token_id = shuffle, image_token_id

    def forward(self, seen: Seen) -> Tensor:
        """The language model's last norm of every token ``[B, L, W]``."""
        embedded_BLW = self.language.get_input_embeddings()(seen.tokens)
        pictures = [self.picture_tokens(image) for image in seen.images]
        is_picture_BL1 = (seen.tokens == self.image_token_id).unsqueeze(-1)
        joined_BPW = torch.cat(pictures, 1).to(embedded_BLW.dtype)
        embedded_BLW = embedded_BLW.masked_scatter(is_picture_BL1, joined_BPW)
        output = self.language(inputs_embeds=embedded_BLW, attention_mask=seen.real, use_cache=False)
        features: Tensor = output.last_hidden_state
        return features

    def picture_tokens(self, image_BCHW: Tensor) -> Tensor:
        """``[B, P, W]``."""
        patches_BPC = self.vision(image_BCHW).last_hidden_state
        if self.shuffle > 1:
            patches_BPC = shuffled(patches_BPC, self.shuffle)
        tokens: Tensor = self.connector(patches_BPC)
        return tokens


def shuffled(patches_BPC: Tensor, side: int) -> Tensor:
    """Squares of ``side`` by ``side`` patches of a square picture as one, row by row."""
    B, P, C = patches_BPC.shape
    whole = round(P**0.5)
    squares = patches_BPC.view(B, whole // side, side, whole // side, side, C)
    return squares.permute(0, 1, 3, 2, 4, 5).reshape(B, P // side**2, C * side**2)
