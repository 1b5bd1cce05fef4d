import dataclasses
import datetime
import enum
from typing import Annotated, Any, Literal, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel

from sidecall import ArgumentError, Tool, tool


class Item(BaseModel):
    name: str
    count: int = 1


@dataclasses.dataclass
class Point:
    x: float
    y: int = 2


class Color(enum.Enum):
    RED = "red"


class Options(TypedDict, total=False):
    depth: int


def prepared(function: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    convert = tool(function).prepare
    assert convert is not None
    return convert(arguments)


def test_plain_json_types_are_not_touched() -> None:
    def f(a: str, b: bool, c: list[str], d: dict[str, Any], e: Literal["x", "y"], g: Any) -> None:
        """Takes JSON."""

    assert tool(f).prepare is None


def test_integers_and_floats_arrive_as_what_is_declared() -> None:
    def f(n: int, r: float, m: int | None = None) -> None:
        """Takes numbers."""

    result = prepared(f, {"n": 3.0, "r": 2, "m": 4.0})
    assert result == {"n": 3, "r": 2.0, "m": 4}
    assert [type(value) for value in result.values()] == [int, float, int]
    assert prepared(f, {"n": 1, "r": 1.5, "m": None})["m"] is None


@given(st.integers())
def test_integers_of_any_size_stay_exact(number: int) -> None:
    def f(n: int, many: list[int]) -> None:
        """Takes numbers."""

    assert prepared(f, {"n": number, "many": [number]}) == {"n": number, "many": [number]}


@pytest.mark.parametrize("value", ["5", 3.5, True, None, [1]])
def test_nothing_else_becomes_an_integer(value: object) -> None:
    def f(n: int) -> None:
        """Takes a number."""

    with pytest.raises(ArgumentError) as caught:
        prepared(f, {"n": value})
    assert caught.value.violations == (("/n", "must be an integer"),)


def test_values_become_the_declared_types() -> None:
    def f(
        item: Item,
        points: list[Point],
        color: Color,
        when: datetime.datetime,
        options: Options,
        tags: set[str],
    ) -> None:
        """Takes objects."""

    result = prepared(
        f,
        {
            "item": {"name": "a", "count": 2.0},
            "points": [{"x": 1}],
            "color": "red",
            "when": "2024-01-02T03:04:05Z",
            "options": {"depth": 1},
            "tags": ["a"],
        },
    )
    assert result == {
        "item": Item(name="a", count=2),
        "points": [Point(1.0)],
        "color": Color.RED,
        "when": datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "options": {"depth": 1},
        "tags": {"a"},
    }


def test_nothing_is_coerced_inside_and_every_place_is_named() -> None:
    def f(item: Item, points: list[Point | int], n: int) -> None:
        """Takes objects."""

    with pytest.raises(ArgumentError) as caught:
        prepared(f, {"item": {"name": 1, "count": "2"}, "points": [{"x": "1"}], "n": "3"})
    places = [place for place, _ in caught.value.violations]
    assert "/item/name" in places
    assert "/item/count" in places
    assert "/points/0/x" in places
    assert "/n" in places


def test_pointer_of_a_missing_field_and_of_odd_names() -> None:
    class Odd(BaseModel):
        model_config = {"extra": "forbid"}
        a: int

    def f(odd: Odd) -> None:
        """Takes an object."""

    with pytest.raises(ArgumentError) as caught:
        prepared(f, {"odd": {"x/y~z": 1}})
    assert {place for place, _ in caught.value.violations} == {"/odd/a", "/odd/x~1y~0z"}


def test_validators_of_the_parameter_run() -> None:
    def even(value: int) -> int:
        if value % 2:
            raise ValueError("must be even")
        return value

    def f(n: Annotated[int, AfterValidator(even)]) -> None:
        """Takes an even number."""

    assert prepared(f, {"n": 2.0}) == {"n": 2}
    with pytest.raises(ArgumentError, match=r"^/n: must be even$"):
        prepared(f, {"n": 3})


def test_text_that_is_not_unicode_is_refused_where_a_model_needs_it() -> None:
    def f(item: Item) -> None:
        """Takes an object."""

    with pytest.raises(ArgumentError, match="not valid Unicode"):
        prepared(f, {"item": {"name": "\ud800"}})


def test_the_given_arguments_are_not_changed() -> None:
    def f(n: int, item: Item) -> None:
        """Takes both."""

    given_arguments = {"n": 1.0, "item": {"name": "a"}}
    prepared(f, given_arguments)
    assert given_arguments == {"n": 1.0, "item": {"name": "a"}}
    assert type(given_arguments["n"]) is float


def test_explicit_schema_gets_integers_as_integers() -> None:
    made: Tool[..., Any] = Tool(
        name="f",
        description="",
        input_schema={
            "type": "object",
            "properties": {
                "n": {"type": "integer"},
                "r": {"type": "number"},
                "list": {"type": "array", "items": {"type": ["integer", "null"]}},
                "deep": {"type": "object", "properties": {"m": {"type": "integer"}}},
            },
        },
        call=dict,
    )
    assert made.prepare is not None
    result = made.prepare({"n": 1.0, "r": 2.0, "list": [3.0, None], "deep": {"m": 4.0, "o": 5.0}})
    assert repr(result) == repr({"n": 1, "r": 2.0, "list": [3, None], "deep": {"m": 4, "o": 5.0}})


def test_explicit_schema_without_integers_costs_nothing() -> None:
    made: Tool[..., Any] = Tool(
        name="f",
        description="",
        input_schema={"type": "object", "properties": {"s": {"type": "string"}}},
        call=dict,
    )
    assert made.prepare is None
