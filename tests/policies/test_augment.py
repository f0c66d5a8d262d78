from __future__ import annotations

import torch

from tendon.policies.parts.augment import Augmentation, augmented, to_float


def images() -> torch.Tensor:
    return torch.randint(0, 256, (4, 2, 12, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def draws(asked: Augmentation, seed: int, num_windows: int = 4, num_times: int = 2) -> torch.Tensor:
    return torch.rand(num_windows, asked.num_draws(num_times), generator=torch.Generator().manual_seed(seed))


def test_nothing_asked_changes_nothing() -> None:
    asked = Augmentation()
    assert asked.num_draws(2) == 0
    assert torch.equal(augmented(images(), asked, draws(asked, 1)), to_float(images()))
    assert to_float(images()).shape == (4, 2, 3, 12, 16)


def test_crops_are_parts_of_the_picture() -> None:
    given, asked = (
        torch.arange(12 * 16, dtype=torch.uint8).reshape(12, 16, 1).expand(4, 2, 12, 16, 3),
        Augmentation(crop=8),
    )
    found = (augmented(given, asked, draws(asked, 3)) * 255).round().long()
    for frame in found.flatten(0, 1):
        row, column = divmod(int(frame[0, 0, 0]), 16)
        assert torch.equal(frame[0], torch.arange(192).reshape(12, 16)[row : row + 8, column : column + 8])
    middle = augmented(given, asked) * 255
    assert int(middle[0, 0, 0, 0, 0].round()) == 2 * 16 + 4


def test_crops_begin_where_upstream_lets_them() -> None:
    given, asked = torch.arange(36.0).view(1, 1, 1, 6, 6).expand(64, 1, 1, 6, 6), Augmentation(crop=4)
    corners = set(augmented(given, asked, draws(asked, 0, 64, 1))[:, 0, 0, 0, 0].int().tolist())
    assert corners == {0, 1, 6, 7}  # upstream never draws the last place of each side
    assert augmented(given, asked)[0, 0, 0, 0, 0].item() == 7


def test_colours_change_alike_in_all_frames_of_a_window_whatever_part_of_the_batch_it_is_in() -> None:
    asked = Augmentation(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1, crop=8)
    drawn = draws(asked, 7)
    whole = augmented(images(), asked, drawn)
    assert torch.equal(whole[2:], augmented(images()[2:], asked, drawn[2:]))
    assert not torch.equal(whole, augmented(images(), asked, draws(asked, 8)))
    assert whole.min() >= 0
    assert whole.max() <= 1
    colours = Augmentation(brightness=0.2, hue=0.1)
    still = images()[:, :1].expand(4, 2, 12, 16, 3)
    changed = augmented(still, colours, draws(colours, 1))
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert not torch.equal(changed, to_float(still))


def test_grey_has_no_hue_to_turn_and_sizes_change() -> None:
    grey, hue = torch.full((2, 1, 4, 4, 3), 100, dtype=torch.uint8), Augmentation(hue=0.5)
    assert torch.allclose(augmented(grey, hue, draws(hue, 1, 2, 1)), to_float(grey), atol=2e-3)
    assert augmented(images(), Augmentation(resize=(6, 8))).shape == (4, 2, 3, 6, 8)
    assert Augmentation(resize=(6, 8)).size(12, 16) == (6, 8)
    assert Augmentation(resize=(6, 8), crop=5).size(12, 16) == (5, 5)
