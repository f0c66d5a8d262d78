"""The values of one robomimic file, defaults filled in, while they are turned into ours; used by robomimic.py only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tendon.config.foreign.robomimic_keys import ANY, DEFAULTS, FREE
from tendon.errors import Problem, nearest

PLAIN = "leave it at its default, or write the run in tendon's own configuration"


@dataclass
class Reader:
    """The effective values of one file, what they became, and what is wrong."""

    place: str
    given: dict[str, Any]
    for_weights: bool  # of a checkpoint: how it was trained plays no part
    overrides: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def __call__(self, key: str) -> Any:
        """The value of a key, upstream's default where the file has none."""
        value = self.given.get(key, DEFAULTS.get(key))
        return None if value is ANY else value

    def refuse(self, what: str, why: str, fix: str = PLAIN) -> None:
        """Add a problem."""
        self.problems.append(Problem(what, self.place, why, fix))

    def refuse_unless(self, key: str, allowed: Any, why: str) -> None:
        """A key whose other values have no counterpart."""
        if self(key) != allowed and not (allowed is None and self(key) in ([], {}, ())):
            self.refuse(f"{key} is {json.dumps(self(key))}", why)

    def note(self, text: str) -> None:
        """Add what the user should know."""
        self.notes.append(text)


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        elif not (isinstance(value, Mapping) and f"{prefix}{key}" not in DEFAULTS):
            yield f"{prefix}{key}", value


def upgraded(given: dict[str, Any]) -> dict[str, Any]:
    """v0.1's modality ``image`` and flat encoder keys, as later versions write them."""
    for group in ("obs", "goal"):
        old, new = f"observation.modalities.{group}.image", f"observation.modalities.{group}.rgb"
        if given.get(old):
            given[new] = [*given.get(new, ()), *given[old]]
        given.pop(old, None)
    renamed = {
        "visual_core": "rgb.core_kwargs.backbone_class",
        "visual_feature_dimension": "rgb.core_kwargs.feature_dimension",
        "visual_core_kwargs.pretrained": "rgb.core_kwargs.backbone_kwargs.pretrained",
        "visual_core_kwargs.input_coord_conv": "rgb.core_kwargs.backbone_kwargs.input_coord_conv",
        "spatial_softmax_kwargs.num_kp": "rgb.core_kwargs.pool_kwargs.num_kp",
        "obs_randomizer_class": "rgb.obs_randomizer_class",
        "obs_randomizer_kwargs.crop_height": "rgb.obs_randomizer_kwargs.crop_height",
        "obs_randomizer_kwargs.crop_width": "rgb.obs_randomizer_kwargs.crop_width",
    }
    for old, new in renamed.items():
        if f"observation.encoder.{old}" in given:
            given.setdefault(f"observation.encoder.{new}", given.pop(f"observation.encoder.{old}"))
    if given.pop("observation.encoder.use_spatial_softmax", True) is False:
        given["observation.encoder.rgb.core_kwargs.pool_class"] = None
    return given


def check_keys(read: Reader) -> None:
    """Refuse keys that no version has, and values of another kind than the default's."""
    for key, value in read.given.items():
        if key.startswith(FREE):
            continue
        if key not in DEFAULTS:
            if key.startswith("algo.") and read.for_weights:
                continue
            near = nearest(key, DEFAULTS, 0.7) or nearest(key.rsplit(".", 1)[-1], DEFAULTS, 0.6)
            fix = f"{near} (the nearest)" if near else "leave it out"
            read.refuse(f"unknown key {key}", "no version of robomimic's bc has it", fix)
            continue
        default = DEFAULTS[key]
        if default is ANY or default is None or value is None:
            continue
        numbers = (int, float)
        fits = (
            isinstance(value, (list, tuple))
            if isinstance(default, tuple)
            else isinstance(value, bool)
            if isinstance(default, bool)
            else isinstance(value, numbers) and not isinstance(value, bool)
            if isinstance(default, numbers)
            else isinstance(value, str)
        )
        if not fits:
            kind = {tuple: "a list", bool: "true or false", int: "a number", float: "a number", str: "text"}
            why = f"it is {kind[type(default)]}; upstream would take it and fail later"
            read.refuse(f"{key} is {json.dumps(value)}", why, f"such as {json.dumps(default)}")
