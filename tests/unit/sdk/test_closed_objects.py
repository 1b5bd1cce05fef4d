import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
import typing_extensions
from pydantic import BaseModel, ConfigDict, Field, RootModel

from sidecall import ArgumentError, Tool, tool
from sidecall.testing import run_tool


class Item(BaseModel):
    name: str
    count: int = 1


class Order(BaseModel):
    items: list[Item]


class Either(BaseModel):
    name: str
    count: int
    size: int = 0


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Options(TypedDict, total=False):
    depth: int


class NewOptions(typing_extensions.TypedDict, total=False):
    depth: int


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Described(BaseModel):
    model_config = ConfigDict(json_schema_extra={"additionalProperties": {"type": "string"}})
    name: str


class OpenOptions(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]  # pydantic's way
    depth: int


class Table(RootModel[dict[str, int]]):
    pass


def order(order: Order) -> Order:
    return order


def line(points: list[Point]) -> list[Point]:
    return points


def search(options: Options | None = None) -> Options | None:
    return options


def search_more(options: NewOptions) -> NewOptions:
    return options


def either(item: Annotated[Item | Either, Field(union_mode="left_to_right")]) -> Item | Either:
    return item


CLOSED = [
    (order, {"order": {"items": [{"name": "a", "cuont": 3}]}}, "/order/items/0/cuont"),
    (order, {"order": {"items": [], "note": 3}}, "/order/note"),
    (line, {"points": [{"x": 1.0, "z": 2.0}]}, "/points/0/z"),
    (search, {"options": {"dpeth": 1}}, "/options/dpeth"),
    (search_more, {"options": {"dpeth": 1}}, "/options/dpeth"),
]


@pytest.mark.parametrize(("function", "arguments", "place"), CLOSED)
async def test_unknown_fields_inside_are_refused(
    function: Callable[..., Any], arguments: dict[str, Any], place: str
) -> None:
    made = tool(function)
    assert made.prepare is not None
    for convert in (made.prepare, made.parameters.check):
        with pytest.raises(ArgumentError) as caught:
            convert(arguments)
        assert (place, "is not a known field") in caught.value.violations
    with pytest.raises(ArgumentError, match=place):
        await run_tool(made, arguments)


@pytest.mark.parametrize("function", [order, line, search, search_more, either])
def test_schemas_of_nested_objects_are_closed(function: Callable[..., Any]) -> None:
    schema = tool(function).input_schema
    assert schema["$defs"]
    for definition in schema["$defs"].values():
        assert definition["additionalProperties"] is False


@pytest.mark.parametrize(
    ("annotation", "value", "allowed"),
    [
        (Open, {"name": "a", "more": 1}, True),
        (Described, {"name": "a"}, {"type": "string"}),
        (OpenOptions, {"depth": 1, "more": 2}, True),
    ],
)
def test_classes_that_allow_more_stay_open(annotation: Any, value: Any, allowed: Any) -> None:
    def f(given: Any, point: Point) -> None:
        """Takes what is open, and what is not."""

    f.__annotations__["given"] = annotation
    made = tool(f)
    definitions = made.input_schema["$defs"]
    assert definitions[annotation.__name__]["additionalProperties"] == allowed
    assert definitions["Point"]["additionalProperties"] is False
    assert made.prepare is not None
    given = made.prepare({"given": value, "point": {"x": 1.0}})["given"]
    assert (given if isinstance(given, dict) else given.model_dump()) == value


def test_maps_stay_maps() -> None:
    def f(table: Table, plain: dict[str, Point]) -> None:
        """Takes maps."""

    made = tool(f)
    schema = made.input_schema
    assert schema["$defs"]["Table"]["additionalProperties"] == {"type": "integer"}
    assert schema["properties"]["plain"]["additionalProperties"] == {"$ref": "#/$defs/Point"}
    assert made.prepare is not None
    prepared = made.prepare({"table": {"a": 1}, "plain": {"b": {"x": 1.0}}})
    assert prepared == {"table": Table({"a": 1}), "plain": {"b": Point(1.0)}}


def test_a_union_does_not_take_the_branch_that_would_drop_a_field() -> None:
    prepare = tool(either).prepare
    assert prepare is not None
    value = {"name": "a", "count": 1, "size": 5}
    assert prepare({"item": value}) == {"item": Either(name="a", count=1, size=5)}


def test_a_given_schema_stays_as_it_is() -> None:
    given = {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}
    made: Tool[..., Any] = Tool(name="t", description="", input_schema=given, call=dict)
    assert made.input_schema == given
