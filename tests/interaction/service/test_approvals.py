"""Calls that a person has to approve, over real channels."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.interaction.conftest import StartServing
from tests.support.batches import (
    NOT_STARTED,
    batch,
    call,
    check_failure,
    reason,
    reasons,
    rpc_status,
    violations,
)
from tests.support.gate import WAIT_S, Gate
from tests.support.serving import Serving
from tests.support.turns import Turn

from sidecall.v1.execution_pb2 import Approval, ApprovalDecision, Decision, ToolResult
from sidecall.v1.tool_service_pb2 import ExecuteBatchResponse

SHARED_TOOLS = Path(__file__).parent / "shared_tools.py"
PAY = {"to": "ann", "payment": {"cents": 5}}
CALLS = [call("pay", PAY, id="p"), call("note", {"text": "a"}), call("note", {"text": "$ref:p"})]


@pytest.fixture
async def payer(start_sidecar: StartServing) -> Serving:
    serving: Serving = await start_sidecar(tools=str(SHARED_TOOLS))
    return serving


async def send(
    sidecar: Serving, *calls: Any, caller: str = "ann", **options: Any
) -> ExecuteBatchResponse:
    """The response to a batch of a caller."""
    metadata = (("authorization", f"Bearer {caller}"),)
    return await sidecar.stub.ExecuteBatch(
        batch(*calls, **options), timeout=WAIT_S, metadata=metadata
    )


async def refused(sidecar: Serving, *calls: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    """How a batch is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(sidecar, *calls, **options)
    return caught.value.code(), reason(rpc_status(caught.value))


def yes(result: ToolResult, **fields: Any) -> Approval:
    return Approval(approval_id=result.approval_id, decision=Decision.DECISION_APPROVE, **fields)


def no(result: ToolResult, **fields: Any) -> Approval:
    return Approval(approval_id=result.approval_id, decision=Decision.DECISION_REJECT, **fields)


async def test_a_call_waits_and_runs_once_when_it_is_approved(payer: Serving) -> None:
    first = await send(payer, *CALLS)
    assert reasons(first.results) == ["APPROVAL_REQUIRED", "OK", "DEPENDENCY_FAILED"]
    pending = first.results[0]
    check_failure(pending, "APPROVAL_REQUIRED", grpc.StatusCode.FAILED_PRECONDITION, NOT_STARTED)
    assert json.loads(pending.approval_arguments) == {**PAY, "currency": "EUR"}
    assert first.request_id
    assert [bool(result.approval_id) for result in first.results] == [True, False, False]

    decided = Timestamp()
    decided.GetCurrentTime()
    answer = yes(pending, decided_by="bob", decide_time=decided)
    again = await send(payer, *CALLS, request_id=first.request_id, approvals=[answer])
    third = await send(payer, *CALLS, request_id=first.request_id, approvals=[answer])

    assert reasons(again.results) == ["OK"] * 3
    assert again.results[0].content.endswith("5 EUR to ann")
    assert again.results[1].content == first.results[1].content
    assert [result.replayed for result in again.results] == [False, True, False]
    assert [r.content for r in third.results] == [r.content for r in again.results]
    assert again.request_id == third.request_id == first.request_id


async def test_each_later_result_says_who_decided_and_when(payer: Serving) -> None:
    first = await send(payer, CALLS[0], CALLS[0], CALLS[0], CALLS[1])
    assert not any(result.HasField("approval_decision") for result in first.results)
    decided = Timestamp(seconds=1_700_000_000, nanos=5_000)
    edit = json.dumps({"to": "ann", "payment": {"cents": 7}})
    answers = [
        yes(first.results[0], decided_by="bob", decide_time=decided),
        no(first.results[1], decided_by="cyd", decide_time=decided),
        yes(first.results[2], arguments=edit),
    ]
    known = {"request_id": first.request_id}
    again = await send(payer, CALLS[0], CALLS[0], CALLS[0], CALLS[1], **known, approvals=answers)
    third = await send(payer, CALLS[0], CALLS[0], CALLS[0], CALLS[1], **known)
    for response in (again, third):
        approved, rejected, edited, other = (item.approval_decision for item in response.results)
        assert approved == ApprovalDecision(
            decision=Decision.DECISION_APPROVE, decided_by="bob", decide_time=decided
        )
        assert rejected == ApprovalDecision(
            decision=Decision.DECISION_REJECT, decided_by="cyd", decide_time=decided
        )
        assert edited == ApprovalDecision(decision=Decision.DECISION_APPROVE, arguments_edited=True)
        assert other == ApprovalDecision()
    later = no(first.results[0], decided_by="dan")
    fourth = await send(payer, CALLS[0], CALLS[0], CALLS[0], CALLS[1], **known, approvals=[later])
    assert fourth.results[0].approval_decision.decided_by == "bob", "the first one holds"


async def test_without_a_call_that_waits_there_is_no_id(payer: Serving) -> None:
    assert (await send(payer, CALLS[1])).request_id == ""


async def test_a_rejected_call_says_who_and_why(payer: Serving) -> None:
    first = await send(payer, *CALLS)
    answer = no(first.results[0], decided_by="bob", comment="Too early.")
    again = await send(payer, *CALLS, request_id=first.request_id, approvals=[answer])
    assert reasons(again.results) == ["APPROVAL_REJECTED", "OK", "DEPENDENCY_FAILED"]
    check_failure(
        again.results[0], "APPROVAL_REJECTED", grpc.StatusCode.PERMISSION_DENIED, NOT_STARTED
    )
    assert "bob" in again.results[0].content
    assert "Too early." in again.results[0].content

    later = yes(first.results[0])
    third = await send(payer, *CALLS, request_id=first.request_id, approvals=[later])
    assert reasons(third.results)[0] == "APPROVAL_REJECTED"


async def test_edited_arguments(payer: Serving) -> None:
    first = await send(payer, CALLS[0], CALLS[0], CALLS[0])
    edits = [
        yes(first.results[0], arguments='{"to": "$ref:p", "payment": {"cents": 7}}'),
        yes(first.results[1], arguments='{"to": "bob"}'),
        yes(first.results[2], arguments='{"to": "bob", "payment": {"cents": 5000}}'),
    ]
    again = await send(
        payer, CALLS[0], CALLS[0], CALLS[0], request_id=first.request_id, approvals=edits
    )

    assert reasons(again.results) == ["OK", "APPROVAL_REQUIRED", "APPROVAL_REQUIRED"]
    assert again.results[0].content.endswith("7 EUR to $ref:p")
    assert [r.approval_id for r in again.results[1:]] == [r.approval_id for r in first.results[1:]]
    assert "The edited arguments were not taken" in again.results[2].content
    assert "/payment/cents" in again.results[2].content


async def test_nobody_is_asked_about_what_the_tool_would_refuse(payer: Serving) -> None:
    response = await send(payer, call("pay", {"to": "ann", "payment": {"cents": 5_000}}))

    assert reasons(response.results) == ["ARGUMENTS_INVALID"]
    assert list(violations(response.results[0])) == ["/payment/cents"]
    assert (response.request_id, response.results[0].approval_id) == ("", "")


async def test_only_who_was_asked_can_decide(payer: Serving) -> None:
    first = await send(payer, *CALLS)
    options: dict[str, Any] = {
        "request_id": first.request_id,
        "approvals": [yes(first.results[0])],
    }
    unknown = grpc.StatusCode.FAILED_PRECONDITION, "APPROVAL_UNKNOWN"

    assert await refused(payer, *CALLS, caller="bob", **options) == unknown
    assert await refused(payer, *CALLS, **{**options, "request_id": "another"}) == unknown
    assert await refused(payer, *CALLS[:2], **options) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_REUSED",
    )
    again = await send(payer, *CALLS, **options)
    assert reasons(again.results) == ["OK"] * 3


@pytest.mark.parametrize(
    "approvals",
    [
        [Approval(decision=Decision.DECISION_APPROVE)],
        [Approval(approval_id="a")],
        [Approval(approval_id="a", decision=Decision.DECISION_APPROVE)] * 2,
        [Approval(approval_id="a", decision=Decision.ValueType(9))],
    ],
)
async def test_decisions_that_say_nothing_are_refused(
    payer: Serving, approvals: list[Approval]
) -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID"
    assert await refused(payer, *CALLS, request_id="r", approvals=approvals) == invalid


async def test_decisions_need_the_id_of_their_request(payer: Serving) -> None:
    first = await send(payer, *CALLS)
    invalid = grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID"
    assert await refused(payer, *CALLS, approvals=[yes(first.results[0])]) == invalid


async def test_concurrent_decisions_run_a_call_once(payer: Serving, gate: Gate) -> None:
    hold = call("hold_approved", {"gate": gate.path, "name": "a"})
    first = await send(payer, hold)
    options: dict[str, Any] = {
        "request_id": first.request_id,
        "approvals": [yes(first.results[0])],
    }
    metadata = (("authorization", "Bearer ann"),)
    sends = [payer.stub.ExecuteBatch(batch(hold, **options), metadata=metadata) for _ in range(3)]
    visit = await gate.arrived("a")
    await payer.until(lambda s: s.open_batches == 3)
    visit.release("once")

    results = [(await item).results[0] for item in sends]
    assert [result.content for result in results] == ["once"] * 3
    assert sorted(result.replayed for result in results) == [False, True, True]
    assert gate.names == ["a"]


async def test_a_streamed_turn_is_decided_as_a_batch(payer: Serving) -> None:
    turn = await Turn(payer.channel).start()
    for index, item in enumerate(CALLS):
        await turn.call(index, item)
    await turn.seal(len(CALLS))
    summary = await turn.finish()
    results = turn.results()
    assert reasons([results[index] for index in range(3)]) == [
        "APPROVAL_REQUIRED",
        "OK",
        "DEPENDENCY_FAILED",
    ]
    assert summary.request_id

    request = batch(*CALLS, request_id=summary.request_id, approvals=[yes(results[0])])
    again = await payer.stub.ExecuteBatch(request, timeout=WAIT_S)
    assert reasons(again.results) == ["OK"] * 3
    assert again.results[1].content == results[1].content


async def test_a_decision_can_be_streamed(payer: Serving) -> None:
    first = await payer.stub.ExecuteBatch(batch(CALLS[0]), timeout=WAIT_S)
    answer = yes(first.results[0])
    turn = await Turn(payer.channel).start(request_id=first.request_id, approvals=[answer])
    await turn.call(0, CALLS[0])
    await turn.seal(1)
    summary = await turn.finish()

    assert reasons([turn.results()[0]]) == ["OK"]
    assert summary.request_id == first.request_id


async def test_a_question_that_does_not_fit_is_asked_when_there_is_room(payer: Serving) -> None:
    large = {"to": "x" * 9_000, "payment": {"cents": 5}}
    calls = [call("pay", PAY), call("pay", large)]
    first = await send(payer, *calls, max_response_bytes=4_000)
    assert reasons(first.results) == ["APPROVAL_REQUIRED"] * 2
    small, left_out = first.results
    assert (bool(small.approval_id), small.truncated) == (True, False)
    assert (left_out.approval_id, left_out.approval_arguments) == ("", "")
    assert left_out.truncated
    assert "larger max_response_bytes" in left_out.content

    whole = (await send(payer, *calls, request_id=first.request_id)).results
    assert whole[0].approval_id == small.approval_id
    assert json.loads(whole[1].approval_arguments)["to"] == large["to"]
    approved = await send(
        payer, *calls, request_id=first.request_id, approvals=[yes(result) for result in whole]
    )
    assert reasons(approved.results) == ["OK", "OK"]
