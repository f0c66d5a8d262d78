"""The statistics that LeRobot's policies are saved with, as the numbers of our normalisation and back.

LeRobot keeps them as float32 in the files of its processors (0.4 and newer), or among the weights (up to 0.3). Ours are five
rows per feature; what is written back gives the same five rows when it is read again, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.errors import DataError
from tendon.policies.base import Policy
from tendon.policies.processing.normalize import IMAGENET, STATISTICS, Mode, Normalize, affine
from tendon.policies.processing.processing import Processing

Statistics = dict[str, dict[str, Tensor]]  # feature, then statistic
MODES: Mapping[str, Mode] = {
    "MEAN_STD": "mean_std",
    "MIN_MAX": "min_max",
    "QUANTILES": "q99",
    "IDENTITY": "identity",
}
THEIR_MODES = {ours: theirs for theirs, ours in MODES.items()}
NAMES = ("mean", "std", "min", "max", "q01", "q99")
BUFFER = "buffer_"
INPUTS, TARGETS, OUTPUTS = "normalize_inputs.", "normalize_targets.", "unnormalize_outputs."


def filled(policy: Policy, statistics: Statistics) -> None:
    """Give the policy's normalisation the numbers of these statistics."""
    processing = policy.processing
    assert processing is not None
    known = {key: _feature_stats(values) for key, values in statistics.items() if key in processing.features}
    made = Processing(processing.transforms, processing.features, known, times=processing.times)
    processing.load_state_dict(made.state_dict())


def statistics_of(policy: Policy) -> Statistics:
    """What LeRobot would have to be given so that it scales as this policy does."""
    processing = policy.processing
    assert processing is not None
    found: Statistics = {}
    for index, transform in enumerate(processing.transforms):
        if not isinstance(transform, Normalize):
            continue
        for key, rows in processing.numbers(index).items():
            mode = transform.modes[key]
            axes = (1, 1) if processing.features[key].kind == "image" else ()
            names = STATISTICS["mean_std" if mode == "imagenet" else mode]
            pair = _inverse(mode, rows.double().cpu().numpy())
            found[key] = {name: values.reshape(-1, *axes) for name, values in zip(names, pair, strict=True)}
    return found


def image_scaling(statistics: Statistics, cameras: tuple[str, ...], mode: Mode) -> str:
    """ImageNet's and the one onto [-1, 1] have names of their own; others are numbers."""
    if mode != "mean_std":
        return mode
    means = [statistics[key]["mean"].flatten().tolist() for key in cameras]
    stds = [statistics[key]["std"].flatten().tolist() for key in cameras]

    def are(mean: tuple[float, ...], std: tuple[float, ...]) -> bool:
        pair = [np.array(mean, np.float32).tolist()], [np.array(std, np.float32).tolist()]
        return (means, stds) == (pair[0] * len(cameras), pair[1] * len(cameras))

    if are(*IMAGENET):
        return "imagenet"
    return "signed" if are((0.5,) * 3, (0.5,) * 3) else mode


def from_flat(tensors: Mapping[str, Tensor]) -> Statistics:
    """``feature.statistic`` to tensors, as a processor's file has them."""
    found: Statistics = {}
    for name, tensor in tensors.items():
        key, _, statistic = name.rpartition(".")
        found.setdefault(key, {})[statistic] = tensor
    return found


def to_flat(statistics: Statistics) -> dict[str, Tensor]:
    """The inverse of ``from_flat``."""
    return {f"{key}.{name}": tensor for key, values in statistics.items() for name, tensor in values.items()}


def from_buffers(tensors: Mapping[str, Tensor], features: Mapping[str, Feature], where: str) -> Statistics:
    """Of the layout with statistics among the weights.

    Raises:
        DataError: one belongs to no feature, or the action's differ between their two places.
    """
    keys = {BUFFER + key.replace(".", "_"): key for key in features}
    found: Statistics = {}
    for name, tensor in tensors.items():
        _, buffer, statistic = name.split(".")
        if buffer not in keys:
            raise DataError(
                f"{name} belongs to no feature",
                where=where,
                why=f"the features are {', '.join(features)}",
                fix="use config.json and model.safetensors of one checkpoint",
            )
        before = found.setdefault(keys[buffer], {}).setdefault(statistic, tensor)
        if not torch.equal(before, tensor):
            raise DataError(
                f"{name} contradicts its double",
                where=where,
                why="targets are scaled in another way than outputs are scaled back",
                fix="use a whole checkpoint",
            )
    return found


def to_buffers(statistics: Statistics, actions: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    """The inverse of ``from_buffers``."""
    for key, values in statistics.items():
        for place in (TARGETS, OUTPUTS) if key in actions else (INPUTS,):
            for name, tensor in values.items():
                yield f"{place}{BUFFER}{key.replace('.', '_')}.{name}", tensor.clone()


def _feature_stats(values: Mapping[str, Tensor]) -> FeatureStats:
    """What is not known is no number."""
    first = next(iter(values.values())).flatten()
    unknown = torch.full_like(first, float("nan"))
    return FeatureStats(0, *(tuple(values.get(name, unknown).flatten().double().tolist()) for name in NAMES))


def _inverse(mode: Mode, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Two statistics that give these rows; float32 where that holds, else float64."""
    shift, scale, _, _, back_scale = rows
    first, second = shift, back_scale
    if mode == "mean_std":
        second = _between(scale - 1e-8, back_scale)
    elif mode != "imagenet":
        second = shift + 2 * scale
        for near in (second.astype(np.float32), *_neighbours(second.astype(np.float32))):
            if _same(mode, first, near.astype(np.float64), rows):
                second = near.astype(np.float64)
                break
    single = second.astype(np.float32)
    if mode == "imagenet" or _same(mode, first, single.astype(np.float64), rows):
        return torch.from_numpy(first).float(), torch.from_numpy(single)
    return torch.from_numpy(first.copy()), torch.from_numpy(second.copy())


def _neighbours(values: np.ndarray) -> Iterator[np.ndarray]:
    yield np.nextafter(values, np.float32(np.inf))
    yield np.nextafter(values, np.float32(-np.inf))


def _same(mode: Mode, first: np.ndarray, second: np.ndarray, rows: np.ndarray) -> bool:
    return bool(np.array_equal(affine(mode, "lerobot", (first, second)).astype(np.float32), rows.astype(np.float32)))


def _between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The middle of what rounds to both in float32."""
    half_one, half_other = (
        np.spacing(np.abs(values).astype(np.float32)).astype(np.float64) / 2 for values in (one, other)
    )
    low, high = np.maximum(one - half_one, other - half_other), np.minimum(one + half_one, other + half_other)
    middle = (low + high) / 2
    plain = other.astype(np.float32).astype(np.float64)
    return np.where((plain >= low) & (plain <= high), plain, middle)
