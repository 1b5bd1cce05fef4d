import dataclasses
import itertools
import uuid
from collections.abc import Callable
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel, Field

from sidecall import tool

CODES = ["a"]
NUMBERS = itertools.count()


@dataclasses.dataclass
class Place:
    """A place.

    Attributes:
        name: Its name,
            as on maps.
    """

    name: str


@dataclasses.dataclass
class Stop(Place):
    """A place where somebody stops.

    Attributes:
        place: Where.
        minutes: How long.
    """

    place: Place
    minutes: int = 5


class Filter(TypedDict, total=False):
    """What to leave out.

    Attributes:
        tags: Words.
    """

    tags: list[str]


class Model(BaseModel):
    """A model.

    Attributes:
        said: Not this.
        unsaid: This.
    """

    said: int = Field(description="Said by the field.")
    unsaid: int


class Heir(Model):
    more: int = 0


@dataclasses.dataclass
class Plain:
    x: int


def take(stop: Stop, without: Filter, model: Model, heir: Heir, plain: Plain) -> None:
    """Takes all of them."""


def test_docstrings_describe_the_fields_of_classes() -> None:
    definitions = tool(take).input_schema["$defs"]
    assert definitions["Stop"]["description"] == "A place where somebody stops."
    stop = definitions["Stop"]["properties"]
    assert stop["name"] == {"type": "string", "description": "Its name, as on maps."}
    assert stop["place"] == {"$ref": "#/$defs/Place", "description": "Where."}
    assert stop["minutes"] == {"type": "integer", "default": 5, "description": "How long."}
    assert definitions["Place"]["properties"]["name"] == stop["name"]
    assert definitions["Filter"]["description"] == "What to leave out."
    assert definitions["Filter"]["properties"]["tags"]["description"] == "Words."
    model = definitions["Model"]["properties"]
    assert model["said"]["description"] == "Said by the field."
    assert model["unsaid"]["description"] == "This."
    assert definitions["Model"]["description"] == "A model."
    assert definitions["Heir"]["properties"]["unsaid"]["description"] == "This."
    assert "description" not in definitions["Heir"]
    assert definitions["Plain"]["properties"] == {"x": {"type": "integer"}}


def two_words() -> list[str]:
    return ["a", "b"]


FACTORIES: list[tuple[Callable[[], Any], Any]] = [
    (list, []),
    (dict, {}),
    (lambda: {"unit": "km", "steps": [1, 2.5, None]}, {"unit": "km", "steps": [1, 2.5, None]}),
    (two_words, ["a", "b"]),
]


@pytest.mark.parametrize(("factory", "default"), FACTORIES)
@pytest.mark.parametrize("kind", ["dataclass", "model"])
def test_factories_of_one_value_give_the_default(
    kind: str, factory: Callable[[], Any], default: Any
) -> None:
    field = field_of(kind, factory)
    assert field["default"] == default


@pytest.mark.parametrize(
    "factory",
    [
        lambda: str(uuid.uuid4()),
        lambda: CODES,
        lambda: next(NUMBERS),
        lambda: {1, 2},
        lambda: 1e999,
        lambda: b"x",
        set,
        uuid.uuid4,
        Plain,
    ],
)
@pytest.mark.parametrize("kind", ["dataclass", "model"])
def test_other_factories_are_left_to_the_class(kind: str, factory: Callable[[], Any]) -> None:
    assert "default" not in field_of(kind, factory)


def test_a_default_that_is_no_number_of_json_is_left_out() -> None:
    class Ratio(BaseModel):
        most: float = float("inf")

    def f(ratio: Ratio) -> None:
        """Takes it."""

    assert "default" not in tool(f).input_schema["$defs"]["Ratio"]["properties"]["most"]


def field_of(kind: str, factory: Callable[[], Any]) -> dict[str, Any]:
    """The schema of a field with that factory, which must not be required."""
    holder: Any
    if kind == "model":

        class Holder(BaseModel):
            value: Any = Field(default_factory=factory)

        holder = Holder
    else:
        field: Any = dataclasses.field(default_factory=factory)
        holder = dataclasses.make_dataclass("Holder", [("value", Any, field)])

    def f(holder: Any) -> None:
        """Takes it."""

    f.__annotations__["holder"] = holder
    schema = tool(f).input_schema["$defs"]["Holder"]
    assert "required" not in schema
    found: dict[str, Any] = schema["properties"]["value"]
    return found
