"""Cameras and masks: sizes, places and values against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from tendon.data.features import Feature
from tendon.errors import ConfigError
from tendon.policies.processing.images import Colour, Crop, Letterbox, Resize, ToFloat, inner_size
from tendon.policies.processing.processing import AUGMENT_NOISE, Processing

CAMERA, OTHER, MASK = "observation.images.front", "observation.images.wrist", "observation.masks.front"


def features(height: int = 12, width: int = 20) -> dict[str, Feature]:
    return {
        CAMERA: Feature(CAMERA, "image", (height, width, 3), "uint8"),
        OTHER: Feature(OTHER, "image", (8, 8, 3), "uint8"),
        MASK: Feature(MASK, "mask", (height, width), "uint8"),
    }


def bytes_of(*shape: int, seed: int = 0, most: int = 256) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, most, shape, np.uint8))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.sampled_from(["unit", "signed"]))
def test_bytes_come_back_from_floats(batch: int, times: int, height: int, width: int, span: Any) -> None:
    camera = {CAMERA: Feature(CAMERA, "image", (height, width, 3), "uint8")}
    processing = Processing([ToFloat(keys=(CAMERA,), range=span)], camera)
    pixels = bytes_of(batch, times, height, width, 3)
    seen = processing({CAMERA: pixels})[CAMERA]
    expected = np.moveaxis(pixels.numpy(), -1, -3) / 255
    np.testing.assert_allclose(seen, expected if span == "unit" else expected * 2 - 1, atol=1e-6)
    assert torch.equal(processing.inverse({CAMERA: seen}, {})[CAMERA], pixels)


def test_resize_is_torchs_with_or_without_antialias_and_masks_do_not_blend() -> None:
    pixels, mask = bytes_of(2, 2, 12, 20, 3), bytes_of(2, 2, 12, 20, most=2)
    for antialias in (True, False):
        processing = Processing(
            [ToFloat(keys=(CAMERA,)), Resize(keys=(CAMERA, MASK), size=(6, 5), antialias=antialias)], features()
        )
        assert processing.after[CAMERA].shape == (6, 5, 3)
        assert processing.after[MASK].shape == (6, 5)
        seen = processing({CAMERA: pixels, MASK: mask})
        floats = pixels.movedim(-1, -3).flatten(0, 1).float() / 255
        expected = interpolate(floats, (6, 5), mode="bilinear", antialias=antialias)
        torch.testing.assert_close(seen[CAMERA].flatten(0, 1), expected)
        rows, columns = np.arange(6) * 12 // 6, np.arange(5) * 20 // 5
        np.testing.assert_array_equal(seen[MASK], mask.numpy()[:, :, rows][..., columns])
        assert seen[MASK].dtype == torch.uint8


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    size=st.tuples(st.integers(4, 30), st.integers(4, 30)),
    side=st.sampled_from(["middle", "front", "end"]),
)
def test_a_letterbox_keeps_the_proportions(height: int, width: int, size: tuple[int, int], side: Any) -> None:
    """Openpi: one factor for both sides, sizes cut to integers, the rest filled half before and half behind."""
    camera = {CAMERA: Feature(CAMERA, "image", (height, width, 3), "uint8")}
    processing = Processing(
        [ToFloat(keys=(CAMERA,), range="signed"), Letterbox(keys=(CAMERA,), size=size, fill=-1.0, side=side)], camera
    )
    white = torch.full((1, 1, height, width, 3), 255, dtype=torch.uint8)
    seen = processing({CAMERA: white})[CAMERA][0, 0, 0].numpy()
    assert seen.shape == size
    ratio = max(width / size[1], height / size[0])
    inner = max(1, int(height / ratio)), max(1, int(width / ratio))
    before = [{"middle": spare // 2, "front": 0, "end": spare}[side] for spare in np.subtract(size, inner)]
    expected = np.full(size, -1.0)
    expected[before[0] : before[0] + inner[0], before[1] : before[1] + inner[1]] = 1
    np.testing.assert_allclose(seen, expected, atol=1e-5)
    assert inner_size(height, width, size) == inner


def test_a_crop_is_the_middle_without_chance_and_drawn_with_it() -> None:
    pixels, mask = bytes_of(3, 2, 12, 20, 3), bytes_of(3, 2, 12, 20, most=2)
    crop = Crop(keys=(CAMERA, MASK), size=(5, 7), together=True)
    processing = Processing([crop], features(), times={CAMERA: 2, MASK: 2})
    assert processing.num_draws == 2
    still = processing({CAMERA: pixels, MASK: mask})
    assert torch.equal(still[CAMERA], pixels[:, :, 3:8, 6:13])
    assert torch.equal(still[MASK], mask[:, :, 3:8, 6:13])
    draws = torch.tensor([[0.0, 0.0], [0.999999, 0.999999], [0.51, 0.3]])
    moved = processing({CAMERA: pixels, MASK: mask, AUGMENT_NOISE: draws})
    for row, (top, left) in enumerate([(0, 0), (7, 13), (int(0.51 * 8), int(0.3 * 14))]):
        assert torch.equal(moved[CAMERA][row], pixels[row, :, top : top + 5, left : left + 7])
        assert torch.equal(moved[MASK][row], mask[row, :, top : top + 5, left : left + 7])
    acting = processing({CAMERA: pixels, AUGMENT_NOISE: draws}, "acting")
    assert torch.equal(acting[CAMERA], still[CAMERA])


def test_every_place_of_a_crop_can_be_drawn_and_frames_can_differ() -> None:
    camera = {CAMERA: Feature(CAMERA, "image", (6, 6, 1), "uint8")}
    processing = Processing([Crop(keys=(CAMERA,), size=(4, 4), per_frame=True)], camera, times={CAMERA: 2})
    assert processing.num_draws == 4
    pixels = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6, 1).expand(500, 2, 6, 6, 1)
    draws = torch.rand(500, 4, generator=torch.Generator().manual_seed(0))
    corners = processing({CAMERA: pixels, AUGMENT_NOISE: draws})[CAMERA][:, :, 0, 0, 0]
    assert sorted(set(corners.flatten().tolist())) == [0, 1, 2, 6, 7, 8, 12, 13, 14]
    assert (corners[:, 0] != corners[:, 1]).any()


def test_a_scaled_crop_is_a_part_of_each_camera() -> None:
    processing = Processing([Crop(keys=(CAMERA, OTHER), scale=0.95)], features(100, 40))
    assert processing.after[CAMERA].shape == (95, 38, 3)
    assert processing.after[OTHER].shape == (7, 7, 3)
    assert processing.num_draws == 4


def test_colours_change_in_training_alike_in_all_cameras_of_a_window() -> None:
    transforms = [ToFloat(keys=(CAMERA, OTHER)), Colour(keys=(CAMERA, OTHER), brightness=0.5, when="training")]
    processing = Processing(transforms, features())
    grey = {key: torch.full((2, 1, *features()[key].shape), 100, dtype=torch.uint8) for key in (CAMERA, OTHER)}
    draws = torch.tensor([[0.75, 0, 0, 0], [0.0, 0, 0, 0]])
    seen = processing(grey | {AUGMENT_NOISE: draws})
    for key in (CAMERA, OTHER):
        torch.testing.assert_close(seen[key][:, 0, 0, 0, 0], torch.tensor([1.25, 0.5]) * 100 / 255)
    for still in (processing(grey), processing(grey | {AUGMENT_NOISE: draws}, "acting")):
        torch.testing.assert_close(still[CAMERA], torch.full_like(still[CAMERA], 100 / 255))


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        ([Resize(keys=(CAMERA,), size=(4, 4))], "its images are bytes"),
        ([Crop(keys=(CAMERA,), size=(13, 4))], "it is 12 x 20, the crop 13 x 4"),
        ([ToFloat(keys=(MASK,))], "it is a mask"),
        ([Colour(keys=(CAMERA,))], "put to_float in front"),
        ([Crop(keys=("observation.images.no",), size=(2, 2))], "does not fit observation.images.no"),
    ],
)
def test_what_does_not_fit_is_refused(transforms: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Processing(transforms, features())


def test_a_camera_of_another_size_is_refused_by_name() -> None:
    processing = Processing([ToFloat(keys=(CAMERA,))], features())
    with pytest.raises(ConfigError, match=CAMERA):
        processing({CAMERA: bytes_of(1, 1, 12, 21, 3)})
