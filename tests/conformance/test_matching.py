"""The suite's own comparison finds what differs."""

from typing import Any

import pytest
from tests.conformance.harness.matching import differences


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"a": None}, {}),
        ({}, {"a": None}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": {"$any": True}}, {"a": [1]}),
        ({"$match": "a.*c"}, "ab\nc"),
        ({"$json": {"a": 1, "b": [2]}}, '{"b":[2],"a":1}'),
        ({"$one_of": ["x", {"$at_most": 3}]}, 2.5),
        ({"$ref": "kept"}, {"$ref": "kept"}),
    ],
)
def test_what_fits(expected: Any, actual: Any) -> None:
    assert differences(expected, actual, "it") == []


@pytest.mark.parametrize(
    ("expected", "actual", "said"),
    [
        ({"a": 1}, {"a": True}, "it.a: expected 1, got true"),
        ({"a": 1}, {}, "it.a: expected 1, got nothing"),
        ({}, {"a": 1}, "it.a: expected nothing, got 1"),
        ([1], [1, 2], "it: expected 1 items, got 2"),
        ([{"a": [1, 2]}], [{"a": [1, 3]}], "it[0].a[1]: expected 2, got 3"),
        ({"$match": "a"}, "ab", 'it: expected {"$match": "a"}, got "ab"'),
        ({"$json": 1}, "{", 'it: expected {"$json": 1}, got "{"'),
        ({"$at_most": 3}, 3.1, 'it: expected {"$at_most": 3}, got 3.1'),
        ("1", 1, 'it: expected "1", got 1'),
    ],
)
def test_what_does_not(expected: Any, actual: Any, said: str) -> None:
    assert differences(expected, actual, "it")[0] == said


def test_a_part_of_an_object_may_be_enough() -> None:
    assert differences({"a": 1}, {"a": 1, "b": 2}, "it", partly=True) == []
    assert differences([{"a": 1}], [{"b": 2}], "it", partly=True)
