"""The window rules of other readers, beside their documented tables."""

from __future__ import annotations

import numpy as np
import pytest

from tendon.errors import ConfigError
from tendon.loader.window_presets import groot_windows, lerobot_windows, minestudio_windows, robomimic_windows
from tendon.loader.windows import Span, Windows, steps_of, window_table


def items_of(windows: Windows, length: int, key: str) -> list[tuple[list[int], list[bool]]]:
    """Steps and pads of every window of one episode."""
    spans = windows.training
    table = window_table([length], spans.values(), windows.stride, windows.drop_last)
    _, t = table.locate(np.arange(table.num_windows))
    steps, pads = steps_of(t, np.full(len(t), length), np.array(spans[key].deltas))
    return list(zip(steps.tolist(), pads.tolist(), strict=True))


@pytest.mark.parametrize(
    ("frame_stack", "seq_length", "t", "item", "mask"),
    [
        (3, 1, 0, "0 0 0", "0 0 1"),
        (3, 1, 1, "0 0 1", "0 1 1"),
        (1, 3, 3, "3 4 4", "1 1 0"),
        (3, 3, 0, "0 0 0 1 2", "0 0 1 1 1"),
        (3, 3, 4, "2 3 4 4 4", "1 1 1 0 0"),
        (2, 4, 3, "2 3 4 4 4", "1 1 1 0 0"),
    ],
)
def test_robomimics_table(frame_stack: int, seq_length: int, t: int, item: str, mask: str) -> None:
    steps, pads = items_of(robomimic_windows(["x"], frame_stack, seq_length), 5, "x")[t]
    assert steps == [int(each) for each in item.split()]
    assert [not pad for pad in pads] == [each == "1" for each in mask.split()]


def test_robomimics_counts() -> None:
    for n, fs, sl in ((9, 3, 4), (5, 1, 5), (7, 7, 1)):
        assert len(items_of(robomimic_windows(["x"], fs, sl), n, "x")) == n
        assert len(items_of(robomimic_windows(["x"], fs, sl, pad_frame_stack=False), n, "x")) == n - (fs - 1)
        assert len(items_of(robomimic_windows(["x"], fs, sl, pad_seq_length=False), n, "x")) == n - (sl - 1)
        assert len(items_of(robomimic_windows(["x"], fs, sl, False, False), n, "x")) == n - fs - sl + 2


def test_lerobots_policies() -> None:
    diffusion = {"observation.state": [-0.1, 0.0], "action": [i / 10 for i in range(-1, 15)]}
    windows = lerobot_windows(diffusion, fps=10, drop_last=7)
    assert windows.training == {"observation.state": Span((-1, 0)), "action": Span(tuple(range(-1, 15)))}
    items = items_of(windows, 20, "action")
    assert len(items) == 20 - 7
    assert items[0][0] == [0, *range(15)]
    assert items[0][1] == [True] + [False] * 15
    assert items[12][1] == [False] * 9 + [True] * 7  # t 12: 11 ... 19, then 7 beyond the end
    with pytest.raises(ConfigError, match=r"write 0\.1"):
        lerobot_windows({"action": [0.12]}, fps=10)
    assert lerobot_windows({"action": [i / 30 for i in range(100)]}, fps=30).training["action"] == Span(
        tuple(range(100))
    )


def test_minestudios_windows() -> None:
    windows = minestudio_windows(["x"], 4)
    items = items_of(windows, 10, "x")
    assert len(items) == 3  # ceil(10 / 4)
    assert [steps for steps, _ in items] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 9, 9]]
    assert items[2][1] == [False, False, True, True]
    assert windows.training["x"] == Span((0, 1, 2, 3), "zero", "zero")
    assert [steps for steps, _ in items_of(minestudio_windows(["x"], 2, skip_frame=2), 8, "x")] == [[0, 2], [4, 6]]


def test_groots_indices() -> None:
    windows = groot_windows({"video": [-1, 0], "state": [0], "action": range(16)}, relative=["action"])
    assert {key: span.after for key, span in windows.training.items()} == {
        "video": "repeat",
        "state": "repeat",
        "action": "zero",
    }
    steps, pads = items_of(windows, 20, "action")[10]
    assert steps == [*range(10, 20), *[19] * 6]
    assert pads == [False] * 10 + [True] * 6  # GR00T's action_pad: base + delta >= length
    assert items_of(windows, 20, "video")[0][0] == [0, 0]
