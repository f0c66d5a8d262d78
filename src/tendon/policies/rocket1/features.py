"""The names in which MineStudio's data, ROCKET-1 and a world meet, without torch: picture, mask, interaction, buttons, camera.

A converted MineStudio dataset has these features; an environment's feature map names the same ones. ``action.buttons`` is 0
or 1 for each of ``BUTTON_NAMES`` in this order; ``action.camera`` is pitch (down is positive) and yaw (right is positive)
in degrees that the view turns by in one step.
"""

from __future__ import annotations

from tendon.data.features import Feature
from tendon.data.sources.minestudio import (
    AIM,
    BUTTONS,
    CAMERA,
    INTERACTION,
    INTERACTIONS,
    NO_TARGET,
    TARGET,
    TARGETS_PREFIX,
    TRACK_IDS,
    TRACK_INTERACTIONS,
)

__all__ = [
    "AIM",
    "BUTTONS",
    "BUTTON_NAMES",
    "CAMERA",
    "CAMERA_NAMES",
    "FPS",
    "IMAGE_SIZE",
    "INTERACTION",
    "INTERACTIONS",
    "INTERACTION_IDS",
    "NO_TARGET",
    "TARGET",
    "TARGETS_PREFIX",
    "TRACK_IDS",
    "TRACK_INTERACTIONS",
    "features_of_world",
]

FPS = 20.0
IMAGE_SIZE = (224, 224)  # of the picture and of the mask, as the network sees them
BUTTON_NAMES = (
    "attack", "back", "forward", "jump", "left", "right", "sneak", "sprint", "use", "drop", "inventory",
    *(f"hotbar.{n}" for n in range(1, 10)),
)  # fmt: skip
CAMERA_NAMES = ("pitch", "yaw")
INTERACTION_IDS = {name: number for number, name in enumerate(INTERACTIONS)}  # NO_TARGET: nothing is aimed at


def features_of_world(
    image_size: tuple[int, int] = IMAGE_SIZE, mask_size: tuple[int, int] | None = None
) -> dict[str, Feature]:
    """What a world shows the policy and takes from it: the features of a dataset recorded in it.

    Args:
        image_size: height and width of the picture.
        mask_size: of the mask; the policy scales it to the picture. None: as the picture.

    Example:
        ``features_of_world((96, 96))["action.buttons"].names[0] == "attack"``
    """
    features = (
        Feature(CAMERA, "image", (*image_size, 3), "uint8"),
        Feature(TARGET, "mask", mask_size or image_size, "uint8"),
        Feature(INTERACTION, "category", (), "int8", INTERACTIONS),
        Feature(BUTTONS, "action", (len(BUTTON_NAMES),), "uint8", BUTTON_NAMES),
        Feature(AIM, "action", (len(CAMERA_NAMES),), "float32", CAMERA_NAMES),
    )
    return {feature.key: feature for feature in features}
