"""Behaviour cloning with a transformer: its keys and its window. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from tendon.config.schema import Conflict, Count, Share
from tendon.data.features import Feature
from tendon.policies.behaviour_cloning.config import CloningConfig
from tendon.policies.windows import Windows, windows_of


@dataclass(frozen=True)
class BcTransformerConfig(CloningConfig):
    """Behaviour cloning with a transformer."""

    model: ClassVar[str] = "tendon.policies.bc_transformer.model:BcTransformer"
    decides: ClassVar[tuple[str, ...]] = (*CloningConfig.decides, "supervise_all_steps", "pred_future_acs")

    context_length: Count = 10
    embed_dim: Count = 512
    num_layers: Count = 6
    num_heads: Count = 8
    emb_dropout: Share = 0.1
    attn_dropout: Share = 0.1
    block_output_dropout: Share = 0.1
    activation: Literal["gelu", "geglu"] = "gelu"
    position: Literal["parameter", "embedding", "sinusoidal"] = "parameter"
    supervise_all_steps: bool = False
    pred_future_acs: bool = False
    future_attention: Literal["full", "causal"] = "full"

    def conflicts(self) -> Iterator[Conflict]:
        """Heads share the embedding; future actions are one per token."""
        yield from super().conflicts()
        if self.embed_dim % self.num_heads:
            yield Conflict(
                "num_heads",
                f"policy.num_heads is {self.num_heads}, policy.embed_dim {self.embed_dim}",
                "each head takes an equal part of the embedding",
                f"policy.embed_dim={self.num_heads * max(1, self.embed_dim // self.num_heads)}",
            )
        if self.embed_dim % 2 and self.position == "sinusoidal":
            what, why = f"policy.embed_dim is {self.embed_dim}", "sines and cosines come in pairs"
            yield Conflict("embed_dim", what, why, f"policy.embed_dim={self.embed_dim + 1}")
        if self.pred_future_acs and not self.supervise_all_steps:
            what, why = "policy.supervise_all_steps is off", "policy.pred_future_acs gives every token its own action"
            yield Conflict("supervise_all_steps", what, why, "policy.supervise_all_steps=true")
        if self.head == "gaussian":
            what, why = "policy.head is gaussian", "the transformer policy has a deterministic or a mixture head"
            yield Conflict("head", what, why, "policy.head=gmm")

    def without_effect(self) -> dict[str, str]:
        """The head stands on the embedding; only a window of several actions has padding or a future."""
        idle = super().without_effect() | {"hidden_dims": "policy.embed_dim=512"}
        if not self.supervise_all_steps:
            idle["mask_padding"] = "policy.supervise_all_steps=true"
        if not self.pred_future_acs:
            idle["future_attention"] = "policy.pred_future_acs=true"
        return idle

    def windows(self, features: Mapping[str, Feature]) -> Windows:
        """The last ``context_length`` observations; the newest action, one per token, or the future ones."""
        past, future = tuple(range(1 - self.context_length, 1)), tuple(range(self.context_length))
        targets = future if self.pred_future_acs else past if self.supervise_all_steps else (0,)
        return windows_of(self.reads(features), self.writes(features), past, targets)
