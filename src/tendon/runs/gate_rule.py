"""What a run asks of its winner before it may become the champion. Fields of the form and of the plan. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from tendon.errors import Problem, nearest

Test = Literal["fixed", "anytime"]


@dataclass(frozen=True)
class GateRule:
    """The defaults are those of the form."""

    floor: float = 0.5  # a first champion's interval begins at least here
    margin: float = 0.0  # by how much of the success rate a challenger must be better
    alpha: float = 0.05  # chance that any challenger that is not better ever replaces one champion
    test: Test = "fixed"  # fixed: all episodes, then one look; anytime: a look after each, stops when it can tell

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the values, in the words of the form."""
        for name, value, low, high, example in (
            ("gate_floor", self.floor, 0.0, 1.0, "0.5"),
            ("gate_margin", self.margin, 0.0, 0.99, "0.0"),
            ("gate_alpha", self.alpha, 0.0, 0.5, "0.05"),
        ):
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not low <= value <= high or (name == "gate_alpha" and value == 0):
                why = f"it is a share from {low:g} to {high:g}" + (", more than 0" if name == "gate_alpha" else "")
                yield Problem(f"{name} is {value}", "parameters", why, f"{name}={example}")
        if self.test not in get_args(Test):
            near = nearest(str(self.test), get_args(Test), 0.4) or "fixed"
            why = "fixed looks once, after all episodes; anytime looks after each and stops when it can tell"
            yield Problem(f"gate_test is {self.test!r}", "parameters", why, f"gate_test={near}")
