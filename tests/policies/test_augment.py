from __future__ import annotations

import torch

from tendon.policies.parts.augment import Augmentation, augmented, to_float


def images() -> torch.Tensor:
    return torch.randint(0, 256, (4, 2, 12, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_nothing_asked_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(augmented(images(), Augmentation(), generator), to_float(images()))
    assert to_float(images()).shape == (4, 2, 3, 12, 16)


def test_crops_are_parts_of_the_picture_and_the_same_for_all_frames_of_a_window() -> None:
    given = torch.arange(12 * 16, dtype=torch.uint8).reshape(12, 16, 1).expand(4, 2, 12, 16, 3)
    found = augmented(given, Augmentation(crop=(8, 10)), torch.Generator().manual_seed(3)) * 255
    corners = set()
    for window in found.round().long():
        assert torch.equal(window[0], window[1])
        row, column = divmod(int(window[0, 0, 0, 0]), 16)
        corners.add((row, column))
        assert torch.equal(window[0, 0], torch.arange(192).reshape(12, 16)[row : row + 8, column : column + 10])
    assert len(corners) > 1
    middle = augmented(given, Augmentation(crop=(8, 10)), None) * 255
    assert int(middle[0, 0, 0, 0, 0].round()) == 2 * 16 + 3


def test_colours() -> None:
    asked = Augmentation(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)
    one, again = (augmented(images(), asked, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, augmented(images(), asked, torch.Generator().manual_seed(8)))
    assert one.min() >= 0
    assert one.max() <= 1
    grey = torch.full((2, 1, 4, 4, 3), 100, dtype=torch.uint8)
    turned = augmented(grey, Augmentation(hue=0.5), torch.Generator().manual_seed(1))
    assert torch.allclose(turned, to_float(grey), atol=2e-3)  # grey has no hue to turn
    assert augmented(images(), Augmentation(resize=(6, 8)), None).shape == (4, 2, 3, 6, 8)
