import dataclasses
import datetime
import enum
import functools
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal, Optional, TypedDict, Union

import pytest
from pydantic import BaseModel, Field

from sidecall import ToolContext, ToolDefinitionError, tool


class Address(BaseModel):
    """Where somebody lives."""

    street: str = Field(description="Street and number")
    floors: int = 1


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Options(TypedDict, total=False):
    """What may be set."""

    depth: int


def properties(function: Callable[..., Any]) -> dict[str, Any]:
    result: dict[str, Any] = tool(function).input_schema["properties"]
    return result


def test_schema_of_plain_types_is_a_closed_object() -> None:
    def search(query: str, limit: int = 10, fuzzy: bool = False) -> str:
        return query

    assert tool(search).input_schema == {
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "limit": {"type": "integer", "default": 10},
            "fuzzy": {"type": "boolean", "default": False},
        },
        "required": ["query"],
        "additionalProperties": False,
    }


def test_tool_without_parameters_takes_an_empty_object() -> None:
    def ping() -> str:
        return "pong"

    assert tool(ping).input_schema == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


def test_models_dataclasses_enums_and_typed_dicts_are_described() -> None:
    def move(to: Address, at: Point, color: Color = Color.RED, how: Options | None = None) -> None:
        """Moves."""

    schema = tool(move).input_schema
    definitions = schema["$defs"]
    assert schema["properties"]["to"] == {"$ref": "#/$defs/Address"}
    assert definitions["Address"]["properties"]["street"] == {
        "type": "string",
        "description": "Street and number",
    }
    assert definitions["Address"]["properties"]["floors"]["default"] == 1
    assert definitions["Point"]["required"] == ["x"]
    assert schema["properties"]["color"] == {"$ref": "#/$defs/Color", "default": "red"}
    assert definitions["Color"]["enum"] == ["red", "blue"]
    assert definitions["Options"]["properties"] == {"depth": {"type": "integer"}}
    assert "required" not in definitions["Options"]
    assert schema["required"] == ["to", "at"]


def test_literal_union_and_containers() -> None:
    def f(
        unit: Literal["c", "f"],
        value: Union[int, str],  # noqa: UP007  both spellings must work
        tags: list[str],
        extra: dict[str, int],
        when: datetime.datetime,
        note: Optional[str] = None,  # noqa: UP045  as above
    ) -> None:
        """Does nothing."""

    found = properties(f)
    assert found["unit"] == {"enum": ["c", "f"], "type": "string"}
    assert found["value"] == {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert found["tags"] == {"type": "array", "items": {"type": "string"}}
    assert found["extra"] == {"type": "object", "additionalProperties": {"type": "integer"}}
    assert found["when"] == {"type": "string", "format": "date-time"}
    assert found["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}


def test_unannotated_parameter_takes_any_value() -> None:
    def f(thing, other={"a": 1}):  # type: ignore[no-untyped-def]  # noqa: B006  the case
        """Takes anything."""

    assert properties(f) == {"thing": {}, "other": {"default": {"a": 1}}}
    assert tool(f).prepare is None


def test_default_none_makes_a_parameter_nullable() -> None:
    def f(limit: int = None) -> None:  # type: ignore[assignment]  # noqa: RUF013  the case
        """Does nothing."""

    assert properties(f)["limit"] == {
        "anyOf": [{"type": "integer"}, {"type": "null"}],
        "default": None,
    }


def test_default_that_json_cannot_express_is_left_out() -> None:
    def f(ratio: float = float("inf"), name: str = 5) -> None:  # type: ignore[assignment]  # the case
        """Does nothing."""

    assert properties(f) == {"ratio": {"type": "number"}, "name": {"type": "string"}}
    assert "required" not in tool(f).input_schema


@pytest.mark.parametrize(
    "docstring",
    [
        "Looks it up.\n\nIn the table.\n\nArgs:\n    city: Name of\n        the city.\n",
        (
            "Looks it up.\n\nIn the table.\n\n"
            "Parameters\n----------\ncity : str\n    Name of\n    the city.\n"
        ),
        "Looks it up.\n\nIn the table.\n\n:param city: Name of\n    the city.\n",
    ],
    ids=["google", "numpy", "rest"],
)
def test_descriptions_come_from_the_docstring(docstring: str) -> None:
    def lookup(city: str) -> str:
        return city

    lookup.__doc__ = docstring
    made = tool(lookup)
    assert made.description == "Looks it up.\n\nIn the table."
    assert made.input_schema["properties"]["city"]["description"] == "Name of the city."


def test_annotated_descriptions_win_over_the_docstring() -> None:
    def f(a: Annotated[int, "first"], b: Annotated[int, Field(description="second", ge=1)]) -> None:
        """Does it.

        Args:
            a: not this
            b: nor this
        """

    assert properties(f) == {
        "a": {"type": "integer", "description": "first"},
        "b": {"type": "integer", "description": "second", "minimum": 1},
    }


def test_context_parameter_is_found_and_not_described() -> None:
    def f(x: int, ctx: ToolContext) -> None:
        """Does it."""

    def g(x: int, ctx: ToolContext | None = None) -> None:
        """Does it."""

    assert tool(f).context_parameter == "ctx"
    assert tool(g).context_parameter == "ctx"
    assert list(properties(f)) == ["x"]


def test_local_classes_in_string_annotations_are_found() -> None:
    class Local(BaseModel):
        value: int

    def f(item: "Local") -> int:
        return item.value

    made = tool(f)
    assert made.input_schema["$defs"]["Local"]["required"] == ["value"]


def test_forward_reference_to_a_later_class_is_resolved_when_asked_for() -> None:
    namespace: dict[str, Any] = {}
    exec(  # noqa: S102  a module whose class comes after its function
        "from __future__ import annotations\n"
        "from sidecall import tool\n"
        "from pydantic import BaseModel\n"
        "@tool\n"
        "def early(item: Later) -> int:\n"
        "    return item.value\n"
        "class Later(BaseModel):\n"
        "    value: int\n",
        namespace,
    )
    made = namespace["early"]
    assert made.input_schema["$defs"]["Later"]["required"] == ["value"]
    assert made.function(**made.prepare({"item": {"value": 3}})) == 3


def test_unknown_annotation_is_explained() -> None:
    def f(item: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821  the case
        """Does it."""

    made = tool(f)
    with pytest.raises(ToolDefinitionError, match="'Nowhere', which is not defined"):
        made.input_schema  # noqa: B018  reading it resolves the annotations


def test_unresolvable_return_annotation_does_not_matter() -> None:
    def f(x: int) -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821  the case
        return x

    assert list(properties(f)) == ["x"]


def positional(*values: int) -> None:
    """Takes positions."""


def keywords(**values: int) -> None:
    """Takes anything."""


def positional_only(x: int, /) -> None:
    """Takes a position."""


def unsupported(x: Callable[[], int]) -> None:
    """Takes code."""


def opaque(x: threading.Thread) -> None:
    """Takes a thread."""


def field_default(x: int = Field(5)) -> None:
    """Has a Field as its default."""


def two_contexts(a: ToolContext, b: ToolContext) -> None:
    """Takes two."""


class Service:
    def method(self, x: int) -> int:
        return x + 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (positional, r"\*values has no name"),
        (keywords, r"\*\*values has no schema"),
        (positional_only, "'x' is positional-only"),
        (unsupported, "JSON cannot carry"),
        (opaque, "'x' has the type Thread, which JSON cannot carry"),
        (field_default, "instead of a Field as the default"),
        (two_contexts, "two ToolContext parameters"),
        (Service.method, r"tool\(obj.method\)"),
        (lambda x: x, "is not a name for a tool"),
    ],
)
def test_what_cannot_be_a_tool_says_why(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(ToolDefinitionError, match=message):
        tool(function)


def test_bound_methods_and_partials_become_tools() -> None:
    made = tool(Service().method)
    assert (made.name, list(made.input_schema["properties"])) == ("method", ["x"])
    assert made(2) == 3

    def fetch(city: str, api_key: str) -> str:
        return f"{city} {api_key}"

    bound = tool(functools.partial(fetch, api_key="secret"))
    assert list(bound.input_schema["properties"]) == ["city"]
    assert "secret" not in str(bound.input_schema)
    assert bound(city="Oslo") == "Oslo secret"
