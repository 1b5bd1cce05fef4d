"""Which calls share a lane."""

import json
from typing import Any

import pytest

from sidecall_server.policy.lane_key import LaneKey


@pytest.mark.parametrize(
    ("template", "arguments", "key"),
    [
        ("account:{account_id}", {"account_id": "42"}, "account:42"),
        ("account:{account_id}", {"account_id": "1:2 % {x}"}, "account:1:2 % {x}"),
        ("{a}", {"a": ""}, ""),
        ("everything", {}, "everything"),
        ("{user.id}", {"user": {"id": 7}}, "7"),
        ("{{{a}}}", {"a": "x"}, "{x}"),
        ("{{a}}", {}, "{a}"),
        ("{a}/{b}", {"a": "x", "b": "y/z"}, "x/y/z"),
        ("{a}", {"a": True}, "true"),
        ("{a}", {"a": None}, "null"),
        ("{a}", {"a": {"y": [1.0, 2.5], "x": "é"}}, '{"x":"é","y":[1,2.5]}'),
        ("{a}", {"a": 2.5}, "2.5"),
        ("{a}", {"a": 10**30}, "1" + "0" * 30),
    ],
)
def test_keys(template: str, arguments: dict[str, Any], key: str) -> None:
    assert LaneKey(template).of(arguments) == key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, "1"),
        (0.0, -0.0),
        (10**22, 1e22),
        (True, "true"),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}),
    ],
)
def test_values_that_read_alike_share_a_lane(one: object, other: object) -> None:
    key = LaneKey("{a}-{b}")

    assert key.of({"a": one, "b": 0}) == key.of({"a": other, "b": 0})
    assert key.of({"a": 0, "b": one}) == key.of({"a": 0, "b": other})


@pytest.mark.parametrize(
    ("template", "one", "other"),
    [
        ("a:{x}:{y}", ("1:2", "3"), ("1", "2:3")),
        ("{x}{y}", ("ab", "c"), ("a", "bc")),
        ("{x}%{y}", ("a%b", "c"), ("a", "b%c")),
        ("{x}%{y}", ("a%b", "c"), ("a", "25b%c")),
        ("{x}2{y}", ("1%2", "3"), ("1%", "23")),
        ("{x}, {y}", ("1, 2", "3"), ("1", "2, 3")),
        ("{x}:{y}", ("1", "2"), ("1:2", "")),
    ],
)
def test_different_values_do_not_run_into_each_other(
    template: str, one: tuple[str, str], other: tuple[str, str]
) -> None:
    key = LaneKey(template)

    assert key.of(dict(zip("xy", one, strict=True))) != key.of(dict(zip("xy", other, strict=True)))


@pytest.mark.parametrize(
    ("template", "arguments"),
    [
        ("{a}", {}),
        ("{a}{b}", {"a": 1}),
        ("{a.b}", {"a": {}}),
        ("{a.b}", {"a": "b"}),
        ("{a.b}", {"a.b": 1}),
        ("{a.b.c}", {"a": {"b": None}}),
    ],
)
def test_a_missing_argument_gives_the_lane_of_everything(
    template: str, arguments: dict[str, Any]
) -> None:
    assert LaneKey(template).of(arguments) is None


def test_tools_whose_templates_give_equal_text_share_lanes() -> None:
    withdraw, transfer = LaneKey("account:{account_id}"), LaneKey("account:{from.id}")

    assert withdraw.of({"account_id": "7"}) == transfer.of({"from": {"id": 7}})


def test_fields_are_the_arguments_that_it_reads() -> None:
    assert LaneKey("{a}:{b.c}:{{d}}:{a}").fields == {"a", "b"}
    assert LaneKey("all").fields == frozenset()


@pytest.mark.parametrize("template", ["{", "}", "{}", "{a", "a}", "{a.}", "{.a}", "{a b}", "{a}}"])
def test_a_malformed_template_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"names no argument|write it twice"):
        LaneKey(template)


def test_a_large_value_gives_a_short_key() -> None:
    key = LaneKey("document:{text}")
    one, other = key.of({"text": "x" * 10**6}), key.of({"text": "x" * 10**6 + "y"})

    assert one is not None
    assert len(one) < 200
    assert one.startswith("document:xxx")
    assert one != other


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 10**5000, [10**5000], "\ud800", {"\udfff": ["\ud800" * 300]}],
    ids=["nan", "infinity", "huge", "huge inside", "surrogate", "surrogates"],
)
def test_odd_values_have_a_key(value: object) -> None:
    key = LaneKey("{a}")

    assert key.of({"a": value}) == key.of({"a": value})
    assert key.of({"a": value}) != key.of({"a": json.dumps("other")})
