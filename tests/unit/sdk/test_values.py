import dataclasses
import datetime
import decimal
import enum
import json
import types
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, computed_field, field_serializer

from sidecall import ResultError
from sidecall._values import render

SURROGATES = st.characters(categories=["Cs", "Ll", "Po"])
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Model(BaseModel):
    when: datetime.date
    price: decimal.Decimal


@dataclasses.dataclass
class Point:
    x: int
    label: str = "p"


class Color(enum.StrEnum):
    RED = "red"


class Number(enum.Enum):
    ONE = 1


class Array:
    """Looks like numpy's."""

    def tolist(self) -> list[int]:
        return [1, 2]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", ("text", False)),
        ("", ("", False)),
        ("é\ud800", ("é\\ud800", False)),
        (Color.RED, ("red", False)),
        (b"bytes", ("bytes", False)),
        (bytearray("é".encode()), ("é", False)),
        (None, ("null", True)),
        (True, ("true", True)),
        (Number.ONE, ("1", True)),
        (10**30, (str(10**30), True)),
        (float("nan"), ('"NaN"', True)),
        ([float("inf"), float("-inf")], ('["Infinity","-Infinity"]', True)),
        ({"a": 1, "b": [None]}, ('{"a":1,"b":[null]}', True)),
        ((1, "x"), ('[1,"x"]', True)),
        ({3}, ("[3]", True)),
        (Point(1), ('{"x":1,"label":"p"}', True)),
        (
            Model(when=datetime.date(2024, 1, 2), price=decimal.Decimal("1.10")),
            ('{"when":"2024-01-02","price":"1.10"}', True),
        ),
        (uuid.UUID(int=1), ('"00000000-0000-0000-0000-000000000001"', True)),
        (range(3), ("[0,1,2]", True)),
        ({"n": Array()}, ('{"n":[1,2]}', True)),
        (types.MappingProxyType({"a": range(1)}), ('{"a":[0]}', True)),
        (
            {"a\ud800": ["\ud801"], "s": Point(1, "\udfff")},
            ('{"a\\\\ud800":["\\\\ud801"],"s":{"x":1,"label":"\\\\udfff"}}', True),
        ),
    ],
)
def test_values_are_written(value: object, expected: tuple[str, bool]) -> None:
    assert render(value) == expected


@given(JSON_VALUES)
def test_json_values_come_back_equal(value: Any) -> None:
    text, is_json = render(value)
    assert value == (json.loads(text) if is_json else text)


@given(st.text(SURROGATES), st.dictionaries(st.text(SURROGATES), st.text(SURROGATES)))
def test_whatever_is_written_can_be_encoded(text: str, mapping: dict[str, str]) -> None:
    escaped = render(text)[0].encode().decode()
    assert escaped == text or "\\ud" in escaped
    assert len(json.loads(render(mapping)[0].encode())) == len(mapping)


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


class Failing(BaseModel):
    n: int = 1

    @field_serializer("n")
    def write(self, value: int) -> int:
        raise ValueError("secret")


class FailingProperty(BaseModel):
    @computed_field  # type: ignore[prop-decorator]  # pydantic's own order
    @property
    def n(self) -> int:
        raise KeyError("secret")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\xff", "is bytes that are not UTF-8 text"),
        ([b"\xff"], "holds bytes that are not UTF-8 text"),
        (object(), "holds an object, which has no JSON form"),
        ({"a": [test_values_are_written]}, "holds a function, which has no JSON form"),
        (_circular(), "nested too deeply or holds itself"),
        (_nested(100_000), "nested too deeply or holds itself"),
        (Failing(), "cannot be written as JSON"),
        (FailingProperty(), "cannot be written as JSON"),
    ],
    ids=[
        "bytes",
        "inner-bytes",
        "object",
        "function",
        "circular",
        "deep",
        "serializer",
        "property",
    ],
)
def test_what_cannot_be_written_says_so_without_quoting_exceptions(
    value: object, message: str
) -> None:
    with pytest.raises(ResultError) as caught:
        render(value)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([object()], "holds an object, which"),
        (len, "holds a builtin_function_or_method, which"),
    ],
)
def test_the_type_without_a_json_form_has_its_article(value: object, text: str) -> None:
    with pytest.raises(ResultError, match=text):
        render(value)
