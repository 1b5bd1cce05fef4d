"""What becomes of requests, keys and questions for which there is no room."""

import asyncio
import logging
from collections.abc import Callable

import pytest
from tests.support.approving import asked, decide, resend
from tests.support.clock import settle
from tests.support.engines import Bench, bench, bound, failure_of, reasons, text_of
from tests.support.works import Works, to

from sidecall_server.core.call import Call, ToolCall
from sidecall_server.core.outcome import ExecutionState
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.engine.log import ENTRY_BYTES

ROOM = 100 * ENTRY_BYTES
WIRE = ToolCall("", "wire", "{}")


def wire(ran: Callable[[], None] = lambda: None) -> BoundTool:
    async def run(call: Call) -> str:
        ran()
        return f"wired {call.index}"

    return bound("wire", run, requires_approval=True)


async def fill(b: Bench, identity: str) -> int:
    """Sends until a new id is refused; returns how many were taken."""
    for number in range(101):
        try:
            await b.run([to("write", "a")], request_id=f"r{number}", identity=identity)
        except Rejection as refused:
            assert refused.reason is RejectionReason.REQUEST_MEMORY_FULL  # noqa: PT017  some were taken
            return number
    raise AssertionError("nothing was refused")


async def test_each_caller_leaves_room_for_another_one() -> None:
    async with bench(*Works("a").tools(), max_remembered_bytes=ROOM) as b:
        taken = [await fill(b, f"caller {number}") for number in range(4)]
        assert taken == [25, 12, 6, 3], "half of what the others leave, two marks each"


async def test_the_shares_become_equal() -> None:
    async with bench(*Works("a").tools(), max_remembered_bytes=ROOM) as b:
        await fill(b, "alice")
        await b.clock.advance(300.0)
        assert await fill(b, "bob") == 12
        await b.clock.advance(301.0)
        assert await fill(b, "bob") == 25, "what alice had is over"


async def test_a_question_that_cannot_be_remembered_has_no_id() -> None:
    ran: list[str] = []
    async with bench(
        *Works("a").tools(), wire(lambda: ran.append("wired")), max_remembered_bytes=ROOM
    ) as b:
        await fill(b, "alice")
        turn = await b.start([WIRE, to("write", "a")], identity="alice")
        question, other = turn.calls()
        failure = failure_of(question)
        assert (failure.reason.name, failure.state) == (
            "APPROVAL_REQUIRED",
            ExecutionState.NOT_STARTED,
        )
        assert (question.asked, turn.task.result().request_id) == (None, "")
        assert "no room" in failure.message
        assert "later" in failure.message
        assert failure.retry_after_s == pytest.approx(600.0)
        assert text_of(other) == "did a"
        b.assert_idle()
        await b.clock.advance(601.0)
        later = await b.start([WIRE], identity="alice")
        run = await resend(b, [WIRE], later, decide(later.calls()[0]), identity="alice")
        assert reasons(run.calls()) == ["OK"]
        assert ran == ["wired"]


async def test_room_for_a_question_stays_taken_while_its_turn_runs() -> None:
    works = Works("a")
    async with bench(*works.tools(), wire(), max_remembered_bytes=ROOM) as b:
        turn = await b.start([WIRE, to("write", "slow")], identity="alice")
        await fill(b, "alice")
        works.open("slow")
        await settle()
        question = turn.calls()[0]
        approved = decide(question)
        assert asked(question).approval_id
        run = await resend(b, [WIRE, to("write", "slow")], turn, approved, identity="alice")
        assert reasons(run.calls()) == ["OK", "OK"]


async def test_a_turn_that_is_cancelled_keeps_no_room_for_its_questions() -> None:
    works = Works()
    async with bench(*works.tools(), wire()) as b:
        turn = await b.start([WIRE, to("write", "slow")])
        assert b.engine.ledger.count == 1
        turn.task.cancel()
        await asyncio.wait([turn.task])
        assert b.engine.ledger.count == 0


async def test_a_key_for_which_there_is_no_room_says_when() -> None:
    async with bench(*Works("a").tools(), max_remembered_bytes=ROOM) as b:
        await fill(b, "alice")
        (call,) = await b.run([to("write", "a", idempotency_key="k")], identity="alice")
        assert failure_of(call).reason.name == "TOOL_UNAVAILABLE"
        assert failure_of(call).retry_after_s == pytest.approx(600.0)


async def test_that_there_is_no_room_is_logged_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def told() -> list[str]:
        return [r.message for r in caplog.records if r.levelno == logging.WARNING]

    async with bench(*Works("a").tools(), max_remembered_bytes=ROOM) as b:
        await fill(b, "alice")
        await fill(b, "alice")
        assert len(told()) == 1
        assert "max_remembered_bytes" in told()[0]
        await b.clock.advance(11.0)
        await fill(b, "alice")
        assert len(told()) == 2
