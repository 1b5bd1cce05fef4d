"""Arguments that are too large to be shown to whoever has to approve them."""

import json

from tests.support.approving import asked
from tests.support.engines import bench, bound, echo, failure_of, reasons

from sidecall_server.core.call import Call, ToolCall
from sidecall_server.core.outcome import ExecutionState, Reason
from sidecall_server.engine.approvals import MAX_ARGUMENTS_BYTES


async def large(call: Call) -> str:
    return "x" * MAX_ARGUMENTS_BYTES


def pay(text: str) -> ToolCall:
    return ToolCall("", "pay", json.dumps({"text": text}, ensure_ascii=False))


async def test_nobody_is_asked_about_what_cannot_be_shown() -> None:
    room = MAX_ARGUMENTS_BYTES - len('{"text":""}')
    calls = [
        pay("x" * room),
        pay("x" * (room + 1)),
        pay("é" * (room // 2 + 1)),
        ToolCall("big", "large"),
        ToolCall("", "pay", '{"text": "$ref:big"}'),
    ]
    async with bench(bound("pay", echo, requires_approval=True), bound("large", large)) as b:
        turn = (await b.start(calls)).calls()
        assert reasons(turn) == [
            "APPROVAL_REQUIRED",
            "ARGUMENTS_INVALID",
            "ARGUMENTS_INVALID",
            "OK",
            "ARGUMENTS_INVALID",
        ]
        assert len(asked(turn[0]).arguments) == MAX_ARGUMENTS_BYTES
        for call in (turn[1], turn[2], turn[4]):
            failure = failure_of(call)
            assert (failure.reason, failure.state) == (
                Reason.ARGUMENTS_INVALID,
                ExecutionState.NOT_STARTED,
            )
            assert "too large to be shown" in failure.message
            assert len(failure.violations) == 1
            assert call.asked is None
        b.assert_idle()
