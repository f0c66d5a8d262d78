"""VPT's action space: the golden vectors of MineStudio 1.1.6, and every class there and back."""

from __future__ import annotations

import numpy as np
import pytest

from tendon.policies.rocket1.actions import CODEC, NUM_BUTTON_CLASSES, STRIDES, ActionCodec, CameraBins
from tendon.policies.rocket1.features import BUTTON_NAMES, features_of_world

GOLDEN = [  # run with MineStudio 1.1.6
    ((), (0, 0), (0, 60)),
    (("attack",), (0, 0), (4, 60)),
    (("forward",), (0, 0), (288, 60)),
    (("inventory",), (5, 5), (8640, 60)),
    ((), (0, 10), (1, 65)),
    ((), (10, 0), (1, 115)),
    (("forward", "back"), (0, 0), (0, 60)),
    (("left", "right"), (0, 0), (0, 60)),
    (("sprint", "sneak"), (0, 0), (64, 60)),
    (("hotbar.1", "hotbar.3"), (0, 0), (2592, 60)),
    ((), (0.3, 0.3), (1, 72)),
    (("forward", "attack"), (-1, 2), (293, 51)),
]


def pressed(*names: str) -> np.ndarray:
    return np.array([name in names for name in BUTTON_NAMES], np.uint8)


@pytest.mark.parametrize(("names", "camera", "classes"), GOLDEN)
def test_golden_vectors(names: tuple[str, ...], camera: tuple[float, float], classes: tuple[int, int]) -> None:
    buttons, aim = CODEC.encode(pressed(*names), np.array(camera))
    assert (int(buttons), int(aim)) == classes


def test_strides_and_bins_are_vpts() -> None:
    assert STRIDES == (864, 288, 96, 32, 16, 8, 4, 2, 1)
    bins = CameraBins()
    assert bins.degrees(np.arange(5, 11)) == pytest.approx([0, 0.6154, 1.6095, 3.2154, 5.8095, 10], abs=1e-4)
    edges = np.array([0.271, 1.053, 2.317, 4.358, 7.655])
    assert (bins.bins(edges - 0.002) == [5, 6, 7, 8, 9]).all()
    assert (bins.bins(edges + 0.002) == [6, 7, 8, 9, 10]).all()
    assert (bins.bins(-edges - 0.002) == [4, 3, 2, 1, 0]).all()


def test_a_decoded_class() -> None:
    buttons, camera = CODEC.decode(np.array(1), np.array(54))
    assert not buttons.any()
    assert camera == pytest.approx([-0.6154, 10], abs=1e-4)
    buttons, camera = CODEC.decode(np.array(8640), np.array(54))
    assert [name for name, on in zip(BUTTON_NAMES, buttons, strict=True) if on] == ["inventory"]
    assert camera == pytest.approx([-0.6154, 10], abs=1e-4)  # VPT's decoder lets it through
    assert not CODEC.decode(np.array(4), np.array(54))[1].any()  # a combination that says the camera stays


def test_every_class_comes_back() -> None:
    classes = np.arange(NUM_BUTTON_CLASSES)
    moves = (classes % 2 == 1) & (classes < NUM_BUTTON_CLASSES - 1)
    camera = np.where(moves, (classes * 7) % 121, 60)
    camera = np.where(moves & (camera == 60), 61, camera)
    buttons, aim = CODEC.encode(*CODEC.decode(classes, camera))
    assert (buttons == classes).all()
    assert (aim == camera).all()


def test_other_bins() -> None:
    linear = ActionCodec(CameraBins(max_degrees=180, bin_size=15, mu=0))
    assert linear.camera.num_bins == 25
    buttons, aim = linear.encode(pressed(), np.array([0.0, 30.0]))
    assert int(aim) == linear.camera.null + 2
    assert linear.decode(buttons, aim)[1] == pytest.approx([0, 30])


def test_the_features_of_a_world_are_those_of_the_data() -> None:
    features = features_of_world((96, 96))
    assert set(features) == {
        "observation.images.image", "observation.masks.target", "observation.interaction", "action.buttons",
        "action.camera",
    }  # fmt: skip
    assert features["action.buttons"].names == BUTTON_NAMES
    assert features["observation.masks.target"].shape == (96, 96)
