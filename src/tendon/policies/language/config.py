"""What policies share that are told what to do by a text: its encoder, what of them is tuned, LoRA, augmentation. No torch.

Names of the ``tune_*`` and ``lora_*`` keys are InternManip's. A family lists this class before the one it adds language to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from tendon.config.schema import Conflict, CountOrNone, ImageSize, Must, PolicyConfig, Positive, Share
from tendon.data.features import TASK, Feature
from tendon.policies.parts.text_sources import TEXT_ENCODERS, Encoder, TextSource
from tendon.policies.processing.images import Colour, Crop, Resize, ToFloat
from tendon.policies.processing.normalize import Normalize
from tendon.policies.processing.parts import MODES, NormalizeParts
from tendon.policies.processing.text import Tokenize
from tendon.policies.processing.transform import Transform
from tendon.policies.weight_spec import WeightSpec

TOKENS = "tokens"
NET = "text_encoder.net"  # the module that published weights fill
CropScale = Annotated[float, Must("more than 0 and at most 1", lambda value: 0 < value <= 1, "0.95")]
Hue = Annotated[float, Must("from 0 to 0.5", lambda value: 0 <= value <= 0.5, "0.08")]


@dataclass(frozen=True)
class LanguageConfig(PolicyConfig):
    """The keys."""

    text_encoder: Encoder = "minilm"
    text_weights: str = ""
    text_weights_sha256: str = ""
    text_weights_revision: str = ""
    text_tokenizer: str = ""
    text_length: Annotated[int | None, Must("1 or more, or null", lambda value: value is None or value > 0, "64")] = (
        None
    )
    text_sizes: dict[str, Any] = field(default_factory=dict)
    text_dropout: Share = 0.1
    resize_shape: ImageSize = (224, 224)
    crop_scale: CropScale = 0.95
    brightness: Share = 0.3
    contrast: Share = 0.4
    saturation: Share = 0.5
    hue: Hue = 0.08
    normalization: dict[str, Any] = field(default_factory=dict)
    tune_llm: bool = False
    tune_visual: bool = True
    tune_projector: bool = True
    tune_diffusion_model: bool = True
    lora_rank: CountOrNone = 0
    lora_alpha: Positive = 16
    lora_dropout: Share = 0.1
    gradient_checkpointing: bool = False

    @property
    def source(self) -> TextSource:
        """The encoder, with what was named instead of its own."""
        own = TEXT_ENCODERS[self.text_encoder]
        return replace(
            own,
            length=self.text_length or own.length,
            tokenizer=self.text_tokenizer or own.tokenizer,
            uri=self.text_weights or own.uri,
            sha256=self.text_weights_sha256 if self.text_weights else own.sha256,
        )

    def reads(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """As without language, and the text."""
        return (*super().reads(features), *((TASK,) if TASK in features else ()))

    def base_weights(self) -> Mapping[str, WeightSpec]:
        """The text encoder's; nothing where it begins at random."""
        source = self.source
        if source.begins_at_random or not source.uri:
            return {}
        return {NET: WeightSpec(source.uri, source.sha256, self.text_weights_revision)}

    def conflicts(self) -> Iterator[Conflict]:
        """Weights and tokenizer are named, something learns, and parts of a vector have modes."""
        yield from super().conflicts()
        source = self.source
        if not source.begins_at_random and not (source.uri and source.tokenizer):
            lacking = "text_weights" if not source.uri else "text_tokenizer"
            yield Conflict(
                lacking,
                f"policy.text_encoder={self.text_encoder}, and policy.{lacking} is empty",
                "its files are on a hub only: name a copy of them that this machine or the store has",
                f"policy.{lacking}=FOLDER, or policy.text_encoder=minilm",
            )
        for spec in self.base_weights().values():
            yield from spec.conflicts("text_weights_sha256")
        if source.begins_at_random and self.lora_rank:
            what, why = (
                f"policy.lora_rank is {self.lora_rank}",
                f"text_encoder={self.text_encoder} has no weights to adapt",
            )
            yield Conflict("lora_rank", what, why, "policy.lora_rank=0")
        if self.lora_rank and not self.tune_llm:
            what, why = (
                f"policy.lora_rank is {self.lora_rank} with policy.tune_llm=false",
                "adapters lie in the text encoder",
            )
            yield Conflict("lora_rank", what, why, "policy.tune_llm=true, or policy.lora_rank=0")
        tuned = (self.tune_llm, self.tune_visual, self.tune_projector, self.tune_diffusion_model)
        if not any(tuned):
            what, why = "every policy.tune_* is false", "nothing would learn"
            yield Conflict("tune_projector", what, why, "policy.tune_projector=true")
        yield from self._part_conflicts()

    def without_effect(self) -> dict[str, str]:
        """Keys of adapters that are not there."""
        idle = super().without_effect()
        return idle if self.lora_rank else idle | dict.fromkeys(("lora_alpha", "lora_dropout"), "policy.lora_rank=16")

    def processing(self, features: Mapping[str, Feature]) -> tuple[Transform, ...]:
        """As without language, parts of vectors scaled by themselves, the text as tokens."""
        parts = {key: tuple(map(tuple, parts)) for key, parts in self.normalization.items() if key in features}
        transforms: list[Transform] = []
        for transform in super().processing(features):  # type: ignore[misc]
            if parts and isinstance(transform, Normalize):
                modes = {key: mode for key, mode in transform.modes.items() if key not in parts}
                transform = replace(transform, modes=modes)
            transforms.append(transform)
        if parts:
            transforms.append(NormalizeParts(parts=parts))
        source = self.source
        tokenize = Tokenize(into=TOKENS, length=source.length, tokenizer=source.tokenizer)
        return (*transforms, *((tokenize,) if TASK in features else ()))

    def camera_transforms(self, cameras: tuple[str, ...]) -> tuple[Transform, ...]:
        """Cropped to a share, resized, other colours; one draw for all cameras. When acting: the middle, no colours."""
        if not cameras:
            return ()
        made: list[Transform] = [ToFloat(keys=cameras)]
        if self.crop_scale < 1:
            made.append(Crop(keys=cameras, scale=self.crop_scale, together=True))
        if self.resize_shape:
            height, width = self.resize_shape
            made.append(Resize(keys=cameras, size=(height, width)))
        colours = {name: getattr(self, name) for name in ("brightness", "contrast", "saturation", "hue")}
        if any(colours.values()):
            made.append(Colour(keys=cameras, **colours))
        return tuple(made)

    def _part_conflicts(self) -> Iterator[Conflict]:
        example = "policy.normalization={action: [[0, 1, binary], [1, 7, mean_std]]}"
        for key, parts in self.normalization.items():
            listed = isinstance(parts, (list, tuple)) and parts
            if not listed or not all(isinstance(part, (list, tuple)) and len(part) == 3 for part in parts):
                what, why = f"policy.normalization.{key} is {parts!r}", "it is a list of [from, to, mode]"
                yield Conflict("normalization", what, why, example)
                continue
            for start, end, mode in parts:
                whole = all(isinstance(at, int) and not isinstance(at, bool) for at in (start, end))
                if mode not in MODES or not whole:
                    what = f"policy.normalization.{key} has [{start}, {end}, {mode}]"
                    yield Conflict("normalization", what, f"two whole numbers and one of {', '.join(MODES)}", example)
