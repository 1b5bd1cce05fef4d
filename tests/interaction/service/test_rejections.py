"""What is refused as a whole: then no call of it was started."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from tests.interaction.conftest import StartServing
from tests.support.batches import batch, call, detail, reason, reasons, rpc_status
from tests.support.gate import Gate
from tests.support.serving import Serving, is_idle, raw_unary
from tests.support.turns import Turn

from sidecall.v1 import execution_pb2
from sidecall_server.core.defaults import Limits
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.transport.requests import batch_options

DECIDED: dict[str, Any] = {"approval_id": "a", "decision": 1}
APPROVAL = execution_pb2.Approval(**DECIDED)
MANY_APPROVALS = [
    execution_pb2.Approval(approval_id=str(n), decision=execution_pb2.DECISION_APPROVE)
    for n in range(10_001)
]
UNDECIDED = execution_pb2.Approval(approval_id="a")
INVALID = ("REQUEST_INVALID", grpc.StatusCode.INVALID_ARGUMENT)
TOO_LARGE = {
    "arguments": execution_pb2.Approval(**DECIDED, arguments="x" * (256 * 1024 + 1)),
    "comment": execution_pb2.Approval(**DECIDED, comment="x" * 4097),
    "decided_by": execution_pb2.Approval(**DECIDED, decided_by="x" * 257),
}
UNTIMELY = [
    execution_pb2.Approval(**DECIDED, decide_time=Timestamp(nanos=-5)),
    execution_pb2.Approval(**DECIDED, decide_time=Timestamp(seconds=2**62)),
]
FORGOTTEN = ("REQUEST_FORGOTTEN", grpc.StatusCode.FAILED_PRECONDITION)
UNKNOWN_APPROVAL = ("APPROVAL_UNKNOWN", grpc.StatusCode.FAILED_PRECONDITION)

OPTIONS: list[tuple[dict[str, Any], tuple[str, grpc.StatusCode], str]] = [
    ({"timeout": Duration(seconds=-1)}, INVALID, "timeout"),
    ({"timeout": Duration()}, INVALID, "timeout"),
    ({"timeout": Duration(nanos=-1)}, INVALID, "timeout"),
    ({"mode": 99}, INVALID, "mode"),
    ({"on_failure": -7}, INVALID, "on_failure"),
    ({"max_concurrency": -1}, INVALID, "max_concurrency"),
    ({"max_response_bytes": -1}, INVALID, "max_response_bytes"),
    ({"max_response_bytes": 2**40}, INVALID, "max_response_bytes"),
    ({"context": {str(n): "" for n in range(65)}}, INVALID, "context"),
    ({"context": {"key": "x" * 5_000}}, INVALID, "context"),
    ({"context": {"x" * 5_000: ""}}, INVALID, "context"),
    ({"request_id": "r" * 257}, INVALID, "request_id"),
    ({"session_id": "s" * 257}, INVALID, "session_id"),
    ({"approvals": [APPROVAL]}, INVALID, "request_id"),
    ({"request_id": "r", "approvals": [APPROVAL, APPROVAL]}, INVALID, "approvals[1].approval_id"),
    ({"request_id": "r", "approvals": [UNDECIDED]}, INVALID, "approvals[0].decision"),
    ({"request_id": "r", "approvals": [APPROVAL]}, UNKNOWN_APPROVAL, "approvals"),
    *[
        ({"request_id": "r", "approvals": [approval]}, INVALID, f"approvals[0].{field}")
        for field, approval in TOO_LARGE.items()
    ],
    *[
        ({"request_id": "r", "approvals": [approval]}, INVALID, "approvals[0].decide_time")
        for approval in UNTIMELY
    ],
    ({"request_id": "r", "approvals": MANY_APPROVALS}, INVALID, "approvals"),
    ({"sent_to_instance": "i" * 257}, INVALID, "sent_to_instance"),
    ({"sent_to_instance": "another"}, FORGOTTEN, "sent_to_instance"),
    ({"request_id": "r", "sent_to_instance": "another"}, FORGOTTEN, "sent_to_instance"),
]
CALLS: list[tuple[dict[str, Any], tuple[str, grpc.StatusCode], str]] = [
    ({"timeout": Duration(seconds=-1)}, INVALID, "calls[1].timeout"),
    ({"timeout": Duration()}, INVALID, "calls[1].timeout"),
    ({"idempotency_key": "k" * 257}, INVALID, "calls[1].idempotency_key"),
    ({"id": "i" * 65_537}, INVALID, "calls[1].id"),
    ({"id": "\U0001f600" * 16_385}, INVALID, "calls[1].id"),
]


def check(error: grpc.aio.AioRpcError, wanted: tuple[str, grpc.StatusCode], field: str) -> None:
    status = rpc_status(error)
    assert error.code() is wanted[1]
    assert reason(status) == wanted[0]
    assert status.code == wanted[1].value[0]
    assert field in status.message
    assert error.details() == status.message
    bad = detail(status, error_details_pb2.BadRequest)
    assert bad is not None
    assert [v.field for v in bad.field_violations] == [field]


@pytest.mark.parametrize(("options", "wanted", "field"), OPTIONS)
async def test_options_of_a_batch(
    sidecar: Serving, options: dict[str, Any], wanted: tuple[str, grpc.StatusCode], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sidecar.run(call("write", {"text": "a"}), **options)
    check(caught.value, wanted, field)


@pytest.mark.parametrize(("options", "wanted", "field"), OPTIONS)
async def test_options_of_a_stream(
    sidecar: Serving, options: dict[str, Any], wanted: tuple[str, grpc.StatusCode], field: str
) -> None:
    turn = await Turn(sidecar.channel).start(**options)
    check(await turn.failure(), wanted, field)


@pytest.mark.parametrize(("fields", "wanted", "field"), CALLS)
async def test_fields_of_a_call(
    sidecar: Serving,
    gate: Gate,
    fields: dict[str, Any],
    wanted: tuple[str, grpc.StatusCode],
    field: str,
) -> None:
    first = call("hold", {"gate": gate.path, "name": "a"})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sidecar.run(first, call("nothing", **fields))
    check(caught.value, wanted, field)
    assert gate.names == []


@pytest.mark.parametrize(("fields", "wanted", "field"), CALLS)
async def test_fields_of_a_call_in_a_stream(
    sidecar: Serving, fields: dict[str, Any], wanted: tuple[str, grpc.StatusCode], field: str
) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(1, call("nothing", **fields))
    check(await turn.failure(), wanted, field)


async def test_too_many_calls(sidecar: Serving) -> None:
    calls = [execution_pb2.ToolCall(name="nothing")] * 10_001
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sidecar.run(*calls)
    check(caught.value, INVALID, "calls")
    assert "10001" in (caught.value.details() or "")
    assert len(await sidecar.run(*calls[:10_000])) == 10_000


async def test_a_deadline_that_is_over_leaves_nothing_behind(sidecar: Serving, gate: Gate) -> None:
    """It is a race whether the client's library gives up before the sidecar has answered."""
    try:
        response = await sidecar.begin(call("hold", {"gate": gate.path, "name": "a"}), timeout=0)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017  one of two ends
    else:
        assert reasons(response.results) == ["BATCH_DEADLINE"]
    await sidecar.until(is_idle)


class Expired:
    """An RPC whose deadline has passed on its way; a client's own library ends it before."""

    def time_remaining(self) -> float:
        return -0.001

    def peer(self) -> str:
        return "nobody"

    def invocation_metadata(self) -> None:
        return None


async def test_a_deadline_that_passed_on_the_way() -> None:
    with pytest.raises(Rejection) as caught:
        batch_options(batch(call("nothing")), Limits(), 0, Expired())
    assert caught.value.reason is RejectionReason.DEADLINE_EXPIRED
    assert (caught.value.reason.name, caught.value.reason.code.name) == (
        "DEADLINE_EXPIRED",
        "DEADLINE_EXCEEDED",
    )


async def test_a_message_over_the_limit_in_a_stream(start_sidecar: StartServing) -> None:
    sidecar: Serving = await start_sidecar(max_message_bytes=100_000)
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("echo", {"text": "x" * 100_001}))
    assert (await turn.failure()).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_too_many_batches(start_sidecar: StartServing, gate: Gate) -> None:
    sidecar: Serving = await start_sidecar(max_open_batches=1)
    running = sidecar.begin(call("hold", {"gate": gate.path, "name": "a"}))
    visit = await gate.arrived("a")
    turn = await Turn(sidecar.channel).start()
    for refused in (sidecar.run(call("nothing")), turn.rpc.read()):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await refused
        status = rpc_status(caught.value)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason(status) == "TOO_MANY_BATCHES"
        retry = detail(status, error_details_pb2.RetryInfo)
        assert retry is not None
        assert retry.retry_delay.ToMilliseconds() > 0
    visit.release()
    assert reasons((await running).results) == ["OK"]
    assert len(await sidecar.run(call("nothing"))) == 1


async def test_text_that_is_not_utf_8(sidecar: Serving) -> None:
    good = batch(call("nothing", id="AAAA")).SerializeToString()
    execute = raw_unary(sidecar.channel, "/sidecall.v1.ToolService/ExecuteBatch")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await execute(good.replace(b"AAAA", b"\xff\xfe\xfd\xfc"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(rpc_status(caught.value)) == "REQUEST_INVALID"
    assert [result.content for result in await sidecar.run(call("nothing"))] == ["done"]


@pytest.mark.parametrize("method", ["ExecuteBatch", "ListTools", "GetCapabilities"])
async def test_bytes_that_are_no_message(sidecar: Serving, method: str) -> None:
    execute = raw_unary(sidecar.channel, f"/sidecall.v1.ToolService/{method}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await execute(b"\xff\xff\xff garbage")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(rpc_status(caught.value)) == "REQUEST_INVALID"


async def test_bytes_that_are_no_message_in_a_stream(sidecar: Serving) -> None:
    stream: Any = sidecar.channel.stream_stream("/sidecall.v1.ToolService/StreamBatch")()
    await stream.write(b"\xff\xff\xff garbage")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_method_that_does_not_exist(sidecar: Serving) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw_unary(sidecar.channel, "/sidecall.v1.ToolService/Nothing")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_more_ids_than_can_be_remembered(sidecar: Serving) -> None:
    sidecar.app.engine.ledger._logs._max_marks = 7
    request = batch(call("write", {"text": "a"}), call("nothing"), request_id="r")
    first = await sidecar.stub.ExecuteBatch(request)
    for streamed in (False, True):
        if streamed:
            turn = await Turn(sidecar.channel).start(request_id="other")
            error = await turn.failure()
        else:
            other = batch(*[call("nothing")] * 2, request_id="other")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await sidecar.stub.ExecuteBatch(other)
            error = caught.value
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason(rpc_status(error)) == "REQUEST_MEMORY_FULL"
        retry = detail(rpc_status(error), error_details_pb2.RetryInfo)
        assert retry is not None
        assert 0 < retry.retry_delay.seconds <= 600
    again = await sidecar.stub.ExecuteBatch(request)

    assert [result.replayed for result in again.results] == [True, True]
    assert [result.content for result in again.results] == [r.content for r in first.results]
