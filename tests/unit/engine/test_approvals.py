"""Calls that wait for a human, and what becomes of them."""

import json
from typing import Any

import pytest
from tests.support.approving import asked, decide, decisions, refusal, resend
from tests.support.clock import settle
from tests.support.engines import bench, bound, echo, fail, failure_of, reasons, text_of
from tests.support.runs import Runs

from sidecall_server.core.call import Call, Mode, OnFailure, ToolCall
from sidecall_server.core.outcome import ExecutionState, Failure, Reason
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.rejection import RejectionReason
from sidecall_server.core.tool import Lane

SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "count": {"type": "integer", "default": 5}},
    "required": ["text"],
    "additionalProperties": False,
}


class Ran:
    """A tool that keeps the arguments of its calls."""

    def __init__(self) -> None:
        self.arguments: list[dict[str, Any]] = []

    async def __call__(self, call: Call) -> str:
        self.arguments.append(call.arguments)
        return f"ran {len(self.arguments)}"


def approved(ran: Any, name: str = "pay", **spec: Any) -> BoundTool:
    spec.setdefault("input_schema", SCHEMA)
    return bound(name, ran, requires_approval=True, **spec)


def pay(text: str = "a", **fields: Any) -> ToolCall:
    return ToolCall("", "pay", json.dumps({"text": text}), **fields)


async def test_a_call_that_waits_for_a_human_has_not_run() -> None:
    ran = Ran()
    async with bench(approved(ran), bound("echo", echo)) as b:
        turn = await b.start([pay(), ToolCall("", "echo")])
        call, other = turn.calls()

        assert ran.arguments == []
        failure = failure_of(call)
        assert (failure.reason, failure.state) == (
            Reason.APPROVAL_REQUIRED,
            ExecutionState.NOT_STARTED,
        )
        assert (call.attempt, call.asked is not None, other.asked) == (0, True, None)
        assert json.loads(asked(call).arguments) == {"text": "a", "count": 5}
        assert text_of(other) == "done"
        assert turn.task.result().request_id
        b.assert_idle()


async def test_only_a_batch_in_which_a_call_waits_gets_an_id() -> None:
    async with bench(approved(Ran()), bound("echo", echo)) as b:
        turn = await b.start([ToolCall("", "echo"), ToolCall("", "pay", "{}")])

        assert reasons(turn.calls()) == ["OK", "ARGUMENTS_INVALID"]
        assert turn.task.result().request_id == ""
        assert b.engine.statistics().remembered == 0


async def test_an_id_of_the_client_is_used() -> None:
    async with bench(approved(Ran())) as b:
        turn = await b.start([pay()], request_id="mine")
        assert turn.task.result().request_id == "mine"


async def test_an_approved_call_runs_once_and_the_others_are_not_run_again() -> None:
    ran, other = Ran(), Ran()
    async with bench(approved(ran), bound("write", other)) as b:
        calls = [pay(), ToolCall("", "write")]
        turn = await b.start(calls)
        again = await resend(b, calls, turn, decide(turn.calls()[0]))

        assert [text_of(call) for call in again.calls()] == ["ran 1", "ran 1"]
        assert ran.arguments == [{"text": "a", "count": 5}]
        assert [call.replayed for call in again.calls()] == [False, True]
        assert again.task.result().request_id == turn.task.result().request_id

        third = await resend(b, calls, turn, decide(turn.calls()[0]))
        fourth = await resend(b, calls, turn)
        for later in (third, fourth):
            assert [text_of(call) for call in later.calls()] == ["ran 1", "ran 1"]
            assert [call.replayed for call in later.calls()] == [True, True]
        assert (len(ran.arguments), len(other.arguments)) == (1, 1)
        b.assert_idle()


async def test_a_resend_without_a_decision_asks_the_same_question() -> None:
    ran = Ran()
    async with bench(approved(ran)) as b:
        turn = await b.start([pay()])
        again = await resend(b, [pay()], turn)

        assert reasons(again.calls()) == ["APPROVAL_REQUIRED"]
        assert asked(again.calls()[0]) == asked(turn.calls()[0])
        assert ran.arguments == []


async def test_a_rejected_call_never_runs() -> None:
    ran = Ran()
    async with bench(approved(ran)) as b:
        turn = await b.start([pay()])
        first = turn.calls()[0]
        no = decide(first, approved=False, decided_by="ann@example.org", comment="Too much.")
        again = await resend(b, [pay()], turn, no)

        failure = failure_of(again.calls()[0])
        assert (failure.reason, failure.state) == (
            Reason.APPROVAL_REJECTED,
            ExecutionState.NOT_STARTED,
        )
        assert "ann@example.org" in failure.message
        assert "Too much." in failure.message
        for later in (decide(first), {}):
            assert reasons((await resend(b, [pay()], turn, later)).calls()) == ["APPROVAL_REJECTED"]
        assert ran.arguments == []
        b.assert_idle()


async def test_the_first_decision_holds() -> None:
    runs = Runs()
    async with bench(approved(runs)) as b:
        turn = await b.start([pay()])
        call = turn.calls()[0]
        first = await resend(b, [pay()], turn, decide(call, arguments='{"text": "first"}'))
        for later in (decide(call, approved=False), decide(call, arguments='{"text": "second"}')):
            await resend(b, [pay()], turn, later)
        await runs[0].finish()

        assert runs[0].call.arguments == {"text": "first", "count": 5}
        assert reasons(first.calls()) == ["OK"]
        assert len(runs) == 1


async def test_a_decision_holds_whose_send_was_lost_before_the_call_ran() -> None:
    runs = Runs()
    async with bench(approved(runs, max_concurrency=1)) as b:
        busy = await b.start([pay("busy")])
        turn = await b.start([pay()])
        await resend(b, [pay("busy")], busy, decide(busy.calls()[0]))
        lost = await resend(b, [pay()], turn, decide(turn.calls()[0]))
        lost.task.cancel()
        await settle()
        await runs[0].finish()
        again = await resend(b, [pay()], turn)
        await runs[1].finish("approved before")

        assert text_of(again.calls()[0]) == "approved before"
        b.assert_idle()


@pytest.mark.parametrize("mode", [Mode.PARALLEL, Mode.SEQUENTIAL])
async def test_what_depends_on_a_call_that_waits_fails_and_runs_later(mode: Mode) -> None:
    ran = Ran()
    async with bench(approved(ran), bound("echo", echo)) as b:
        calls = [pay(), ToolCall("", "echo", '{"text": "<${ref:@1}>"}')]
        turn = await b.start(calls, mode=mode)
        assert reasons(turn.calls()) == ["APPROVAL_REQUIRED", "DEPENDENCY_FAILED"]
        again = await resend(b, calls, turn, decide(turn.calls()[0]), mode=mode)

        assert [text_of(call) for call in again.calls()] == ["ran 1", "<ran 1>"]


async def test_later_calls_of_a_sequential_batch_wait_as_well() -> None:
    ran, written = Ran(), Ran()
    async with bench(approved(ran), bound("write", written)) as b:
        write = ToolCall("", "write")
        calls = [write, pay(), write, pay("b")]
        turn = await b.start(calls, mode=Mode.SEQUENTIAL)
        assert reasons(turn.calls()) == ["OK", *["APPROVAL_REQUIRED"] * 3]
        assert [call.asked is not None for call in turn.calls()] == [False, True, False, False]
        assert "@2" in failure_of(turn.calls()[2]).message

        again = await resend(b, calls, turn, decide(turn.calls()[1]), mode=Mode.SEQUENTIAL)
        assert reasons(again.calls()) == ["OK", "OK", "OK", "APPROVAL_REQUIRED"]
        last = await resend(b, calls, turn, decide(again.calls()[3]), mode=Mode.SEQUENTIAL)
        assert reasons(last.calls()) == ["OK"] * 4
        assert (len(ran.arguments), len(written.arguments)) == (2, 2)
        b.assert_idle()


async def test_later_calls_of_a_sequential_batch_run_after_a_rejection() -> None:
    written = Ran()
    async with bench(approved(Ran()), bound("write", written)) as b:
        calls = [pay(), ToolCall("", "write")]
        turn = await b.start(calls, mode=Mode.SEQUENTIAL)
        no = decide(turn.calls()[0], approved=False)
        again = await resend(b, calls, turn, no, mode=Mode.SEQUENTIAL)

        assert reasons(again.calls()) == ["APPROVAL_REJECTED", "OK"]


@pytest.mark.parametrize("mode", [Mode.PARALLEL, Mode.SEQUENTIAL])
async def test_a_call_that_waits_is_no_failure_for_stop(mode: Mode) -> None:
    written = Ran()
    stop: dict[str, Any] = {"on_failure": OnFailure.STOP, "mode": mode}
    async with bench(approved(Ran()), bound("write", written)) as b:
        calls = [pay(), ToolCall("", "write")]
        turn = await b.start(calls, **stop)
        later = "OK" if mode is Mode.PARALLEL else "APPROVAL_REQUIRED"
        assert reasons(turn.calls()) == ["APPROVAL_REQUIRED", later]

        no = decide(turn.calls()[0], approved=False)
        again = await resend(b, calls, turn, no, **stop)
        assert reasons(again.calls())[0] == "APPROVAL_REJECTED"
        assert reasons(again.calls())[1] == ("OK" if mode is Mode.PARALLEL else "STOPPED")


async def test_stop_ends_calls_before_a_human_is_asked() -> None:
    async with bench(approved(Ran()), bound("fail", fail), max_concurrency=2) as b:
        calls = [ToolCall("", "fail"), pay(depends_on=())]
        turn = await b.start(calls, on_failure=OnFailure.STOP, mode=Mode.SEQUENTIAL)

        assert reasons(turn.calls()) == ["TOOL_FAILED", "STOPPED"]
        assert turn.task.result().request_id == ""


async def test_later_calls_of_the_same_lane_are_held_back() -> None:
    ran, moved = Ran(), Ran()
    lane = Lane("account:{text}")
    tools = (approved(ran, lane=lane), bound("move", moved, input_schema=SCHEMA, lane=lane))
    async with bench(*tools) as b:
        move = [ToolCall("", "move", json.dumps({"text": text})) for text in "ab"]
        calls = [move[0], pay("a"), *move]
        turn = await b.start(calls)
        assert reasons(turn.calls()) == ["OK", "APPROVAL_REQUIRED", "APPROVAL_REQUIRED", "OK"]
        assert turn.calls()[2].asked is None
        assert "@2" in failure_of(turn.calls()[2]).message

        again = await resend(b, calls, turn, decide(turn.calls()[1]))
        assert reasons(again.calls()) == ["OK"] * 4
        assert [call.replayed for call in again.calls()] == [True, False, False, True]
        b.assert_idle()


async def test_two_calls_of_one_turn_are_decided_apart() -> None:
    ran = Ran()
    async with bench(approved(ran)) as b:
        calls = [pay("a"), pay("b"), pay("b")]
        turn = await b.start(calls)
        first, second, third = turn.calls()
        assert len({asked(call).approval_id for call in turn.calls()}) == 3

        again = await resend(b, calls, turn, decide(second))
        assert reasons(again.calls()) == ["APPROVAL_REQUIRED", "OK", "APPROVAL_REQUIRED"]
        assert [c.asked for c in again.calls()] == [first.asked, None, third.asked]
        both = decisions(decide(first, approved=False), decide(third))
        last = await resend(b, calls, turn, both)
        assert reasons(last.calls()) == ["APPROVAL_REJECTED", "OK", "OK"]
        assert [call.replayed for call in last.calls()] == [False, True, False]
        assert [arguments["text"] for arguments in ran.arguments] == ["b", "b"]


@pytest.mark.parametrize("options", [{}, {"context": {"a": "c"}}, {"mode": Mode.SEQUENTIAL}])
async def test_a_resend_with_other_options_is_refused(options: dict[str, Any]) -> None:
    ran = Ran()
    async with bench(approved(ran)) as b:
        turn = await b.start([pay()], context={"a": "b"})
        again = await resend(b, [pay()], turn, decide(turn.calls()[0]), **options)

        assert refusal(again) is RejectionReason.REQUEST_ID_REUSED
        assert ran.arguments == []


async def test_a_call_that_fails_after_its_approval_is_not_asked_about_again() -> None:
    runs = Runs()
    async with bench(approved(runs)) as b:
        turn = await b.start([pay()])
        again = await resend(b, [pay()], turn, decide(turn.calls()[0]))
        await runs[0].finish(Failure(Reason.TOOL_FAILED, "no money", ExecutionState.COMPLETED))
        third = await resend(b, [pay()], turn)

        assert reasons(again.calls() + third.calls()) == ["TOOL_FAILED"] * 2
        assert len(runs) == 1


async def test_concurrent_resends_run_it_once() -> None:
    runs = Runs()
    async with bench(approved(runs)) as b:
        turn = await b.start([pay()])
        yes = decide(turn.calls()[0])
        first, second = [await resend(b, [pay()], turn, yes) for _ in range(2)]
        assert len(runs) == 1
        await runs[0].finish("once")

        assert [text_of(c) for c in first.calls() + second.calls()] == ["once"] * 2
        assert [c.replayed for c in first.calls() + second.calls()] == [False, True]
        b.assert_idle()
