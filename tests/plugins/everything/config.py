"""What the policy reads, gives and looks at, and what stands between the dataset and its net. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tendon.config.schema import Count, PolicyConfig
from tendon.data.features import Feature, Kind
from tendon.loader.windows import Span, Windows
from tendon.policies.processing.images import Colour, Crop, Letterbox, ToFloat
from tendon.policies.processing.normalize import Normalize
from tendon.policies.processing.text import Tokenize
from tendon.policies.processing.transform import Transform

BUTTONS, CAMERA = "action.buttons", "action.camera"
TOKENS = "tokens"


@dataclass(frozen=True)
class EverythingConfig(PolicyConfig):
    """Cameras of any size, masks, a text, states; the reward in training alone."""

    model: ClassVar[str] = f"{__package__}.model:Everything"
    numerics: ClassVar[int] = 1

    width: Count = 16
    chunk: Count = 4
    execute: Count = 2
    image_size: Count = 16
    text_length: Count = 24

    def writes(self, features: Mapping[str, Feature]) -> tuple[str, ...]:
        """Buttons that are pressed or not, and how the view turns."""
        return (BUTTONS, CAMERA)

    def windows(self, features: Mapping[str, Feature]) -> Windows:
        """Two states, one picture; a chunk of actions; the rewards of the chunk are targets, which acting never sees."""
        seen = {
            key: Span((-1, 0) if feature.kind == "state" else (0,))
            for key, feature in features.items()
            if feature.kind not in ("action", "reward")
        }
        targets = dict.fromkeys((*of_kind(features, "reward"), *self.writes(features)), Span(tuple(range(self.chunk))))
        return Windows(seen | targets, seen, chunk=self.chunk, execute=self.execute, drop_last=1)

    def processing(self, features: Mapping[str, Feature]) -> tuple[Transform, ...]:
        """Pictures and masks to one small size, chance in training; numbers to about 1; the text to tokens."""
        cameras, masks = of_kind(features, "image"), of_kind(features, "mask")
        states = dict.fromkeys(of_kind(features, "state"), "mean_std")
        size = (self.image_size, self.image_size)
        return (
            ToFloat(keys=cameras),
            Crop(keys=(*cameras, *masks), scale=0.9, together=True),
            Letterbox(keys=(*cameras, *masks), size=size),
            Colour(keys=cameras, brightness=0.2, saturation=0.2, when="training"),
            Normalize(modes={**dict.fromkeys(cameras, "imagenet"), **states, BUTTONS: "binary", CAMERA: "min_max"}),
            *(Tokenize(key=key, into=TOKENS, length=self.text_length) for key in of_kind(features, "text")[:1]),
        )


def of_kind(features: Mapping[str, Feature], kind: Kind) -> tuple[str, ...]:
    """Keys of one kind."""
    return tuple(key for key, feature in features.items() if feature.kind == kind)
