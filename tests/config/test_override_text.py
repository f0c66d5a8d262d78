"""Values survive being written as overrides."""

from __future__ import annotations

from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from tendon.config.override_text import is_word, quote, shown, split_overrides

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["null", "True", "1e-3", "it's", "a\\'", "\\", "a,b", "[x", "a b", "${x}", "", "x=y", "#", "\n"])
)
NAMES = st.from_regex(r"[A-Za-z_]{1,5}", fullmatch=True).filter(is_word)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))
PARSER = OverridesParser.create()


@given(VALUES)
def test_a_quoted_value_reads_back_the_same(value: object) -> None:
    parsed = PARSER.parse_override(f"a.b={quote(value)}")
    assert not parsed.is_sweep_override()
    assert repr(parsed.value()) == repr(value)


@given(st.lists(VALUES, min_size=1, max_size=3))
def test_a_line_of_overrides_is_cut_where_it_was_joined(values: list[object]) -> None:
    overrides = tuple(f"a{index}={quote(value)}" for index, value in enumerate(values))
    assert split_overrides("  " + " ".join(overrides)) == overrides


def test_a_line_as_a_person_types_it() -> None:
    line = "experiment=lift_bc  policy.hidden_dims=[64, 64] data.uri='a b' env.options={a: 1}\n"
    assert split_overrides(line) == (
        "experiment=lift_bc",
        "policy.hidden_dims=[64, 64]",
        "data.uri='a b'",
        "env.options={a: 1}",
    )
    assert split_overrides("") == ()


def test_shown_is_short() -> None:
    assert shown([1, None, True, {"a": "b"}, ""]) == "[1, null, true, {a: b}, '']"
    assert len(shown("x" * 500)) == 80
