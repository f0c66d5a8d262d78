from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tendon.loader.windows import Span, Windows, spans_of, steps_of, window_table


def robomimic(frame_stack: int, seq_length: int) -> tuple[int, ...]:
    return tuple(range(-(frame_stack - 1), seq_length))


@pytest.mark.parametrize(
    ("frame_stack", "seq_length", "t", "item", "mask"),
    [
        (3, 1, 0, [0, 0, 0], [0, 0, 1]),
        (3, 1, 1, [0, 0, 1], [0, 1, 1]),
        (1, 3, 3, [3, 4, 4], [1, 1, 0]),
        (3, 3, 0, [0, 0, 0, 1, 2], [0, 0, 1, 1, 1]),
        (3, 3, 4, [2, 3, 4, 4, 4], [1, 1, 1, 0, 0]),
        (2, 4, 3, [2, 3, 4, 4, 4], [1, 1, 1, 0, 0]),
    ],
)
def test_robomimic_items(frame_stack: int, seq_length: int, t: int, item: list[int], mask: list[int]) -> None:
    """facts of robomimic's SequenceDataset, verified there on demonstrations of length 5."""
    steps, pad = steps_of(np.array([t]), np.array([5]), np.array(robomimic(frame_stack, seq_length)))
    assert steps[0].tolist() == item
    assert (~pad[0]).astype(int).tolist() == mask


@pytest.mark.parametrize(
    ("pad_frame_stack", "pad_seq_length", "count", "first"),
    [(True, True, 5, 0), (False, True, 5 - 2, 2), (True, False, 5 - 1, 0), (False, False, 5 - 3 - 2 + 2, 2)],
)
def test_robomimic_counts_without_padding(pad_frame_stack: bool, pad_seq_length: bool, count: int, first: int) -> None:
    before, after = "repeat" if pad_frame_stack else "none", "repeat" if pad_seq_length else "none"
    table = window_table([5] * 12, [Span(robomimic(3, 2), before, after)])  # type: ignore[arg-type]
    assert table.num_windows == 12 * count
    episodes, t = table.locate(np.arange(12 * count))
    assert episodes.tolist() == np.repeat(np.arange(12), count).tolist()
    assert t[:count].tolist() == list(range(first, first + count))


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.lists(st.integers(-4, 4), min_size=1, max_size=5),
    st.sampled_from(["repeat", "zero", "none"]),
    st.sampled_from(["repeat", "zero", "none"]),
)
def test_against_plain_loops(lengths: list[int], deltas: list[int], before: str, after: str) -> None:
    span = spans_of({"x": deltas}, {"x": (before, after)})["x"]  # type: ignore[dict-item]
    expected = []
    row0 = 0
    for episode, length in enumerate(lengths):
        for t in range(length):
            if before == "none" and any(t + d < 0 for d in deltas):
                continue
            if after == "none" and any(t + d >= length for d in deltas):
                continue
            steps = [min(max(t + d, 0), length - 1) for d in deltas]
            pads = [not 0 <= t + d < length for d in deltas]
            expected.append((episode, t, row0, steps, pads))
        row0 += length
    table = window_table(lengths, [span])
    episodes, t_B = table.locate(np.arange(table.num_windows))
    steps_BW, pad_BW = steps_of(t_B, table.length[episodes], np.array(span.deltas))
    rows = table.row0[episodes]
    got = list(zip(episodes.tolist(), t_B.tolist(), rows.tolist(), steps_BW.tolist(), pad_BW.tolist(), strict=True))
    assert got == expected


def test_training_and_acting_are_apart() -> None:
    windows = Windows(
        {"observation.a": Span((0, 1, 2)), "action": Span((0, 1, 2))}, {"observation.a": Span((0,))}, chunk=3, execute=2
    )
    assert windows.validation == {"observation.a": Span((0,)), "action": Span((0, 1, 2))}
    with pytest.raises(ValueError, match="up to now"):
        Windows({"observation.a": Span((0,))}, {"observation.a": Span((0, 1))})
    with pytest.raises(ValueError, match="2 of 1 predicted"):
        Windows({"action": Span((0,))}, execute=2)
    short = Windows.of({"a": (0,), "b": Span((1,), "zero")}, {"a": "none"}, stride=2, drop_last=1)
    assert short.training == {"a": Span((0,), "none", "none"), "b": Span((1,), "zero")}
    assert (short.stride, short.drop_last, short.acting) == (2, 1, {})
