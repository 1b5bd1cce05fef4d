import asyncio
import contextvars
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from google.rpc import code_pb2
from pydantic import BaseModel, field_validator
from tests.support.fake_tool_host_service import WAIT_S, FakeToolHostService
from tests.unit.client.conftest import Attach

from sidecall import File, Image, Link, Tool, ToolContext, ToolError
from sidecall.v1.execution_pb2 import (
    EXECUTION_STATE_COMPLETED,
    EXECUTION_STATE_NOT_STARTED,
    EXECUTION_STATE_UNKNOWN,
)
from sidecall_server.backends.rendering import success_of
from sidecall_server.core.outcome import Success
from sidecall_server.transport.host_messages import outcome_of

PNG = b"\x89PNG\r\n\x1a\n"


class Point(BaseModel):
    x: int
    y: float

    @field_validator("x")
    @classmethod
    def small(cls, x: int) -> int:
        if x > 1000:
            raise ValueError("too far")
        return x


@dataclasses.dataclass
class Pair:
    a: int
    b: list[str]


VALUES = [
    "plain",
    "",
    "lone \ud800 surrogate",
    None,
    True,
    2**70,
    1.5,
    float("nan"),
    {"ä": [1, None, {"b": "\ud800"}]},
    (1, 2),
    b"bytes",
    Point(x=1, y=2.0),
    Pair(1, ["b"]),
    Image(PNG, name="a.png"),
    ["text", {"a": 1}, "", Image(PNG), File(b"x", name="y.txt"), Link("https://a.test", name="b")],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
async def test_results_are_those_of_the_sidecars_own_tools(attach: Attach, value: object) -> None:
    async def coroutine() -> object:
        return value

    def thread() -> object:
        return value

    attachment = await attach(coroutine, thread)
    expected = success_of(value)
    for name in ("coroutine", "thread"):
        result = await attachment.run(name)
        outcome = outcome_of(result, name)
        assert isinstance(outcome, Success)
        assert outcome.text == expected.text
        assert outcome.is_json == expected.is_json
        assert outcome.parts == expected.parts
        assert result.execution_state == EXECUTION_STATE_COMPLETED


async def test_generators_show_what_they_yield(attach: Attach) -> None:
    async def asynchronous() -> AsyncIterator[str]:
        yield "a"
        yield "b\ud800"

    def synchronous() -> Iterator[object]:
        yield "c"
        yield 1

    attachment = await attach(asynchronous, synchronous)
    assert (await attachment.run("asynchronous")).text == "ab\\ud800"
    shown = [(await attachment.report()).partial_output for _ in range(2)]
    assert [(output.attempt_id, output.text) for output in shown] == [(1, "a"), (1, "b\\ud800")]
    assert (await attachment.run("synchronous")).json == '["c",1]'
    assert (await attachment.report()).partial_output.text == "c"


async def test_long_output_is_shown_in_pieces(attach: Attach, service: FakeToolHostService) -> None:
    async def talks() -> AsyncIterator[str]:
        yield "x" * 2_000_000

    attachment = await attach(talks)
    assert len((await attachment.run("talks")).text) == 2_000_000
    pieces = [(await attachment.report()).partial_output.text for _ in range(8)]
    assert "".join(pieces) == "x" * 2_000_000
    assert not attachment.has_reports


async def test_a_tool_knows_its_call_and_reports(attach: Attach) -> None:
    def tells(ctx: ToolContext) -> dict[str, Any]:
        ctx.progress(1, 4, "a quarter \ud800")
        ctx.progress(2)
        remaining = ctx.remaining()
        ctx.logger.debug("called")
        return {
            "name": ctx.tool_name,
            "call_id": ctx.call_id,
            "attempt": ctx.attempt,
            "key": ctx.idempotency_key,
            "context": dict(ctx.context),
            "trace": [ctx.traceparent, ctx.tracestate],
            "remaining": remaining is not None and 50 < remaining <= 60,
            "cancelled": ctx.cancelled,
            "state": ctx.state,
        }

    attachment = await attach(tells)
    result = await attachment.run(
        "tells",
        timeout_s=60,
        call_id="call-1",
        attempt=3,
        idempotency_key="key",
        context={"user": "ada"},
        traceparent="00-1-2-01",
        tracestate="v=1",
    )
    assert result.json == (
        '{"name":"tells","call_id":"call-1","attempt":3,"key":"key","context":{"user":"ada"},'
        '"trace":["00-1-2-01","v=1"],"remaining":true,"cancelled":false,"state":null}'
    )
    first, second = [(await attachment.report()).progress for _ in range(2)]
    assert (first.progress, first.total, first.message) == (1, 4, "a quarter \\ud800")
    assert (second.progress, second.HasField("total"), second.message) == (2, False, "")


async def test_without_a_bound_there_is_no_remaining_time(attach: Attach) -> None:
    async def tells(ctx: ToolContext) -> object:
        return ctx.remaining()

    assert (await (await attach(tells)).run("tells")).json == "null"


async def test_what_is_reported_after_the_end_is_not_sent(attach: Attach) -> None:
    contexts: list[ToolContext] = []

    async def leaks(ctx: ToolContext) -> None:
        contexts.append(ctx)

    attachment = await attach(leaks)
    await attachment.run("leaks")
    contexts[0].progress(1)
    contexts[0].output("late")
    await attachment.run("leaks")
    assert not attachment.has_reports


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
@pytest.mark.parametrize(
    ("error", "code", "message", "retry_after_s"),
    [
        (ToolError("no city", code="NOT_FOUND", retry_after=1.5), "NOT_FOUND", "no city", 1.5),
        (ToolError("\ud800"), "UNKNOWN", "\\ud800", None),
        (ToolError(""), "UNKNOWN", "Tool 'fails' failed.", None),
        (ValueError("secret"), "UNKNOWN", "", None),
        (SystemExit("secret"), "UNKNOWN", "", None),
        (KeyboardInterrupt("secret"), "UNKNOWN", "", None),
        (asyncio.CancelledError("secret"), "UNKNOWN", "", None),
    ],
    ids=lambda value: repr(value)[:24],
)
async def test_failures(
    attach: Attach,
    error: BaseException,
    code: str,
    message: str,
    retry_after_s: float | None,
    kind: str,
) -> None:
    async def coroutine() -> None:
        raise error

    def thread() -> None:
        raise error

    function: Callable[[], Any] = coroutine if kind == "coroutine" else thread
    tool = Tool(name="fails", description="", input_schema={"type": "object"}, call=function)
    attachment = await attach(tool)
    result = await attachment.run("fails")
    assert code_pb2.Code.Name(result.status.code) == code
    assert result.execution_state == EXECUTION_STATE_COMPLETED
    assert "secret" not in result.status.message
    if message:
        assert result.status.message == message
    else:
        assert result.status.message.startswith("Tool 'fails' failed with an internal error (id")
    if retry_after_s is None:
        assert not result.HasField("retry_after")
    else:
        assert result.retry_after.ToNanoseconds() == retry_after_s * 1e9


async def test_what_cannot_be_written_fails_its_call_alone(attach: Attach) -> None:
    def returns_object() -> object:
        return {"a": object()}

    def returns_bytes() -> bytes:
        return b"\xff"

    async def inner() -> None:
        """Is never awaited."""

    def forgets() -> object:
        return inner()

    attachment = await attach(returns_object, returns_bytes, forgets)
    for name, text in {
        "returns_object": "no JSON form",
        "returns_bytes": "not UTF-8",
        "forgets": "async def",
    }.items():
        result = await attachment.run(name)
        assert result.status.code == code_pb2.UNKNOWN
        assert text in result.status.message
        assert result.execution_state == EXECUTION_STATE_COMPLETED


@pytest.mark.parametrize("value", ["x" * 5000, {"a": "x" * 5000}, File(b"x" * 5000)])
async def test_a_result_that_is_too_large_costs_its_call_alone(
    attach: Attach, service: FakeToolHostService, value: object
) -> None:
    async def large() -> object:
        return value

    async def small() -> str:
        return "y"

    service.max_message_bytes = 4000
    attachment = await attach(large, small)
    result = await attachment.run("large")
    assert result.status.code == code_pb2.RESOURCE_EXHAUSTED
    assert result.execution_state == EXECUTION_STATE_COMPLETED
    assert "4000 bytes that are allowed" in result.status.message
    assert (await attachment.run("small")).text == "y"


async def test_a_host_sends_no_more_than_its_own_limit(attach: Attach) -> None:
    async def large() -> str:
        return "x" * 5000

    attachment = await attach(large, max_message_bytes=4000)
    assert attachment.attach.max_message_bytes == 4000
    assert (await attachment.run("large")).status.code == code_pb2.RESOURCE_EXHAUSTED


async def test_arguments_get_the_types_of_the_function(attach: Attach) -> None:
    async def distance(point: Point, label: str) -> str:
        return f"{type(point).__name__} {point.x} {label!r}"

    attachment = await attach(distance)
    arguments: dict[str, Any] = {"point": {"x": 3, "y": 1}, "label": "\ud800"}
    result = await attachment.run("distance", arguments=arguments)
    assert result.text == "Point 3 '\\ud800'"
    arguments["point"]["x"] = 5000
    refused = await attachment.run("distance", arguments=arguments)
    assert refused.status.code == code_pb2.INVALID_ARGUMENT
    assert refused.execution_state == EXECUTION_STATE_NOT_STARTED
    assert "/point/x: too far" in refused.status.message


async def test_a_tool_that_it_does_not_have_is_not_found(attach: Attach) -> None:
    async def known() -> None:
        """Exists."""

    result = await (await attach(known)).run("unknown")
    assert result.status.code == code_pb2.NOT_FOUND
    assert result.execution_state == EXECUTION_STATE_NOT_STARTED


async def test_context_variables_are_those_of_the_call(attach: Attach) -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    async def coroutine() -> str:
        seen = variable.get()
        variable.set("changed")
        return seen

    def thread() -> str:
        seen = variable.get()
        variable.set("changed")
        return seen

    variable.set("of the application")
    attachment = await attach(coroutine, thread, max_concurrency=1)
    for name in ("coroutine", "thread", "coroutine", "thread"):
        assert (await attachment.run(name)).text == "of the application"


async def test_a_thread_that_cannot_be_started_costs_its_call_alone(
    attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    def thread() -> str:
        return "ran"

    def no_room(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    attachment = await attach(thread)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_room)
        result = await attachment.run("thread")
    assert result.status.code == code_pb2.UNAVAILABLE
    assert result.execution_state == EXECUTION_STATE_NOT_STARTED
    assert result.HasField("retry_after")
    assert (await attachment.run("thread")).text == "ran"


async def test_a_cancelled_coroutine_ends(attach: Attach) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def hangs() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    attachment = await attach(hangs)
    attempt_id = attachment.call("hangs")
    await asyncio.wait_for(started.wait(), WAIT_S)
    attachment.cancel(attempt_id)
    attachment.cancel(attempt_id)
    result = await attachment.result(attempt_id)
    assert result.status.code == code_pb2.CANCELLED
    assert result.execution_state == EXECUTION_STATE_UNKNOWN
    assert ended.is_set()


async def test_a_call_that_is_cancelled_at_once_has_one_result(attach: Attach) -> None:
    async def echo(n: int) -> int:
        return n

    attachment = await attach(echo, max_concurrency=50)
    attempts = []
    for n in range(50):
        attempts.append(attachment.call("echo", arguments={"n": n}))
        attachment.cancel(attempts[-1])
    for attempt_id in attempts:
        await attachment.result(attempt_id)
    attachment.cancel(attempts[0])
    assert (await attachment.run("echo", arguments={"n": 7})).json == "7"


async def test_who_ignores_the_cancellation_keeps_the_slot(attach: Attach) -> None:
    started, leave = asyncio.Event(), asyncio.Event()

    async def stubborn() -> str:
        started.set()
        while not leave.is_set():
            try:
                await leave.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    async def echo() -> str:
        return "echo"

    attachment = await attach(stubborn, echo)
    attempt_id = attachment.call("stubborn")
    await asyncio.wait_for(started.wait(), WAIT_S)
    attachment.cancel(attempt_id)
    assert (await attachment.run("echo")).text == "echo"
    assert attachment.in_hand == 1
    leave.set()
    assert (await attachment.result(attempt_id)).text == "late"


async def test_a_cancelled_thread_is_told(attach: Attach) -> None:
    started = threading.Event()

    def polite(ctx: ToolContext) -> str:
        started.set()
        assert ctx.wait_cancelled(WAIT_S)
        ctx.raise_if_cancelled()
        return "not reached"

    attachment = await attach(polite)
    attempt_id = attachment.call("polite")
    assert await asyncio.to_thread(started.wait, WAIT_S)
    attachment.cancel(attempt_id)
    result = await attachment.result(attempt_id)
    assert result.status.code == code_pb2.CANCELLED
    assert result.execution_state == EXECUTION_STATE_UNKNOWN


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_a_call_ends_with_its_time(attach: Attach, kind: str) -> None:
    async def coroutine() -> None:
        await asyncio.Event().wait()

    def thread(ctx: ToolContext) -> None:
        ctx.wait_cancelled()

    attachment = await attach(coroutine, thread)
    result = await attachment.run(kind, timeout_s=0.02)
    assert result.status.code == code_pb2.DEADLINE_EXCEEDED
    assert result.execution_state == EXECUTION_STATE_UNKNOWN


async def test_what_a_host_does_not_know_is_ignored(attach: Attach) -> None:
    leave = asyncio.Event()
    runs = 0

    async def waits() -> str:
        nonlocal runs
        runs += 1
        await leave.wait()
        return "done"

    async def echo() -> str:
        return "echo"

    attachment = await attach(waits, echo)
    attempt_id = attachment.call("waits")
    attachment.send(call={"attempt_id": attempt_id, "name": "waits", "attempt": 1})
    attachment.send()
    attachment.send(heartbeat={})
    attachment.cancel(99)
    assert (await attachment.run("echo")).text == "echo"
    leave.set()
    assert (await attachment.result(attempt_id)).text == "done"
    assert runs == 1
