import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import BaseModel, field_validator
from tests.support.handler_calls import failure, give_up, make_call, run, start, text

from sidecall import Tool, ToolContext, ToolError, tool
from sidecall_server.backends.coroutine import CoroutineBackend
from sidecall_server.backends.python_tools import PythonTool
from sidecall_server.core.events import CallEvent, PartialOutput, Progress
from sidecall_server.core.outcome import Code, ExecutionState, Reason
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.tool import Effects
from sidecall_server.observability.clock import SystemClock


async def backend(function: Callable[..., Any], state: Any = None, **policy: Any) -> BoundTool:
    clock = SystemClock(asyncio.get_running_loop())
    made = CoroutineBackend([PythonTool(tool(function, name="t", **policy), state)], clock)
    (bound,) = await made.start()
    return bound


async def test_spec_says_what_the_tool_declares() -> None:
    async def f(x: int) -> int:
        """Does it."""
        return x

    bound = await backend(
        f, effects="read_only", max_concurrency=3, max_queue=0, timeout="2s", queue_timeout=1
    )
    spec = bound.spec
    assert (spec.name, spec.description, spec.effects) == ("t", "Does it.", Effects.READ_ONLY)
    assert (spec.max_concurrency, spec.max_queue) == (3, 0)
    assert (spec.timeout_s, spec.queue_timeout_s) == (2.0, 1.0)
    assert spec.groups == ()
    assert spec.input_schema["required"] == ["x"]
    assert "test_coroutine_backend.py:" in bound.source


@pytest.mark.parametrize(
    ("value", "expected", "is_json"),
    [("x", "x", False), (None, "null", True), ({"a": 1}, '{"a":1}', True), ("", "", False)],
)
async def test_results_are_rendered(value: object, expected: str, is_json: bool) -> None:
    async def f() -> object:
        return value

    outcome = await run([await backend(f)], "t")
    assert (text(outcome), outcome.is_json) == (expected, is_json)  # type: ignore[union-attr]  # text() checked it


async def test_tool_error_reaches_the_model() -> None:
    async def f() -> None:
        raise ToolError("no such city: \ud800", code="NOT_FOUND", retry_after=2)

    outcome = failure(await run([await backend(f)], "t"))
    assert outcome.message == "no such city: \\ud800"
    assert (outcome.reason, outcome.status_code) == (Reason.TOOL_FAILED, Code.NOT_FOUND)
    assert (outcome.retry_after_s, outcome.state) == (2, ExecutionState.COMPLETED)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        SystemExit("secret"),
        KeyboardInterrupt("secret"),
        GeneratorExit("secret"),
        ExceptionGroup("secret", [ValueError("secret")]),
        asyncio.CancelledError("secret"),
        StopAsyncIteration("secret"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_any_other_exception_stays_in_the_log(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def f() -> None:
        raise error

    with caplog.at_level(logging.ERROR, logger="sidecall.tools"):
        outcome = failure(await run([await backend(f)], "t"))
    assert (outcome.reason, outcome.state) == (Reason.TOOL_FAILED, ExecutionState.COMPLETED)
    assert "'t' failed" in outcome.message
    assert "secret" not in outcome.message
    assert outcome.metadata["error_id"] in outcome.message
    assert outcome.metadata["error_id"] in caplog.text
    assert "secret" in caplog.text


async def test_result_that_cannot_be_written_fails_the_call() -> None:
    async def f() -> object:
        return object()

    outcome = failure(await run([await backend(f)], "t"))
    assert outcome.reason is Reason.TOOL_FAILED
    assert "its result cannot be passed on: it holds an object" in outcome.message


async def test_cancellation_by_the_engine_propagates() -> None:
    entered = asyncio.Event()

    async def f() -> None:
        entered.set()
        await asyncio.Event().wait()

    call = make_call("t")
    task = start(await backend(f), call)
    await entered.wait()
    give_up(call, task)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_tool_that_swallows_cancellation_ends_with_its_value() -> None:
    entered = asyncio.Event()

    async def f(context: ToolContext) -> bool:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return context.cancelled
        return False

    call = make_call("t")
    task = start(await backend(f), call)
    await entered.wait()
    give_up(call, task)
    assert text(await task) == "true"
    assert call.on_cancel is None


async def test_context_tells_about_the_call() -> None:
    async def f(x: int, ctx: ToolContext) -> dict[str, Any]:
        left = ctx.remaining()
        assert left is not None
        assert 0 < left <= 60
        return {
            "x": x,
            "tool": ctx.tool_name,
            "id": ctx.call_id,
            "attempt": ctx.attempt,
            "caller": ctx.caller,
            "user": ctx.context["user"],
            "state": ctx.state,
            "logger": ctx.logger.name,
            "cancelled": ctx.cancelled,
        }

    bound = await backend(f, state=[1])
    call = make_call("t", {"x": 1}, context={"user": "ada"})
    call.deadline_ns = SystemClock(asyncio.get_running_loop()).now_ns() + 60 * 10**9
    outcome = await bound.handler(call)
    assert text(outcome) == (
        '{"x":1,"tool":"t","id":"id-1","attempt":1,"caller":"tests","user":"ada","state":[1],'
        '"logger":"sidecall.tools.t","cancelled":false}'
    )


async def test_reports_from_a_helper_thread_arrive_on_the_loop() -> None:
    events: list[tuple[CallEvent, bool]] = []
    here = threading.get_ident()

    async def f(ctx: ToolContext) -> None:
        ctx.output("a\ud800")
        await asyncio.to_thread(ctx.progress, 1, 2, "half")

    def observe(event: CallEvent) -> None:
        events.append((event, threading.get_ident() == here))

    text(await run([await backend(f)], "t", observe))
    assert events == [
        (PartialOutput(7, "a\\ud800"), True),
        (Progress(7, 1.0, 2.0, "half"), True),
    ]


async def test_reports_after_the_end_are_dropped() -> None:
    events: list[CallEvent] = []
    kept: list[ToolContext] = []

    async def f(ctx: ToolContext) -> None:
        kept.append(ctx)

    bound = await backend(f)
    call = make_call("t", observer=events.append)
    call.outcome = await bound.handler(call)
    kept[0].progress(1)
    assert events == []


async def test_generator_shows_its_text_and_returns_all_of_it() -> None:
    async def f(n: int) -> AsyncIterator[str]:
        for number in range(n):
            yield str(number)

    async def g() -> AsyncIterator[object]:
        yield "a"
        yield {"b": 1}

    events: list[CallEvent] = []
    assert text(await run([await backend(f)], "t", events.append, n=3)) == "012"
    assert events == [PartialOutput(7, "0"), PartialOutput(7, "1"), PartialOutput(7, "2")]
    assert text(await run([await backend(f)], "t", n=0)) == ""
    assert text(await run([await backend(g)], "t")) == '["a",{"b":1}]'


async def test_cancelled_generator_is_closed() -> None:
    entered, closed = asyncio.Event(), asyncio.Event()

    async def f() -> AsyncIterator[str]:
        try:
            yield "a"
            entered.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    call = make_call("t")
    task = start(await backend(f), call)
    await entered.wait()
    give_up(call, task)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.is_set()


async def test_types_that_refuse_arguments_fail_before_the_start() -> None:
    class Even(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def check(cls, value: int) -> int:
            if value == 0:
                raise ZeroDivisionError("secret")
            if value % 2:
                raise ValueError("must be even")
            return value

    async def f(even: Even) -> int:
        return even.n

    tools = [await backend(f)]
    assert text(await run(tools, "t", even={"n": 2})) == "2"
    odd = failure(await run(tools, "t", even={"n": 3}))
    assert (odd.reason, odd.state) == (Reason.ARGUMENTS_INVALID, ExecutionState.NOT_STARTED)
    assert [item.field for item in odd.violations] == ["/even/n"]
    assert "must be even" in odd.message
    broken = failure(await run(tools, "t", even={"n": 0}))
    assert (broken.reason, broken.state) == (Reason.TOOL_FAILED, ExecutionState.NOT_STARTED)
    assert "secret" not in broken.message


async def test_explicit_tool_gets_arguments_by_name() -> None:
    async def call(**values: object) -> object:
        return values

    made: Tool[..., Any] = Tool(
        name="t", description="", input_schema={"type": "object"}, call=call
    )
    clock = SystemClock(asyncio.get_running_loop())
    tools = await CoroutineBackend([PythonTool(made)], clock).start()
    odd: dict[str, Any] = {"odd name": 1, "self": 2}
    assert text(await run(tools, "t", **odd)) == '{"odd name":1,"self":2}'
