"""What calls waited for that ended before their turn came."""

import pytest
from tests.support.clock import settle
from tests.support.engines import Gate, bench, bound, echo, failure_of, reasons

from sidecall_server.core.call import BlockCause, Mode, OnFailure, ToolCall
from sidecall_server.core.tool import Lane

S = 1_000_000_000


@pytest.mark.parametrize("own_timeout", [True, False])
async def test_a_call_whose_time_ends_says_that_it_waited_for_a_result(own_timeout: bool) -> None:
    gate = Gate()
    async with bench(bound("slow", gate), bound("echo", echo)) as b:
        waits = ToolCall("", "echo", '{"text": "$ref:@1"}', timeout_s=3.0 if own_timeout else None)
        calls = [ToolCall("", "slow"), waits]
        turn = await b.start(calls, timeout_s=10.0 if own_timeout else 3.0)
        await b.clock.advance(3)
        gate.open(0)
        await settle()

        call = turn.calls()[1]
        wanted = "CALL_DEADLINE" if own_timeout else "BATCH_DEADLINE"
        assert failure_of(call).reason.name == wanted
        assert call.blocked_ns == {BlockCause.REFERENCE: 3 * S}


async def test_a_call_whose_time_ends_says_that_it_waited_for_its_lane() -> None:
    gate = Gate()
    async with bench(bound("pay", gate, lane=Lane("all"))) as b:
        turn = await b.start([ToolCall("", "pay"), ToolCall("", "pay")], timeout_s=2.0)
        await b.clock.advance(2)

        assert turn.calls()[1].blocked_ns == {BlockCause.LANE: 2 * S}
        assert reasons(turn.calls()) == ["BATCH_DEADLINE"] * 2


async def test_a_call_whose_time_ends_says_that_it_waited_for_its_turn() -> None:
    gate = Gate()
    async with bench(bound("slow", gate)) as b:
        calls = [ToolCall("", "slow"), ToolCall("", "slow", timeout_s=2.0)]
        turn = await b.start(calls, mode=Mode.SEQUENTIAL)
        await b.clock.advance(2)
        gate.open(0)
        await settle()

        assert turn.calls()[1].blocked_ns == {BlockCause.ORDER: 2 * S}


async def test_calls_behind_one_that_waits_for_a_person_name_that_one() -> None:
    pay = bound("pay", echo, requires_approval=True)
    async with bench(bound("echo", echo), pay) as b:
        names = ["echo", "pay", "echo", "echo"]
        calls = await b.run(
            [ToolCall("", name) for name in names],
            mode=Mode.SEQUENTIAL,
            on_failure=OnFailure.STOP,
        )

        assert reasons(calls) == ["OK", *["APPROVAL_REQUIRED"] * 3]
        assert all("the call @2" in failure_of(call).message for call in calls[2:])
