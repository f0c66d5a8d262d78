"""Presets for the windows of other data loaders, as deltas and edges: robomimic, LeRobot, MineStudio, GR00T. Pure.

Each returns Windows: ``Loader(dataset, split, robomimic_windows(...), batch_size, seed)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tendon.errors import ConfigError
from tendon.loader.windows import Edge, Windows


def robomimic_windows(
    keys: Sequence[str], frame_stack: int, seq_length: int, pad_frame_stack: bool = True, pad_seq_length: bool = True
) -> Windows:
    """Like robomimic's SequenceDataset: frame_stack - 1 + seq_length steps of every key; index frame_stack - 1 is t.

    Example:
        ``robomimic_windows(["action"], frame_stack=1, seq_length=10)`` has the deltas 0 to 9.
    """
    deltas = tuple(range(1 - frame_stack, seq_length))
    edge: tuple[Edge, Edge] = ("repeat" if pad_frame_stack else "none", "repeat" if pad_seq_length else "none")
    return Windows.of(dict.fromkeys(keys, deltas), dict.fromkeys(keys, edge))


def lerobot_windows(
    delta_timestamps: Mapping[str, Sequence[float]],
    fps: float,
    tolerance_s: float = 1e-4,
    drop_last: int = 0,
) -> Windows:
    """LeRobotDataset: times in seconds, multiples of 1/fps. Beyond an episode its edge frame is repeated and marked.

    Raises:
        ConfigError: a time is not a multiple of 1/fps.
    """
    deltas = {}
    for key, times in delta_timestamps.items():
        for time_s in times:
            if abs(round(time_s * fps) / fps - time_s) > tolerance_s:
                raise ConfigError(
                    f"a time in the window of {key} lies between two frames",
                    where=f"delta_timestamps of {key}",
                    why=f"{time_s} s is not a multiple of 1/{fps:g} s within {tolerance_s:g} s",
                    fix=f"write {round(time_s * fps) / fps:.6g}",
                )
        deltas[key] = tuple(round(time_s * fps) for time_s in times)
    return Windows.of(deltas, drop_last=drop_last)


def minestudio_windows(keys: Sequence[str], win_len: int, skip_frame: int = 1) -> Windows:
    """MineStudio's RawDataset 1.1: windows side by side from frame 0, zeros after the end of an episode.

    With ``skip_frame`` n every n-th frame is read and a window spans n * win_len frames. MineStudio then gives image, mask
    and timestamp different lengths, which is not imitated.
    """
    deltas = tuple(range(0, win_len * skip_frame, skip_frame))
    zero: tuple[Edge, Edge] = ("zero", "zero")
    return Windows.of(dict.fromkeys(keys, deltas), dict.fromkeys(keys, zero), stride=win_len * skip_frame)


def groot_windows(indices: Mapping[str, Sequence[int]], relative: Sequence[str] = ()) -> Windows:
    """GR00T's delta_indices: absolute keys and videos repeat the edge, relative keys (delta actions) are zero there."""
    edges: dict[str, Edge | tuple[Edge, Edge]] = {key: "zero" if key in relative else "repeat" for key in indices}
    deltas = {key: tuple(map(int, key_indices)) for key, key_indices in indices.items()}
    return Windows.of(deltas, edges)
