"""SEQUENTIAL and STOP, through the engine."""

import json

import pytest
from tests.support.clock import settle
from tests.support.engines import Gate, bench, bound, calls_of, echo, fail, failure_of, reasons

from sidecall_server.core.call import Call, Mode, OnFailure, ToolCall
from sidecall_server.core.outcome import ExecutionState

SEQUENTIAL, STOP = Mode.SEQUENTIAL, OnFailure.STOP


async def test_sequential_runs_one_call_at_a_time_in_emitted_order() -> None:
    gate = Gate()
    async with bench(bound("gate", gate), bound("other", gate)) as b:
        turn = await b.start(
            [ToolCall("", name) for name in ("gate", "other", "gate")], mode=SEQUENTIAL
        )
        for index in range(3):
            assert gate.started == list(range(index + 1))
            gate.open(index)
            await settle()

        assert reasons(turn.calls()) == ["OK"] * 3
        assert gate.peak == 1


async def test_sequential_takes_the_first_call_whose_dependencies_are_final() -> None:
    gate = Gate()
    gate.open(*range(4))
    async with bench(bound("gate", gate)) as b:
        await b.run(
            [
                ToolCall("a", "gate", depends_on=("@3",)),
                ToolCall("b", "gate"),
                ToolCall("c", "gate"),
                ToolCall("d", "gate"),
            ],
            mode=SEQUENTIAL,
        )

        assert gate.started == [1, 2, 0, 3]


async def test_sequential_goes_on_after_failures_and_timeouts() -> None:
    gate = Gate()
    async with bench(
        bound("gate", gate, timeout_s=1.0), bound("fail", fail), bound("echo", echo)
    ) as b:
        turn = await b.start(
            [ToolCall("", name) for name in ("fail", "nothing", "gate", "echo")], mode=SEQUENTIAL
        )
        await b.clock.advance(1.0)

        assert reasons(turn.calls()) == ["TOOL_FAILED", "TOOL_NOT_FOUND", "TOOL_TIMEOUT", "OK"]


async def test_stop_lets_what_runs_finish_and_starts_nothing_more() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=2), bound("fail", fail)) as b:
        turn = await b.start(
            [
                *calls_of("gate", 4),
                ToolCall("", "fail", depends_on=("@1",)),
                ToolCall("", "gate", depends_on=("@5",)),
            ],
            on_failure=STOP,
        )
        gate.open(0)
        await settle()
        assert not turn.done
        gate.open(*range(4))
        await settle()

        calls = turn.calls()
        assert reasons(calls) == ["OK", "OK", "OK", "STOPPED", "TOOL_FAILED", "DEPENDENCY_FAILED"]
        assert failure_of(calls[3]).state is ExecutionState.NOT_STARTED
        assert calls[3].attempt == 0
        b.assert_idle()


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("nothing", "", "TOOL_NOT_FOUND"),
        ("echo", "[]", "ARGUMENTS_INVALID"),
        ("echo", '{"text": "$ref:nothing"}', "REFERENCE_UNRESOLVED"),
    ],
)
async def test_an_error_before_the_start_counts_at_the_calls_turn(
    name: str, arguments: str, reason: str
) -> None:
    async with bench(bound("echo", echo)) as b:
        calls = [ToolCall("", "echo"), ToolCall("", name, arguments), ToolCall("", "echo")]

        for mode in (SEQUENTIAL, Mode.PARALLEL):
            done = await b.run(calls, mode=mode, on_failure=STOP)
            assert reasons(done) == ["OK", reason, "STOPPED"]


async def test_a_timeout_and_a_cancelled_call_stop_the_rest() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, timeout_s=1.0), bound("echo", echo)) as b:
        turn = await b.start([ToolCall("", "gate"), ToolCall("", "echo")],
                             mode=SEQUENTIAL, on_failure=STOP)  # fmt: skip
        await b.clock.advance(1.0)

        assert reasons(turn.calls()) == ["TOOL_TIMEOUT", "STOPPED"]


async def test_a_failure_without_stop_costs_only_what_depends_on_it() -> None:
    async with bench(bound("fail", fail), bound("echo", echo)) as b:
        calls = await b.run(
            [
                ToolCall("bad", "fail"),
                ToolCall("", "echo", json.dumps({"text": "$ref:bad"})),
                ToolCall("", "echo"),
            ]
        )

        assert reasons(calls) == ["TOOL_FAILED", "DEPENDENCY_FAILED", "OK"]


async def test_an_empty_batch_is_answered() -> None:
    async with bench() as b:
        for mode in Mode:
            assert await b.run([], mode=mode) == []
        b.assert_idle()


async def test_repeated_and_empty_ids_cost_nothing() -> None:
    async def which(call: Call) -> str:
        return str(call.index)

    async with bench(bound("which", which)) as b:
        calls = await b.run([ToolCall(i, "which") for i in ("", "", "x", "x", "@1")])

        assert reasons(calls) == ["OK"] * 5
        assert [call.index for call in calls] == [0, 1, 2, 3, 4]


async def test_many_calls_that_wait_for_one_all_run() -> None:
    async with bench(bound("echo", echo)) as b:
        count = 1_000
        turn = await b.start(
            [
                ToolCall("a", "echo"),
                *(ToolCall("", "echo", depends_on=("@1",)) for _ in range(count)),
            ]
        )
        await settle()

        assert [type(call.outcome).__name__ for call in turn.calls()] == ["Success"] * (count + 1)
        b.assert_idle()
