"""What a transform is: a frozen pair of forward and inverse over batches. Importing this needs no torch.

Legend of shapes: B batch, T time, D numbers of a vector; bytes of a camera [B, T, H, W, C], floats [B, T, C, H, W]; mask
[B, T, H, W]. A transform changes the keys that it names and leaves the others; a key that a batch lacks is passed over,
since acting shows observations only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tendon.data.features import Feature
from tendon.data.stats import FeatureStats
from tendon.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

NUMERICS = 1

Phase = Literal["training", "acting"]
Features = Mapping[str, Feature]
Stats = Mapping[str, FeatureStats]
Numbers = Mapping[str, np.ndarray]
NONE: Mapping[str, Any] = {}


@dataclass(frozen=True, kw_only=True)
class Transform:
    """One pair. Its fields are plain values, saved as JSON; what statistics give it are its ``numbers``, saved as tensors."""

    kind: ClassVar[str] = ""

    when: Literal["always", "training", "acting"] = "always"

    def after(self, features: Features) -> Features:
        """The features behind it.

        Raises:
            ConfigError: one of them is missing or does not fit, by name.
        """
        return features

    def stats_after(self, features: Features, stats: Stats) -> Stats:
        """Statistics of what comes out, for the transforms behind it; ``features`` are those in front."""
        return stats

    def numbers(self, features: Features, stats: Stats | None) -> Numbers:
        """What the statistics say, as float32 by name; without them zeros of the same shapes, to be loaded."""
        return {}

    def tables(self, texts: Sequence[str]) -> Numbers:
        """What the table of texts says."""
        return {}

    def num_draws(self, features: Features, times: Mapping[str, int]) -> int:
        """Numbers of chance for each window; ``times``: steps of each key in training."""
        return 0

    def forward(
        self, batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor], draws_BN: Tensor | None, phase: Phase
    ) -> Mapping[str, Tensor]:
        """The keys of the batch that change, or come to it; ``draws_BN``: numbers in [0, 1), None where nothing is random."""
        raise NotImplementedError

    def inverse(
        self, actions: Mapping[str, Tensor], numbers: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """The keys of ``actions`` that change on the way back; ``batch``: the observation, processed."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """As written to processing.json."""
        return {"kind": self.kind, **asdict(self)}


def frozen(value: Any) -> Any:
    """A value as JSON gives it back, with tuples for its lists."""
    if isinstance(value, list):
        return tuple(frozen(item) for item in value)
    return {key: frozen(item) for key, item in value.items()} if isinstance(value, dict) else value


def needed(features: Features, key: str, transform: str) -> Feature:
    """The feature of that name.

    Raises:
        ConfigError: there is none.
    """
    if key not in features:
        raise misfit(transform, key, f"there is {', '.join(features)}", "name a feature of the dataset")
    return features[key]


def misfit(transform: str, key: str, why: str, fix: str) -> ConfigError:
    """A feature that a transform cannot take."""
    return ConfigError(f"{transform} does not fit {key}", where=f"processing of {key}", why=why, fix=fix)


def reshaped(
    features: Features, key: str, shape: tuple[int, ...], dtype: str = "", names: tuple[str, ...] = ()
) -> Features:
    """The features with another shape of one."""
    one = features[key]
    return {**features, key: replace(one, shape=shape, dtype=dtype or one.dtype, names=names)}
