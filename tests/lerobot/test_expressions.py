"""The safe evaluator of delta_timestamps: what LeRobot's files write is evaluated, everything else is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from tendon.errors import ConfigError
from tendon.lerobot.expressions import evaluate

VALUES = {"fps": 10, "policy.n_obs_steps": 2, "policy.horizon": 16, "policy.chunk_size": 100, "policy.name": "act"}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("[i / ${fps} for i in range(3)]", [0.0, 0.1, 0.2]),
        ("[i / ${fps} for i in range(1 - ${policy.n_obs_steps}, 1)]", [-0.1, 0.0]),
        ("[i / ${fps} for i in range(${policy.chunk_size})]", [i / 10 for i in range(100)]),
        (
            "[i / ${fps} for i in range(1 - ${policy.n_obs_steps}, 1 - ${policy.n_obs_steps} + ${policy.horizon})]",
            [i / 10 for i in range(-1, 15)],
        ),
        ("[-0.1, 0, .1]", [-0.1, 0.0, 0.1]),
        ("[0.1 * i for i in range(6) if i % 2 == 0]", [0.0, 0.2, 0.4]),
        ("[j for i in range(2) for j in [i, i + 10]]", [0.0, 10.0, 1.0, 11.0]),
        ("[0] + [1]", [0.0, 1.0]),
        ("list(reversed(range(2)))", [1.0, 0.0]),
        ("[round(i / 3) for i in range(4)]", [0.0, 0.0, 1.0, 1.0]),
        ("[]", []),
    ],
)
def test_what_the_files_write_is_evaluated(text: str, numbers: list[float]) -> None:
    assert evaluate(text, VALUES, "here") == pytest.approx(numbers)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("__import__('os').system('true')", "is not called here"),
        ("().__class__", "Attribute is not evaluated here"),
        ("[i.real for i in range(2)]", "Attribute is not evaluated here"),
        ("open('x')", "open is not called here"),
        ("[x for x in 'abc']", "is no number"),
        ("(lambda: 1)()", "is not called here"),
        ("[i for i in range(10**9)]", "more than 10000 values"),
        ("[i for i in range(9999) for j in range(9999)]", "more than 10000 values"),
        ("9**9**9", "the power is too large"),
        ("1e300 * 1e300", "a number is too large"),
        ("[fps]", "fps is not a name of a comprehension"),
        ("[i / ${nothing} for i in range(2)]", "there is no ${nothing}"),
        ("[${policy.name}]", "is no number"),
        ("[1 for (a, b) in [1]]", "a comprehension has one name"),
        ("[1, [2]]", "is no number"),
        ("[1 / 0]", "ZeroDivisionError"),
        ("import os", "SyntaxError"),
        ("[i for i in range(2", "SyntaxError"),
        ("-" * 100 + "1", "nested too deeply"),
        ("[" + "0," * 2000 + "]", "letters"),
        ("f'{1}'", "JoinedStr is not evaluated here"),
        ("[True]", "is no number"),
        ("max(range(3), key=abs)", "max is not called here"),
        ("(x := 1)", "NamedExpr is not evaluated here"),
    ],
)
def test_everything_else_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        evaluate(text, VALUES, "training.delta_timestamps.action")
    problem: Any = caught.value.problems[0]
    assert words in problem.why
    assert problem.where.startswith("training.delta_timestamps.action=")
