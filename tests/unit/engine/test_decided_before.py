"""A decision on a call that was decided on before: the first one holds, and that is told."""

from typing import Any

import pytest
from tests.support.approving import asked, decide, resend
from tests.support.engines import bench, bound, failure_of, reasons
from tests.support.runs import Runs

from sidecall.v1.execution_pb2 import ToolResult
from sidecall_server.core.call import Approval, Call, ToolCall
from sidecall_server.transport.results import fill_result

PAY = ToolCall("", "pay", '{"text": "a"}')


def content(call: Call) -> str:
    result = ToolResult()
    fill_result(result, call, 0)
    return result.content


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(Approval(False, decided_by="bob"), id="rejected"),
        pytest.param(Approval(True, arguments='{"text": "b"}'), id="with other arguments"),
    ],
)
async def test_who_decides_on_what_has_run_is_told(later: Approval) -> None:
    runs = Runs()
    async with bench(bound("pay", runs, requires_approval=True)) as b:
        turn = await b.start([PAY])
        question = turn.calls()[0]
        first = await resend(b, [PAY], turn, decide(question, decided_by="alice"))
        await runs[0].finish("paid")
        assert [content(call) for call in first.calls()] == ["paid"]
        again = await resend(b, [PAY], turn, {asked(question).approval_id: later})
        assert reasons(again.calls()) == ["OK"]
        assert [content(call) for call in again.calls()] == [
            "paid\n[This call was approved by alice before; the later decision was not taken.]"
        ]
        assert len(runs) == 1


async def test_who_decides_while_it_runs_is_told() -> None:
    runs = Runs()
    async with bench(bound("pay", runs, requires_approval=True)) as b:
        turn = await b.start([PAY])
        question = turn.calls()[0]
        first = await resend(b, [PAY], turn, decide(question))
        second = await resend(b, [PAY], turn, decide(question, approved=False))
        await runs[0].finish("paid")
        assert content(first.calls()[0]) == "paid"
        assert "approved before" in content(second.calls()[0])


async def test_who_approves_what_was_rejected_is_told() -> None:
    runs = Runs()
    async with bench(bound("pay", runs, requires_approval=True)) as b:
        turn = await b.start([PAY])
        question = turn.calls()[0]
        await resend(b, [PAY], turn, decide(question, approved=False, decided_by="alice"))
        again = await resend(b, [PAY], turn, decide(question))
        assert reasons(again.calls()) == ["APPROVAL_REJECTED"]
        assert failure_of(again.calls()[0]).message in content(again.calls()[0])
        assert content(again.calls()[0]).endswith(
            "[This call was rejected by alice before; the later decision was not taken.]"
        )
        assert len(runs) == 0


@pytest.mark.parametrize("fields", [{}, {"decided_by": "bob", "comment": "yes"}])
async def test_the_same_decision_is_no_other_one(fields: dict[str, Any]) -> None:
    runs = Runs()
    async with bench(bound("pay", runs, requires_approval=True)) as b:
        turn = await b.start([PAY])
        question = turn.calls()[0]
        await resend(b, [PAY], turn, decide(question))
        await runs[0].finish("paid")
        again = await resend(b, [PAY], turn, decide(question, **fields))
        assert [content(call) for call in again.calls()] == ["paid"]
