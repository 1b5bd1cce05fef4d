import asyncio
import math
import threading
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import grpc
import pytest

import sidecall.testing
from sidecall import (
    ArgumentError,
    ResultError,
    SidecallError,
    Tool,
    ToolContext,
    ToolError,
    approve,
    pending_approvals,
    reason_of,
    reject,
    tool,
)
from sidecall.testing import ToolBox, run_batch, run_tool
from sidecall.v1 import ToolCall


@tool
async def greet(name: str, times: int = 1) -> str:
    """Greets."""
    return " ".join([f"Hello {name}"] * times)


@tool
def facts(context: ToolContext) -> dict[str, object]:
    """Tells what it knows."""
    context.progress(1, 2, "half")
    context.output("part")
    return {
        "tool": context.tool_name,
        "user": context.context["user"],
        "state": context.state,
        "caller": context.caller,
        "thread": threading.current_thread() is threading.main_thread(),
    }


@tool
async def count(n: int) -> AsyncIterator[str]:
    """Counts."""
    for number in range(n):
        yield f"{number};"


@tool
def numbers(n: int) -> Iterator[int]:
    """Counts in a thread."""
    yield from range(n)


async def test_run_tool_checks_runs_and_renders() -> None:
    run = await run_tool(greet, {"name": "Ada", "times": 2.0})
    assert (run.value, run.content) == ("Hello Ada Hello Ada", "Hello Ada Hello Ada")


async def test_run_tool_shows_what_the_tool_reported() -> None:
    run = await run_tool(facts, context={"user": "ada"}, state=[1], caller="me")
    assert run.progress == [(1.0, 2.0, "half")]
    assert run.output == ["part"]
    assert run.value == {
        "tool": "facts",
        "user": "ada",
        "state": [1],
        "caller": "me",
        "thread": False,
    }


async def test_run_tool_joins_what_generators_yield() -> None:
    run = await run_tool(count, {"n": 3})
    assert (run.content, run.output) == ("0;1;2;", ["0;", "1;", "2;"])
    assert (await run_tool(numbers, {"n": 3})).content == "[0,1,2]"


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ({}, ""),
        ({"name": 1}, "/name"),
        ({"name": "a", "times": "2"}, "/times"),
        ({"name": "a", "x": 1}, "/x"),
    ],
)
async def test_run_tool_refuses_what_does_not_fit(arguments: dict[str, object], place: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        await run_tool(greet, arguments)
    assert [at for at, _ in caught.value.violations] == [place]


async def test_run_tool_raises_what_the_tool_raises() -> None:
    def fail() -> None:
        raise ToolError("no", code="NOT_FOUND")

    with pytest.raises(ToolError, match="no"):
        await run_tool(tool(fail))
    with pytest.raises(ResultError):
        await run_tool(Tool(name="t", description="", input_schema={"type": "object"}, call=object))


async def test_run_tool_times_out_and_tells_the_thread() -> None:
    told = threading.Event()

    def patient(context: ToolContext) -> None:
        assert context.remaining() is not None
        if context.wait_cancelled(60):
            told.set()

    with pytest.raises(TimeoutError):
        await run_tool(tool(patient), timeout="10ms")
    assert await asyncio.to_thread(told.wait, 60)


@pytest.mark.parametrize("timeout", [0, math.nan, "soon"])
async def test_a_timeout_that_makes_no_sense_is_refused(engine: None, timeout: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        await run_tool(greet, {"name": "Ada"}, timeout=timeout)
    with pytest.raises(ValueError, match="duration"):
        await run_batch([greet], [("greet", {"name": "Ada"})], timeout=timeout)


@pytest.mark.usefixtures("engine")
async def test_calls_and_batches_of_a_tool_box_time_out() -> None:
    @tool
    async def hang() -> None:
        """Never returns."""
        await asyncio.Event().wait()

    async with ToolBox([hang]) as box:
        assert (await box.run("hang", timeout="50ms")).status.code == 4
        (result,) = await box.run_batch([("hang", "")], timeout=0.05)
        assert result.status.code == 4


async def test_a_tool_waits_as_long_as_it_says() -> None:
    def brief(context: ToolContext) -> bool:
        return context.wait_cancelled("10ms") or context.wait_cancelled(0)

    assert (await run_tool(tool(brief))).value is False


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    # The entry point as it is declared; an environment may have been made before it was.
    point = EntryPoint("inprocess", "sidecall_server.inprocess:open_engine", "sidecall.engine")
    monkeypatch.setattr(sidecall.testing, "entry_points", lambda group: EntryPoints([point]))


@pytest.mark.usefixtures("engine")
async def test_batch_with_references_runs_in_process() -> None:
    results = await run_batch(
        [greet, count],
        [
            ("greet", {"name": "Ada"}),
            ToolCall(id="x", name="greet", arguments='{"name": "${ref:1}"}'),
            ("missing", ""),
        ],
        mode="sequential",
    )
    assert [result.content for result in results[:2]] == ["Hello Ada", "Hello Hello Ada"]
    assert [result.call_id for result in results] == ["1", "x", "3"]
    assert results[2].status.code == 5


@pytest.mark.usefixtures("engine")
async def test_tool_box_runs_calls_one_by_one() -> None:
    async with ToolBox([greet, facts]) as box:
        assert (await box.run("greet", '{"name": "Ada"}')).content == "Hello Ada"
        assert '"user":"ada"' in (await box.run("facts", context={"user": "ada"})).content
    with pytest.raises(RuntimeError, match="not open"):
        await box.run("greet")


@pytest.mark.usefixtures("engine")
async def test_what_the_service_refuses_a_tool_box_refuses() -> None:
    async with ToolBox([greet]) as box:
        with pytest.raises(SidecallError) as caught:
            await box.run("greet", request_id="x" * 300)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.reason == "REQUEST_INVALID"
    assert caught.value.not_started


@pytest.mark.usefixtures("engine")
async def test_a_human_decides_in_a_tool_box() -> None:
    @tool(approval="required")
    def pay(price: int) -> str:
        """Pays."""
        return f"paid {price}"

    calls: list[tuple[str, dict[str, Any]]] = [
        ("pay", {"price": 1}),
        ("pay", {"price": 2}),
        ("greet", {"name": "${ref:@1}"}),
    ]
    async with ToolBox([pay, greet]) as box:
        asked = await box.run_batch(calls)
        first, second = pending_approvals(asked)
        assert [result.attempts for result in asked] == [0, 0, 0]
        decisions = [approve(first, arguments={"price": 3}), reject(second, comment="No.")]
        done = await box.run_batch(calls, request_id=asked.request_id, approvals=decisions)
        again = await box.run_batch(calls, request_id=asked.request_id)
    assert [done[0].content, done[2].content] == ["paid 3", "Hello paid 3"]
    assert reason_of(done[1]) == "APPROVAL_REJECTED"
    assert [result.content for result in again] == [result.content for result in done]
    assert [again[0].replayed, again[2].replayed] == [True, True]


async def test_missing_engine_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecall.testing, "entry_points", lambda group: EntryPoints())
    with pytest.raises(RuntimeError, match=r"sidecall\[server\]"):
        await run_batch([greet], [])
