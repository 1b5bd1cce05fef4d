import functools
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

import sidecall
from sidecall import Tool, ToolContext, ToolDefinitionError, ToolError, tool
from sidecall._durations import parse_duration


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (5, 5.0),
        (0.25, 0.25),
        ("5s", 5.0),
        ("250ms", 0.25),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1m30s", 90.0),
    ],
)
def test_durations(given: float | str, seconds: float) -> None:
    assert parse_duration(given) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "given",
    ["", "5", "s", "-1s", 0, -1, float("nan"), float("inf"), "0s", True, [1], None, b"5s", 10**400],
)
def test_what_is_no_duration_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(given)


def test_bare_and_with_keywords() -> None:
    @tool
    async def bare(x: int) -> int:
        """Bare."""
        return x

    @tool(
        name="other.name",
        description="Given.",
        max_concurrency=2,
        max_queue=0,
        timeout="250ms",
        queue_timeout=3,
        effects="read_only",
        isolation="process",
        references=False,
        output_schema={"type": "integer"},
    )
    def full(x: int) -> int:
        """Not this."""
        return x

    assert (bare.name, bare.description, bare.kind) == ("bare", "Bare.", "coroutine")
    assert bare.policy.effects == "non_idempotent"
    assert bare.policy.isolation is None
    assert (full.name, full.description, full.kind) == ("other.name", "Given.", "thread")
    assert (full.policy.max_concurrency, full.policy.max_queue) == (2, 0)
    assert (full.policy.timeout_s, full.policy.queue_timeout_s) == (0.25, 3.0)
    assert (full.policy.effects, full.policy.isolation) == ("read_only", "process")
    assert full.policy.references is False
    assert full.output_schema == {"type": "integer"}


async def test_a_tool_is_still_the_plain_function() -> None:
    @tool
    async def twice(x: int) -> int:
        """Doubles."""
        return 2 * x

    assert await twice(4) == 8
    assert repr(twice) == "Tool('twice')"
    assert twice.__doc__ == "Doubles."


class CallableObject:
    """Adds."""

    async def __call__(self, x: int) -> int:
        """Adds one."""
        return x + 1


async def generate(n: int) -> AsyncIterator[str]:
    yield str(n)


async def coroutine() -> None:
    """Does nothing."""


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (generate, "generator"),
        (coroutine, "coroutine"),
        (functools.partial(coroutine), "coroutine"),
        (CallableObject(), "coroutine"),
        (len, "thread"),
    ],
)
def test_kind(function: Any, kind: str) -> None:
    made = Tool(name="t", description="", input_schema={"type": "object"}, call=function)
    assert made.kind == kind


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"lanes": "x"}, "lanes: unknown keyword; known are max_concurrency"),
        ({"max_concurrency": 0}, "max_concurrency: must be an integer of at least 1"),
        ({"max_concurrency": True}, "max_concurrency: must be"),
        ({"max_queue": -1}, "max_queue: must be an integer of at least 0"),
        ({"timeout": "soon"}, "timeout: 'soon' is not a duration"),
        ({"queue_timeout": -2}, "queue_timeout: a duration must be positive"),
        ({"effects": "none"}, "effects: must be 'read_only' or"),
        ({"isolation": "thread"}, "isolation: must be None or 'process'"),
        ({"references": "no"}, "references: must be True or False"),
        ({"name": "two words"}, "is not a name for a tool"),
        ({"name": "@1"}, "is not a name for a tool"),
        ({"name": ""}, "is not a name for a tool"),
        ({"timeout": [5]}, r"timeout: a duration must be positive and finite, not \[5\]"),
        ({"description": 5}, "description must be text, not 5"),
    ],
)
def test_keywords_are_checked(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        tool(coroutine, **{"name": "t", **keywords})


@pytest.mark.parametrize("schema", [{}, {"type": "array"}, None, {"type": "object", "x": object()}])
def test_explicit_schema_must_be_an_object_schema(schema: Any) -> None:
    with pytest.raises(ToolDefinitionError, match="input_schema"):
        Tool(name="t", description="", input_schema=schema, call=dict)


def test_explicit_tool_finds_its_context_and_keeps_its_schema() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {}}}

    def call(context: ToolContext, **values: "Unknown") -> None:  # type: ignore[name-defined]  # noqa: F821  must not matter
        """Takes anything."""

    made = Tool(name="t", description="", input_schema=schema, call=call)
    schema["properties"]["b"] = {}
    assert made.context_parameter == "context"
    assert made.input_schema == {"type": "object", "properties": {"a": {}}}


@pytest.mark.parametrize("target", [3, staticmethod(len), tool(coroutine)])
def test_decorating_something_else_is_refused(target: Any) -> None:
    with pytest.raises(ToolDefinitionError, match="@tool belongs on a plain function"):
        tool(target)


def test_tool_error_checks_its_code() -> None:
    error = ToolError("no such city", code="NOT_FOUND", retry_after=2.5)
    assert (str(error), error.code, error.retry_after_s) == ("no such city", "NOT_FOUND", 2.5)
    for code in ("OK", "nonsense"):
        with pytest.raises(ValueError, match="is not a status code"):
            ToolError("x", code=code)


@pytest.mark.parametrize("delay", [math.nan, math.inf, -1, True, "2s"])
def test_tool_error_checks_its_delay(delay: Any) -> None:
    with pytest.raises(ValueError, match="retry_after must be finite seconds"):
        ToolError("x", retry_after=delay)
    assert ToolError("x", retry_after=0).retry_after_s == 0


def test_facade_names_exist_and_others_do_not() -> None:
    for name in ("tool", "Tool", "ToolContext", "ToolError", "lifespan", "ArgumentError"):
        assert name in sidecall.__all__
        assert name in dir(sidecall)
        assert getattr(sidecall, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        sidecall.nothing  # noqa: B018  reading it is the case
