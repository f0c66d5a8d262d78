"""The list comprehensions that LeRobot's configurations write as texts, evaluated without running any of them.

``"[i / ${fps} for i in range(1 - ${policy.n_obs_steps}, 1)]"``: numbers, ``+ - * / // % **``, lists, comprehensions over
``range``, comparisons, and a few functions of numbers. Everything else is refused by name.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tendon.errors import ConfigError

MOST_VALUES = 10_000
MOST_LETTERS = 2_000
MOST_DEPTH = 40
LARGEST = 1e15
BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{"range": range, "list": list, "reversed": reversed},
    **{"abs": abs, "min": min, "max": max, "round": round, "int": int, "float": float, "sum": sum},
}
ITERABLES = (range, list, reversed)
INTERPOLATION = re.compile(r"\$\{([\w.]+)\}")


class RefusedError(Exception):
    """Why a part of an expression is not evaluated."""


def evaluate(text: str, values: Mapping[str, Any], where: str) -> list[float]:
    """The numbers of an expression.

    Args:
        text: Python's notation, with ``${key}`` for values of the configuration.
        values: what the keys stand for; numbers.
        where: the key that holds the expression, for errors.

    Raises:
        ConfigError: it is no list of numbers, or uses what is not evaluated here.

    Example:
        ``evaluate("[i / ${fps} for i in range(2)]", {"fps": 10}, "here")`` is ``[0.0, 0.1]``.
    """
    try:
        if len(text) > MOST_LETTERS:
            raise RefusedError(f"it has {len(text)} letters")
        plain = INTERPOLATION.sub(lambda found: repr(_value(found[1], values)), text)
        made = _Evaluator().value(ast.parse(plain.strip(), mode="eval").body, {}, 0)
        numbers = list(made) if isinstance(made, ITERABLES) else [made]
        for number in numbers:
            _number(number)
    except (
        RefusedError,
        SyntaxError,
        ValueError,
        ZeroDivisionError,
        OverflowError,
        TypeError,
        RecursionError,
    ) as error:
        why = str(error) if isinstance(error, RefusedError) else f"{type(error).__name__}: {error}"
        fix = "a list of numbers, such as [i / ${fps} for i in range(16)]"
        raise ConfigError("the expression is not evaluated", where=f"{where}={text[:200]}", why=why, fix=fix) from None
    return [float(number) for number in numbers]


def _value(key: str, values: Mapping[str, Any]) -> float:
    if key not in values:
        raise RefusedError(f"there is no ${{{key}}}")
    value: float = _number(values[key])
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RefusedError(f"{str(value)[:40]!r} is no number")
    if value != value or abs(value) > LARGEST:
        raise RefusedError("a number is too large")
    return value


class _Evaluator:
    """Walks the tree of an expression; counts what it makes."""

    def __init__(self) -> None:
        self.left = MOST_VALUES

    def value(self, node: ast.expr, names: Mapping[str, Any], depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise RefusedError("it is nested too deeply")
        depth += 1
        if isinstance(node, ast.Constant):
            return _number(node.value)
        if isinstance(node, ast.Name):
            if node.id not in names:
                raise RefusedError(f"{node.id} is not a name of a comprehension")
            return names[node.id]
        if isinstance(node, ast.UnaryOp) and type(node.op) in UNARY:
            return UNARY[type(node.op)](_number(self.value(node.operand, names, depth)))
        if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
            return self._binary(node, names, depth)
        if isinstance(node, (ast.List, ast.Tuple)):
            return [self._counted(self.value(one, names, depth)) for one in node.elts]
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            return [self.value(node.elt, inner, depth) for inner in self._rounds(node.generators, names, depth)]
        if isinstance(node, ast.Call):
            return self._call(node, names, depth)
        if isinstance(node, ast.Compare):
            return self._compare(node, names, depth)
        raise RefusedError(f"{type(node).__name__} is not evaluated here")

    def _binary(self, node: ast.BinOp, names: Mapping[str, Any], depth: int) -> Any:
        left, right = self.value(node.left, names, depth), self.value(node.right, names, depth)
        if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
            return [self._counted(one) for one in (*left, *right)]
        left, right = _number(left), _number(right)
        if isinstance(node.op, ast.Pow) and (abs(right) > 64 or abs(left) > 1e6):
            raise RefusedError("the power is too large")
        return _number(BINARY[type(node.op)](left, right))

    def _call(self, node: ast.Call, names: Mapping[str, Any], depth: int) -> Any:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
            name = ast.unparse(node.func) if not isinstance(node.func, ast.Name) else node.func.id
            raise RefusedError(f"{name[:60]} is not called here; {', '.join(FUNCTIONS)} are")
        given = [self.value(one, names, depth) for one in node.args]
        if node.func.id == "range":
            made = range(*(operator.index(one) for one in given))
            if len(made) > MOST_VALUES:
                raise RefusedError(f"more than {MOST_VALUES} values")
            return made
        return FUNCTIONS[node.func.id](*given)

    def _compare(self, node: ast.Compare, names: Mapping[str, Any], depth: int) -> bool:
        sides = [_number(self.value(one, names, depth)) for one in (node.left, *node.comparators)]
        for compare, left, right in zip(node.ops, sides, sides[1:], strict=False):
            if type(compare) not in COMPARED:
                raise RefusedError(f"{type(compare).__name__} is not evaluated here")
            if not COMPARED[type(compare)](left, right):
                return False
        return True

    def _rounds(
        self, loops: list[ast.comprehension], names: Mapping[str, Any], depth: int
    ) -> Iterator[Mapping[str, Any]]:
        if not loops:
            yield names
            return
        loop, *others = loops
        if not isinstance(loop.target, ast.Name) or loop.is_async:
            raise RefusedError("a comprehension has one name")
        over = self.value(loop.iter, names, depth)
        if not isinstance(over, ITERABLES):
            raise RefusedError("a comprehension goes over a range or a list")
        for one in over:
            inner = {**names, loop.target.id: self._counted(one)}
            if all(self.value(test, inner, depth) for test in loop.ifs):
                yield from self._rounds(others, inner, depth)

    def _counted(self, value: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise RefusedError(f"more than {MOST_VALUES} values")
        return value
