"""Behaviour cloning with a conditional VAE: its keys and its window. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from tendon.config.schema import Conflict, Count, Layers, NotNegative
from tendon.data.features import Feature
from tendon.policies.behaviour_cloning.config import CloningConfig
from tendon.policies.windows import Windows, windows_of


@dataclass(frozen=True)
class BcVaeConfig(CloningConfig):
    """Behaviour cloning with a conditional VAE."""

    model: ClassVar[str] = "tendon.policies.bc_vae.model:BcVae"
    decides: ClassVar[tuple[str, ...]] = (*CloningConfig.decides, "prior")

    latent_dim: Count = 14
    latent_clip: NotNegative = 0.0
    kl_weight: NotNegative = 1.0
    conditioned_decoder: bool = True
    sum_reconstruction: bool = False
    prior: Literal["normal", "learned", "learned_conditioned"] = "normal"
    encoder_dims: Layers = (300, 400)
    decoder_dims: Layers = (300, 400)
    prior_dims: Layers = (300, 400)

    def conflicts(self) -> Iterator[Conflict]:
        """The decoder is the head."""
        yield from super().conflicts()
        if self.head != "deterministic":
            what, why = f"policy.head is {self.head}", "a VAE decodes its actions: chance comes from the latent"
            yield Conflict("head", what, why, "policy.head=deterministic")

    def without_effect(self) -> dict[str, str]:
        """A VAE has three nets of its own, one head and one loss."""
        idle = super().without_effect() | {"head": "policy=bc", "hidden_dims": "policy.decoder_dims=[300,400]"}
        idle |= {"num_modes": "policy=bc_gmm", "min_std": "policy=bc_gmm", "std_activation": "policy=bc_gmm"}
        idle |= {"low_noise_eval": "policy.latent_clip=0.5", "mask_padding": "policy=bc_rnn"}
        idle |= dict.fromkeys(("l2_weight", "l1_weight", "cos_weight"), "policy.kl_weight=1.0")
        if self.prior != "learned_conditioned":
            idle["prior_dims"] = "policy.prior=learned_conditioned"
        return idle

    def windows(self, features: Mapping[str, Feature]) -> Windows:
        """One observation in, one action out."""
        return windows_of(self.reads(features), self.writes(features), (0,), (0,))
