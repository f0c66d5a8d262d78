"""Features: what the steps of an episode hold, by key, with a kind. Dataset, policy and simulator meet in these keys.

The vocabulary of keys is LeRobot's: ``observation.state``, ``observation.images.<camera>``, ``observation.masks.<name>``,
``observation.<anything>``, ``action`` or ``action.<part>``, ``next.reward``, ``task``. The kind says what the values mean;
nobody guesses it from a name's ending or from the length of a shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["state", "image", "depth", "mask", "text", "category", "action", "reward", "flag"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DECLARED = "tendon"  # under this name, foreign files hold what their format has no words for
INTEGER_KINDS = ("text", "category")  # delivered as int64: indexes into a table, not quantities
TASK = "task"  # what the robot is asked to do; text

REWARD = "next.reward"
FLAGS = ("next.done", "next.success")
ACTIONS = ("action", "action_abs", "action_dict")  # what stands before the first dot; the last two are robomimic's


@dataclass(frozen=True)
class Feature:
    """One quantity per step.

    ``shape`` is that of one step: () for a scalar, (D,) for a vector, (H, W, C) for an image, (H, W) for a mask. ``names``
    name the dimensions of a vector, or the values of a category. A text is an index into the dataset's table of texts.

    Example:
        ``Feature("action.gripper", "action", (1,), "float32", ("open",))``
    """

    key: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: str
    names: tuple[str, ...] = ()
    source_dtype: str = ""  # what the source held, where values were cast on the way

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.key} has the kind {self.kind!r}; the kinds are {', '.join(KINDS)}")

    @property
    def dim(self) -> int:
        """How many numbers a step has."""
        return math.prod(self.shape)

    @property
    def is_integer(self) -> bool:
        """Whether batches hold it as int64."""
        return self.kind in INTEGER_KINDS


def column(
    key: str,
    dtype: str,
    shape: tuple[int, ...] = (),
    source_dtype: str = "",
    *,
    kind: Kind | None = None,
    names: tuple[str, ...] = (),
) -> Feature:
    """A feature that is stored as numbers; the vocabulary says its kind unless ``kind`` does."""
    return Feature(key, kind or kind_in_vocabulary(key), shape, dtype, names, source_dtype or dtype)


def kind_in_vocabulary(key: str) -> Kind:
    """The kind that a key alone means. Format version 1 stores no kinds: there, this is the kind."""
    if key.partition(".")[0] in ACTIONS:
        return "action"
    if key == REWARD:
        return "reward"
    return "flag" if key in FLAGS else "state"


def is_action_part(key: str) -> bool:
    """Whether a key names one of several actions."""
    return key.startswith("action.")
