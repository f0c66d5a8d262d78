"""The keys that the policies which imitate share: heads, losses, normalisers, encoders. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from tendon.config.schema import (
    Conflict,
    Count,
    CountOrNone,
    ImageSize,
    Must,
    Normalization,
    NotNegative,
    PolicyConfig,
    Positive,
    Share,
)
from tendon.data.features import Feature
from tendon.policies.windows import in_order


@dataclass(frozen=True)
class CloningConfig(PolicyConfig):
    """What the robomimic family shares: heads, losses, normalisers, encoders. A field with a default came later."""

    decides: ClassVar[tuple[str, ...]] = ("head", "fixed_std", "action_normalization")

    hidden_dims: tuple[Count, ...]
    head: Literal["deterministic", "gaussian", "gmm"]
    num_modes: Count
    min_std: Positive
    low_noise_eval: bool
    l2_weight: NotNegative
    l1_weight: NotNegative
    cos_weight: NotNegative
    observation_normalization: Normalization
    action_normalization: Normalization
    std_activation: Literal["softplus", "exp"] = "softplus"
    fixed_std: bool = False
    init_std: Positive = 0.1
    bounded: Literal["auto", "always"] = "auto"
    mask_padding: bool = False
    vision_backbone: Literal["resnet18", "resnet34"] = "resnet18"
    pretrained: bool = False
    num_keypoints: CountOrNone = 32
    feature_dim: Count = 64
    crop_size: CountOrNone = 0
    resize: ImageSize = ()
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Must("from 0 to 0.5", lambda value: 0 <= value <= 0.5, "0.05")] = 0.0

    def conflicts(self) -> Iterator[Conflict]:
        """A deterministic head learns from its three losses only; a crop is a part of the image."""
        if self.resize and self.crop_size > min(self.resize):
            yield Conflict(
                "crop_size",
                f"policy.crop_size is {self.crop_size}, policy.resize {list(self.resize)}",
                "images are resized first, and the crop is a part of them",
                f"policy.crop_size={min(self.resize)}",
            )
        if self.head == "deterministic" and self.l2_weight == self.l1_weight == self.cos_weight == 0:
            yield Conflict(
                "l2_weight",
                "policy.l2_weight, policy.l1_weight and policy.cos_weight are all 0",
                "the loss of a deterministic head is their weighted sum: nothing would be learnt",
                "policy.l2_weight=1.0",
            )

    def without_effect(self) -> dict[str, str]:
        """Keys of the heads that are not chosen, and the tanh that is there anyway."""
        idle: dict[str, str] = {}
        if self.head != "gmm":
            idle["num_modes"] = "policy.head=gmm"
        if self.head != "gaussian":
            idle |= dict.fromkeys(("fixed_std", "init_std"), "policy=bc_gaussian")
        if self.head == "deterministic":
            idle |= dict.fromkeys(("min_std", "low_noise_eval", "std_activation"), "policy.head=gmm")
        else:
            idle |= dict.fromkeys(("l2_weight", "l1_weight", "cos_weight"), "policy.head=deterministic")
        if self.head == "gaussian" and self.fixed_std:
            idle["std_activation"] = "policy.fixed_std=false"
        if self.action_normalization != "mean_std":
            idle["bounded"] = "policy.action_normalization=mean_std"
        return idle

    def reads(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """Every observation and goal, sorted by its bare name, goals last: the order in which robomimic joins them."""
        return in_order([key for key, feature in features.items() if feature.kind != "action"])
