"""From the model's text to values."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall_server.policy.argument_text import _HUGE_MANTISSA, ArgumentsError, parse

DEPTH = 128

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize("text", ["", " ", "\n\t \r", "{}", " {} "])
def test_no_arguments_are_an_empty_object(text: str) -> None:
    assert parse(text, DEPTH) == {}


@given(st.dictionaries(st.text(), json_values), st.booleans())
def test_any_json_object_is_read_exactly(value: dict[str, Any], ascii_only: bool) -> None:
    parsed = parse(json.dumps(value, ensure_ascii=ascii_only), DEPTH)

    assert parsed == value
    assert json.dumps(parsed) == json.dumps(value)


@given(st.text())
def test_text_is_an_object_or_an_error(text: str) -> None:
    try:
        value = parse(text, DEPTH)
    except ArgumentsError:
        value = {}
    assert isinstance(value, dict)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[1]", "an array"),
        ("null", "null"),
        ("1", "a number"),
        ("1.5", "a number"),
        ("true", "a boolean"),
        ('"{}"', "a string"),
    ],
)
def test_only_an_object_is_a_set_of_arguments(text: str, kind: str) -> None:
    with pytest.raises(ArgumentsError, match=f"must be a JSON object, not {kind}"):
        parse(text, DEPTH)


@pytest.mark.parametrize(
    "text",
    ["{", '{"a": }', "{a: 1}", "{'a': 1}", '{"a": 1,}', '{"a": 1} x', '{"a": "\n"}', "\ufeff{}",
     '{"a": NaN}', '{"a": Infinity}', '{"a": -Infinity}', '{"a": "\\ud800", "b": NaN}',
     '{"a": "\\ud800",}', '{"a": "\\uZZZZ"}', '{"a": 01}', '{"a": "\\x"}'],
)  # fmt: skip
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ArgumentsError, match="not valid JSON"):
        parse(text, DEPTH)


@pytest.mark.parametrize(
    "number", [2**53 + 1, 2**63, 2**64, -(2**64), 10**400, -(10**4000)], ids=lambda n: f"{n:.0e}"
    if abs(n) < 10**300 else "huge",
)  # fmt: skip
def test_integers_of_any_size_are_exact(number: int) -> None:
    assert parse(json.dumps({"a": number}), DEPTH)["a"] == number


@pytest.mark.parametrize(
    "number",
    ["1e400", "-1e400", "1E+400", "1.0e309", "1" + "0" * 310 + ".0", "-" + "9" * 309 + ".5",
     "9" * 309 + "e0"],
)  # fmt: skip
def test_a_number_that_no_double_holds_is_refused(number: str) -> None:
    """It would become infinity, which is not JSON, without a word."""
    with pytest.raises(ArgumentsError, match="beyond the range of a double"):
        parse(f'{{"a": [{number}]}}', DEPTH)


@pytest.mark.parametrize("number", ["1e308", "1e-400", "0e400", "1.7976931348623157e308"])
def test_a_number_at_the_edge_of_a_double_is_read(number: str) -> None:
    assert parse(f'{{"a": {number}}}', DEPTH)["a"] == float(number)


def test_text_that_only_looks_like_a_huge_number_is_read() -> None:
    assert parse('{"a": "1e400"}', DEPTH) == {"a": "1e400"}


@pytest.mark.parametrize(
    ("escaped", "text"),
    [("\\ud800", "\ud800"), ("\\udfff\\ud800", "\udfff\ud800"), ("\\ud83d\\ude00", "😀"),
     ("\\u0000", "\0"), ("\\u2028\\u202e", "\u2028\u202e"), ("\\uffff", "\uffff")],
)  # fmt: skip
def test_odd_unicode_is_kept(escaped: str, text: str) -> None:
    assert parse(f'{{"{escaped}": "{escaped}"}}', DEPTH) == {text: text}


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_the_depth_is_bounded(opening: str, closing: str) -> None:
    inner = "1" if opening.startswith("{") else ""
    most = '{"a":' + opening * (DEPTH - 1) + inner + closing * (DEPTH - 1) + "}"
    more = '{"a":' + opening * DEPTH + inner + closing * DEPTH + "}"

    assert parse(most, DEPTH)
    with pytest.raises(ArgumentsError, match="at most 128 levels"):
        parse(more, DEPTH)


@pytest.mark.parametrize("surrogate", ["", '"\\ud800",'])
@pytest.mark.parametrize("depth", [300, 100_000])
def test_absurd_depth_is_an_error_and_no_crash(depth: int, surrogate: str) -> None:
    with pytest.raises(ArgumentsError, match="at most 128 levels"):
        parse('{"a":[' + surrogate + "[" * depth + "]" * depth + "]}", DEPTH)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert len(parse('{"a": [' + "[],{}," * 500 + "[]]}", DEPTH)["a"]) == 1001


def test_brackets_inside_text_are_not_depth() -> None:
    assert parse('{"a": "' + "[{" * 500 + '"}', DEPTH) == {"a": "[{" * 500}


def test_each_run_of_digits_is_counted_once() -> None:
    """Elsewhere than at its beginning a run of digits must not be looked at again."""
    text = "[" + ", ".join(["9" * 400] * 3) + "]"
    starts = [at for at in range(len(text)) if _HUGE_MANTISSA.match(text, at)]

    assert starts == [1, 403, 805]
