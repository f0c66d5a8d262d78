"""ROCKET-1: its keys and its windows. No torch.

``backbone`` to ``mem_len`` are the arguments of the tutorial's RocketPolicy, under its names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from tendon.config.schema import Conflict, Count, Must, NotNegative, PolicyConfig, Positive, Share, Text
from tendon.data.features import Feature, Kind
from tendon.loader.windows import Span, Windows
from tendon.policies.rocket1.actions import ActionCodec, CameraBins
from tendon.policies.rocket1.features import (
    AIM,
    BUTTONS,
    CAMERA,
    INTERACTION,
    TARGET,
    TARGETS_PREFIX,
    TRACK_IDS,
    TRACK_INTERACTIONS,
)

TINY = "tiny"
TIMM_WEIGHTS = "timm"
STANDARD: Mapping[Kind, str] = {"image": CAMERA, "mask": TARGET, "category": INTERACTION}
Pixels = Annotated[tuple[Count, ...], Must("height and width", lambda value: len(value) == 2, "[224,224]")]


@dataclass(frozen=True)
class Rocket1Config(PolicyConfig):
    """A video policy that is shown what to do it to: a mask of the target and the kind of interaction."""

    model: ClassVar[str] = "tendon.policies.rocket1.model:Rocket1"
    decides: ClassVar[tuple[str, ...]] = ("deterministic",)

    backbone: Text = "efficientnet_b0.ra_in1k"
    backbone_weights: str = ""
    mask_channel_init: Literal["zeros", "timm"] = "zeros"
    image_size: Pixels = (224, 224)
    hiddim: Count = 1024
    num_heads: Count = 8
    num_layers: Count = 4
    timesteps: Count = 128
    mem_len: Count = 128
    episode_continuous_batch: bool = True
    pool_positions: bool = False
    num_targets: Count = 1
    prompt_dropout: Share = 0.0
    loss_reduction: Literal["sum_time", "mean_valid"] = "sum_time"
    nucleus_prob: Share = 0.85
    deterministic: bool = False
    camera_maxval: Positive = 10.0
    camera_binsize: Positive = 2.0
    camera_mu: NotNegative = 10.0

    def without_effect(self) -> dict[str, str]:
        """Who takes the most probable action draws none."""
        return {"nucleus_prob": "policy.deterministic=false"} if self.deterministic else {}

    def conflicts(self) -> Iterator[Conflict]:
        """Heads share the width; a transformer's pictures are cut into whole patches; bins are symmetric."""
        if self.hiddim % self.num_heads:
            yield Conflict(
                "num_heads",
                f"policy.hiddim is {self.hiddim}, policy.num_heads {self.num_heads}",
                "every head takes an equal part of the width",
                f"policy.hiddim={-(-self.hiddim // self.num_heads) * self.num_heads}",
            )
        if family_of(self.backbone) == "vit_base_patch16_224" and any(size % 16 for size in self.image_size):
            yield Conflict(
                "image_size",
                f"policy.image_size is {list(self.image_size)}, policy.backbone {self.backbone}",
                "the net cuts pictures into patches of 16 x 16",
                f"policy.image_size={[max(16, size // 16 * 16) for size in self.image_size]}",
            )
        if abs(self.camera_maxval / self.camera_binsize - round(self.camera_maxval / self.camera_binsize)) > 1e-6:
            yield Conflict(
                "camera_binsize",
                f"policy.camera_maxval is {self.camera_maxval}, policy.camera_binsize {self.camera_binsize}",
                "bins lie on both sides of the one in the middle, which keeps the view",
                "policy.camera_maxval=10.0 policy.camera_binsize=2.0",
            )
        if not self.nucleus_prob and not self.deterministic:
            what, why = "policy.nucleus_prob is 0", "nothing is left to draw from"
            yield Conflict("nucleus_prob", what, why, "policy.nucleus_prob=0.85, or policy.deterministic=true")

    @property
    def codec(self) -> ActionCodec:
        """Buttons and camera as classes."""
        return ActionCodec(CameraBins(self.camera_maxval, self.camera_binsize, self.camera_mu))

    @property
    def tracks(self) -> tuple[str, ...]:
        """What training chooses a target from, where there are several: masks, their interactions and their numbers."""
        if self.num_targets == 1:
            return ()
        masks = (f"{TARGETS_PREFIX}{k}" for k in range(self.num_targets))
        return (*masks, TRACK_INTERACTIONS, TRACK_IDS)

    def reads(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """Picture, mask and interaction: those of MineStudio's names, or the only ones of their kinds."""
        return tuple(key for kind in STANDARD if (key := one_of(features, kind)) is not None)

    def writes(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """Buttons and camera."""
        return (BUTTONS, AIM)

    def windows(self, features: Mapping[str, Feature]) -> Windows:
        """``timesteps`` steps, windows side by side, zeros behind the end; acting sees the newest step and remembers."""
        seen = self.reads(features)
        steps = Span(tuple(range(self.timesteps)), "zero", "zero")
        shown = self.tracks or seen
        training = dict.fromkeys((*seen[:1], *shown, *self.writes(features)), steps)
        return Windows(
            training, dict.fromkeys(seen, Span((0,))), stateful=self.episode_continuous_batch, stride=self.timesteps
        )


def one_of(features: Mapping[str, Feature], kind: Kind) -> str | None:
    """The feature of a kind that the policy takes."""
    keys = [key for key, feature in features.items() if feature.kind == kind]
    return STANDARD[kind] if STANDARD[kind] in keys else (keys[0] if len(keys) == 1 else None)


def family_of(backbone: str) -> str:
    """The architecture, without the source of its weights: ``timm/vit_base_patch16_224.dino`` is ``vit_base_patch16_224``."""
    return timm_name(backbone).partition(".")[0]


def timm_name(backbone: str) -> str:
    """As timm takes it; MineStudio's configurations write ``timm/`` before it."""
    return backbone.removeprefix("timm/")
