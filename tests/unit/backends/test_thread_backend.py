import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.handler_calls import failure, find, give_up, make_call, run, start, text

from sidecall import ToolContext, ToolError, tool
from sidecall_server.backends.python_tools import PythonTool
from sidecall_server.backends.thread import GROUP, ThreadBackend
from sidecall_server.core.events import CallEvent, PartialOutput, Progress
from sidecall_server.core.outcome import Code, ExecutionState, Reason
from sidecall_server.core.ports import BoundTool
from sidecall_server.observability.clock import SystemClock

# A bound for what happens at once; a slow machine may take long for it.
PATIENCE_S = 60


@asynccontextmanager
async def serving(
    *functions: Callable[..., Any], max_threads: int = 4
) -> AsyncIterator[tuple[ThreadBackend, Sequence[BoundTool]]]:
    clock = SystemClock(asyncio.get_running_loop())
    tools = [PythonTool(tool(function), "state") for function in functions]
    backend = ThreadBackend(tools, max_threads, clock)
    try:
        yield backend, await backend.start()
    finally:
        await backend.stop(PATIENCE_S)


async def test_function_runs_in_a_thread_with_the_caller_s_context() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def f() -> dict[str, object]:
        seen = variable.get()
        variable.set("changed by the tool")
        return {"seen": seen, "main": threading.current_thread() is threading.main_thread()}

    async with serving(f) as (_, tools):
        assert find(tools, "f").spec.groups == (GROUP,)
        variable.set("set")
        assert text(await run(tools, "f")) == '{"seen":"set","main":false}'
        assert variable.get() == "set"


async def test_threads_are_made_when_needed_kept_and_bounded() -> None:
    barrier = threading.Barrier(3)

    def meet() -> int:
        return barrier.wait(PATIENCE_S)

    async with serving(meet, max_threads=3) as (backend, tools):
        assert backend.statistics() == {"max_threads": 3, "threads": 0, "busy": 0}
        for _ in range(3):
            met = await asyncio.gather(*(run(tools, "meet") for _ in range(3)))
            assert sorted(map(text, met)) == ["0", "1", "2"]
        assert backend.statistics() == {"max_threads": 3, "threads": 3, "busy": 0}


async def test_more_calls_than_threads_wait_for_one() -> None:
    def f(n: int) -> int:
        return n

    async with serving(f, max_threads=2) as (_, tools):
        outcomes = await asyncio.gather(*(run(tools, "f", n=n) for n in range(50)))
        assert [text(outcome) for outcome in outcomes] == [str(n) for n in range(50)]


async def test_failures_are_translated() -> None:
    def expected() -> None:
        raise ToolError("no", code="UNAVAILABLE")

    def leaves() -> None:
        raise SystemExit("secret")

    def stops() -> None:
        raise StopIteration("secret")

    async def inner() -> None:
        """Is never awaited."""

    def forgets() -> object:
        return inner()

    async with serving(expected, leaves, stops, forgets) as (_, tools):
        assert failure(await run(tools, "expected")).status_code is Code.UNAVAILABLE
        for name in ("leaves", "stops"):
            outcome = failure(await run(tools, name))
            assert outcome.reason is Reason.TOOL_FAILED
            assert "secret" not in outcome.message
        assert "async def" in failure(await run(tools, "forgets")).message


async def test_reports_and_generators_of_a_thread_arrive_on_the_loop() -> None:
    def reports(ctx: ToolContext) -> str:
        ctx.progress(1, None, "on the way")
        return str(ctx.state)

    def generates() -> Iterator[str]:
        yield "a"
        yield "b"

    events: list[tuple[CallEvent, int]] = []

    def observe(event: CallEvent) -> None:
        events.append((event, threading.get_ident()))

    async with serving(reports, generates) as (_, tools):
        assert text(await run(tools, "reports", observe)) == "state"
        assert text(await run(tools, "generates", observe)) == "ab"
    assert [event for event, _ in events] == [
        Progress(7, 1.0, None, "on the way"),
        PartialOutput(7, "a"),
        PartialOutput(7, "b"),
    ]
    assert {thread for _, thread in events} == {threading.get_ident()}


async def test_attempt_lasts_until_the_thread_has_returned() -> None:
    entered, leave = threading.Event(), threading.Event()

    def stubborn() -> str:
        entered.set()
        leave.wait(PATIENCE_S)
        return "too late"

    async with serving(stubborn) as (backend, tools):
        call = make_call("stubborn")
        task = start(find(tools, "stubborn"), call)
        assert await asyncio.to_thread(entered.wait, PATIENCE_S)
        give_up(call, task)
        for _ in range(3):
            task.cancel()
            done, _ = await asyncio.wait((task,), timeout=0.01)
            assert not done
        assert backend.statistics()["busy"] == 1
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert backend.statistics()["busy"] == 0


async def test_thread_is_told_to_end() -> None:
    entered = threading.Event()
    seen: list[bool] = []

    def polite(ctx: ToolContext) -> None:
        seen.append(ctx.cancelled)
        entered.set()
        seen.append(ctx.wait_cancelled(PATIENCE_S))
        ctx.raise_if_cancelled()
        seen.append(False)

    async with serving(polite) as (_, tools):
        call = make_call("polite")
        task = start(find(tools, "polite"), call)
        assert await asyncio.to_thread(entered.wait, PATIENCE_S)
        give_up(call, task)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert seen == [False, True]


async def test_stop_does_not_wait_for_ever() -> None:
    entered, leave = threading.Event(), threading.Event()

    def stubborn() -> None:
        entered.set()
        leave.wait(PATIENCE_S)

    async with serving(stubborn) as (backend, tools):
        task = start(find(tools, "stubborn"), make_call("stubborn"))
        assert await asyncio.to_thread(entered.wait, PATIENCE_S)
        await backend.stop(0.01)
        assert failure(await task).reason is Reason.DRAINING
        leave.set()


def no_room(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("others", [False, True])
async def test_thread_that_cannot_be_started_costs_only_its_call(
    monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    entered, leave = threading.Event(), threading.Event()
    ran: list[int] = []

    def hold() -> None:
        entered.set()
        leave.wait(PATIENCE_S)

    def effect(n: int) -> int:
        ran.append(n)
        return n

    async with serving(hold, effect) as (backend, tools):
        if others:
            holding = asyncio.create_task(run(tools, "hold"))
            assert await asyncio.to_thread(entered.wait, PATIENCE_S)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_room)
            call = make_call("effect", {"n": 1})
            async with asyncio.timeout(PATIENCE_S):
                outcome = failure(await find(tools, "effect").handler(call))
        assert (outcome.reason, outcome.state) == (
            Reason.TOOL_UNAVAILABLE,
            ExecutionState.NOT_STARTED,
        )
        assert (call.attempt, call.on_cancel) == (0, None)
        assert backend.statistics() == {"max_threads": 4, "threads": others, "busy": others}
        leave.set()
        if others:
            assert text(await holding) == "null"
        # What was refused stays away: threads that there are now find nothing of it.
        assert text(await run(tools, "effect", n=2)) == "2"
    assert ran == [2]
