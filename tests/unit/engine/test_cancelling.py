"""What becomes of calls that are cancelled: by the client, by a drain, by themselves."""

import asyncio
import contextvars

import pytest
from tests.support.clock import settle
from tests.support.engines import (
    ANY_OBJECT,
    Gate,
    bench,
    bound,
    calls_of,
    echo,
    failure_of,
    hang,
    raised,
    reasons,
    text_of,
)

from sidecall_server.core.call import Call, OnFailure, ToolCall
from sidecall_server.core.outcome import ExecutionState, Outcome, Reason
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.core.tool import ToolSpec


async def test_cancelling_a_batch_ends_what_runs_and_starts_nothing_more() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=2)) as b:
        turn = await b.start(calls_of("gate", 5))
        turn.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn.task
        await settle()

        assert gate.started == [0, 1]
        assert gate.cancelled == [0, 1]
        b.assert_idle()


async def test_cancelling_a_batch_in_its_first_step_starts_nothing() -> None:
    gate = Gate()
    async with bench(bound("gate", gate)) as b:
        turn = asyncio.create_task(b.start(calls_of("gate", 3)))
        await asyncio.sleep(0)
        turn.cancel()
        await settle()

        await b.close()
        assert len(gate.cancelled) == len(gate.started)
        b.assert_idle()


async def test_other_batches_do_not_notice_a_cancelled_one() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=1)) as b:
        first = await b.start([ToolCall("a", "gate")])
        second = await b.start([ToolCall("b", "gate")])
        first.task.cancel()
        gate.open(0)
        await settle()

        assert reasons(second.calls()) == ["OK"]
        b.assert_idle()


async def test_a_call_that_was_admitted_but_not_begun_was_not_started() -> None:
    """Between its admission and the first step of its task a call can still be taken back."""
    gate = Gate()
    async with bench(bound("gate", gate)) as b:
        engine = b.engine

        async def admit_and_cancel() -> list[Call]:
            turn = asyncio.create_task(b.start(calls_of("gate", 2)))
            for _ in range(100):
                await asyncio.sleep(0)
                if engine.statistics().running:
                    break
            # The workers exist, and this code runs before their first step.
            assert gate.started == []
            engine.cancel_open()
            return (await turn).calls()

        calls = await admit_and_cancel()
        assert reasons(calls) == ["DRAINING", "DRAINING"]
        assert {failure_of(call).state for call in calls} == {ExecutionState.NOT_STARTED}
        assert gate.started == []
        b.assert_idle()


async def test_a_drain_answers_with_what_there_is() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=1), bound("echo", echo)) as b:
        turn = await b.start([ToolCall("", "echo"), *calls_of("gate", 2)])
        b.engine.refuse_batches()
        await settle()
        assert not turn.done
        b.engine.cancel_open()
        await settle()

        calls = turn.calls()
        assert reasons(calls) == ["OK", "DRAINING", "DRAINING"]
        assert [failure_of(call).state for call in calls[1:]] == [
            ExecutionState.UNKNOWN,
            ExecutionState.NOT_STARTED,
        ]
        b.assert_idle()


async def test_a_draining_engine_refuses_new_batches() -> None:
    async with bench(bound("echo", echo)) as b:
        b.engine.refuse_batches()
        with pytest.raises(Rejection) as refused:
            await b.run([ToolCall("", "echo")])

        assert refused.value.reason is RejectionReason.DRAINING
        assert refused.value.retry_after_s is not None


async def test_open_batches_are_bounded() -> None:
    gate = Gate()
    async with bench(bound("gate", gate), max_open_batches=2) as b:
        turns = [await b.start(calls_of("gate", 1)) for _ in range(2)]
        with pytest.raises(Rejection) as refused:
            await b.run(calls_of("gate", 1))
        assert refused.value.reason is RejectionReason.TOO_MANY_BATCHES
        gate.open(0)
        await settle()

        assert [reasons(turn.calls()) for turn in turns] == [["OK"], ["OK"]]
        assert reasons(await b.run(calls_of("gate", 1))) == ["OK"]


async def test_a_tool_that_cancels_its_own_task_costs_only_its_result() -> None:
    started: list[int] = []

    async def suicidal(call: Call) -> str:
        started.append(call.index)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if call.index % 2:
            await asyncio.sleep(0)
        return "returned"

    async with bench(bound("suicidal", suicidal, max_concurrency=1)) as b:
        calls = await b.run(calls_of("suicidal", 6))

        assert reasons(calls) == ["OK", "TOOL_FAILED"] * 3
        assert started == [0, 1, 2, 3, 4, 5]
        b.assert_idle()


async def test_a_cancelled_worker_is_not_used_again() -> None:
    tasks: list[asyncio.Task[None] | None] = []

    async def note(call: Call) -> str:
        task = asyncio.current_task()
        tasks.append(task)
        assert task is not None
        if call.index == 1:
            task.cancel()
        return str(task.cancelling())

    async with bench(bound("note", note, max_concurrency=1)) as b:
        calls = await b.run(calls_of("note", 4))

        assert [text_of(call) for call in calls] == ["0", "1", "0", "0"]
        assert tasks[0] is tasks[1]
        assert tasks[1] is not tasks[2]


async def test_context_variables_do_not_leak_from_call_to_call() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")
    seen: list[str] = []

    async def dirty(call: Call) -> Outcome | str:
        seen.append(variable.get())
        variable.set(f"set by {call.index}")
        return raised("failed") if call.index == 2 else "done"

    async with bench(
        bound("dirty", dirty, max_concurrency=1), bound("other", dirty, max_concurrency=1)
    ) as b:
        calls = [*calls_of("dirty", 3), *calls_of("other", 3)]
        await b.run([*calls, ToolCall("", "dirty", depends_on=("@1",))])
        await b.run(calls, on_failure=OnFailure.STOP)

        assert set(seen) == {"clean"}
        assert len(seen) > 9


async def test_context_variables_of_the_sender_do_not_reach_other_batches() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")
    seen: list[str] = []

    async def look(_: Call) -> str:
        seen.append(variable.get())
        return "done"

    async with bench(bound("look", look, max_concurrency=1)) as b:
        variable.set("the first sender's")
        first = await b.start(calls_of("look", 2))
        second = await b.start(calls_of("look", 2))

        assert first.done
        assert second.done
        assert set(seen) == {"clean"}


async def test_a_handler_that_raises_is_an_internal_error_with_an_id_and_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(_: Call) -> Outcome:
        raise ZeroDivisionError("secret")

    tool = BoundTool(ToolSpec("broken", "", ANY_OBJECT), broken)
    async with bench(tool, bound("echo", echo)) as b:
        calls = await b.run([ToolCall("a", "broken"), ToolCall("b", "echo")])

        failure = failure_of(calls[0])
        assert (failure.reason, failure.state) == (Reason.INTERNAL, ExecutionState.UNKNOWN)
        assert "secret" not in failure.message
        assert failure.metadata["error_id"] in caplog.text
        assert "ZeroDivisionError: secret" in caplog.text
        assert reasons(calls) == ["INTERNAL", "OK"]
        b.assert_idle()


async def test_a_handler_that_says_it_was_cancelled_although_it_was_not_is_an_internal_error() -> (
    None
):
    async def broken(_: Call) -> Outcome:
        raise asyncio.CancelledError

    tool = BoundTool(ToolSpec("broken", "", ANY_OBJECT), broken)
    async with bench(tool, bound("echo", echo)) as b:
        calls = await b.run([ToolCall("a", "broken"), ToolCall("b", "echo")])

        assert reasons(calls) == ["INTERNAL", "OK"]
        b.assert_idle()


async def test_a_check_that_raises_costs_only_its_own_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: dict[str, object]) -> dict[str, object]:
        raise ZeroDivisionError("secret")

    tool = bound("echo", echo)
    broken_tool = BoundTool(ToolSpec("broken", "", ANY_OBJECT), tool.handler, broken)
    async with bench(tool, broken_tool) as b:
        calls = await b.run(
            [
                ToolCall("a", "echo"),
                ToolCall("b", "broken", depends_on=("a",)),
                *calls_of("echo", 2),
            ]
        )

        assert reasons(calls) == ["OK", "INTERNAL", "OK", "OK"]
        assert failure_of(calls[1]).state is ExecutionState.NOT_STARTED
        assert failure_of(calls[1]).metadata["error_id"] in caplog.text
        b.assert_idle()


async def test_stop_ends_what_runs() -> None:
    async with bench(bound("hang", hang)) as b:
        turn = await b.start(calls_of("hang", 3))
        await b.engine.stop(1.0)

        assert reasons(turn.calls()) == ["DRAINING"] * 3
        b.assert_idle()
        assert b.clock.armed == 0
