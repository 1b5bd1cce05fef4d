"""The grammar of references in arguments."""

import json
import string
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall_server.core import references
from sidecall_server.core.references import Reference, UnresolvedError

NOT_REFERENCES = [
    "$15",
    "costs $15 or $ref",
    "${x}",
    "${HOME}/ref:a",
    "$ref",
    "$ref:",
    "$ref:#/a",
    "$ref: a",
    "$ref:a b",
    " $ref:a",
    "$ref:a ",
    "see $ref:a",
    "$ref:a#b",
    "$Ref:a",
    "ref:a",
    "${ref:}",
    "${ref: a}",
    "${ref:a b}",
    "${ref:a",
    "{ref:a}",
    "${ref:a#b}",
    "$",
    "$$",
    "",
]


def ids_in(value: Any) -> list[tuple[str, str]]:
    return [(reference.id, reference.pointer) for reference in references.find(value)]


@pytest.mark.parametrize("text", NOT_REFERENCES)
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert ids_in({"a": text}) == []
    assert references.resolve({"a": text}, _nothing) == {"a": text}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$ref:call_1", ("call_1", "")),
        ("$ref:@1", ("@1", "")),
        ("$ref:get_weather", ("get_weather", "")),
        ("$ref:a#", ("a", "")),
        ("$ref:a#/", ("a", "/")),
        ("$ref:a#/b/0", ("a", "/b/0")),
        ("$ref:a#/b c", ("a", "/b c")),
        ("$ref:a#/b#c", ("a", "/b#c")),
        ("$ref:a#/x\ny", ("a", "/x\ny")),
        ("$ref:a#/caf%C3%A9", ("a", "/caf%C3%A9")),
        ("$ref:äö.ü-1/2", ("äö.ü-1/2", "")),
        ("$ref:${x}", ("${x}", "")),
    ],
)
def test_a_whole_string_is_a_reference(text: str, expected: tuple[str, str]) -> None:
    assert ids_in(text) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${ref:a}", [("a", "")]),
        ("at ${ref:a}.", [("a", "")]),
        ("${ref:a}${ref:b#/c}", [("a", ""), ("b", "/c")]),
        ("{${ref:a#}}", [("a", "")]),
        ("${ref:a#/b c/0} and $ref:b", [("a", "/b c/0")]),
        ("$${ref:a} ${ref:b}", [("b", "")]),
    ],
)
def test_references_inside_longer_text(text: str, expected: list[tuple[str, str]]) -> None:
    assert ids_in(text) == expected


def test_references_are_found_at_any_depth_but_not_in_keys() -> None:
    value = {"$ref:key": [{"$ref": "$ref:a"}, ["x ${ref:b}"]], "n": 1, "t": None}

    assert ids_in(value) == [("a", ""), ("b", "")]
    assert references.resolve(value, lambda reference: reference.id) == {
        "$ref:key": [{"$ref": "a"}, ["x b"]],
        "n": 1,
        "t": None,
    }


@pytest.mark.parametrize("value", [1, 1.5, True, None, "text", [1], {"a": [2]}])
def test_a_whole_reference_keeps_the_type(value: object) -> None:
    assert references.resolve(["$ref:a"], lambda _: value) == [value]


@pytest.mark.parametrize(
    ("value", "text"),
    [("raw", "raw"), (1, "1"), (True, "true"), (None, "null"), ({"a": [1, "é"]}, '{"a":[1,"é"]}')],
)
def test_a_value_inside_text_is_written_as_text(value: object, text: str) -> None:
    assert references.resolve("<${ref:a}>", lambda _: value) == f"<{text}>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$$ref:a", "$ref:a"),
        ("$$$ref:a#/b", "$$ref:a#/b"),
        ("x $${ref:a} y", "x ${ref:a} y"),
        ("$$${ref:a}", "$${ref:a}"),
        ("$$ref:a b", "$$ref:a b"),
        ("$$15", "$$15"),
    ],
)
def test_an_escape_loses_one_dollar_sign(text: str, expected: str) -> None:
    assert ids_in(text) == []
    assert references.resolve(text, _nothing) == expected


def test_what_is_filled_in_is_data() -> None:
    resolved = references.resolve(
        {"whole": "$ref:a", "inside": "<${ref:a}>"}, lambda _: "$ref:b ${ref:c} $$ref:d"
    )

    assert resolved["whole"] == "$ref:b ${ref:c} $$ref:d"
    assert resolved["inside"] == "<$ref:b ${ref:c} $$ref:d>"


@given(st.text(alphabet="$ref:{}#/@1a \n", max_size=30))
def test_escaped_text_resolves_to_itself(text: str) -> None:
    assert references.resolve(references.escape(text), _nothing) == text


@given(st.text(alphabet=string.printable, max_size=40))
def test_what_has_no_reference_and_no_escape_is_unchanged(text: str) -> None:
    if "ref:" not in text:
        assert references.resolve(text, _nothing) == text


@given(st.text(max_size=20))
def test_the_quick_look_misses_no_reference(text: str) -> None:
    for arguments in (json.dumps([text]), json.dumps([text], ensure_ascii=False)):
        found = ids_in(json.loads(arguments)) or references.resolve(text, _nothing) != text
        assert references.may_hold_references(arguments) or not found


def test_the_quick_look_sees_through_json_escapes() -> None:
    assert references.may_hold_references('["\\u0024ref:a"]')
    assert not references.may_hold_references('["no dollar"]')


@pytest.mark.parametrize("text", ["$" * 200_000 + "x", "${ref:" * 50_000, "$ref:" + "a" * 200_000])
def test_long_text_takes_linear_time(text: str) -> None:
    """Quadratic time would take minutes here, and keep the whole event loop."""
    started = time.process_time()
    list(references.find(text))
    references.resolve(text + " ", _nothing)
    references.escape(text)
    assert time.process_time() - started < 20


def test_a_reference_reads_as_it_is_written() -> None:
    assert str(Reference("a")) == "$ref:a"
    assert str(Reference("@2", "/b")) == "$ref:@2#/b"


def _nothing(reference: Reference) -> Any:
    raise UnresolvedError(f"{reference} was looked up")
