"""What the fields of a TypedDict say about being required, with and without strings."""

import sys
import types
from typing import Any

import pytest

from sidecall import ArgumentError, Tool

BODY = """
from typing import Annotated
from {module} import NotRequired, Required, TypedDict
from typing_extensions import ReadOnly
from pydantic import Field
from sidecall import tool

class Inner(TypedDict):
    a: int
    b: NotRequired[int]

class Base(TypedDict, total=False):
    always: Required[str]
    maybe: int

class Query(Base):
    text: str
    limit: NotRequired[int]
    pages: NotRequired[Annotated[int, Field(ge=1)]]
    marked: Annotated[NotRequired[int], "a mark inside"]
    fixed: ReadOnly[NotRequired[int]]
    inner: NotRequired[list[Inner]]

@tool
def search(query: Query) -> Query:
    return query
"""


# Pydantic tells the authors of a ReadOnly field that it will not enforce it.
@pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning")
@pytest.mark.parametrize("first_line", ["", "from __future__ import annotations"])
@pytest.mark.parametrize("module", ["typing", "typing_extensions"])
def test_marks_of_fields_are_followed(
    module: str, first_line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = search_tool(module, first_line, monkeypatch)
    definitions = made.input_schema["$defs"]
    assert sorted(definitions["Query"]["required"]) == ["always", "text"]
    assert definitions["Query"]["properties"]["pages"]["minimum"] == 1
    assert definitions["Inner"]["required"] == ["a"]
    assert definitions["Inner"]["properties"].keys() == {"a", "b"}
    assert made.prepare is not None
    query = {"always": "x", "text": "y", "inner": [{"a": 1}]}
    assert made.prepare({"query": query}) == {"query": query}
    with pytest.raises(ArgumentError, match="/query/always"):
        made.prepare({"query": {"text": "y"}})


def search_tool(module: str, first_line: str, monkeypatch: pytest.MonkeyPatch) -> Tool[..., Any]:
    """The tool of a module that begins with a line."""
    made = types.ModuleType("typed_dicts_of_test")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    exec(first_line + BODY.format(module=module), vars(made))  # noqa: S102  the case is the text
    found: Tool[..., Any] = vars(made)["search"]
    return found
