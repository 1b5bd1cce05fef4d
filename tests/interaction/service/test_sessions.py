"""References to results of earlier turns, over real channels."""

import json
import uuid

import grpc
from tests.support.batches import NOT_STARTED, batch, call, check_failure, reasons
from tests.support.gate import WAIT_S
from tests.support.serving import Serving
from tests.support.turns import Turn

from sidecall.v1.execution_pb2 import ToolResult
from sidecall.v1.tool_service_pb2 import ExecuteBatchRequest

PAIR = {"city": "Ulm", "days": [1, 2]}


def new_session() -> str:
    return f"session-{uuid.uuid4()}"


async def test_a_later_turn_reads_what_an_earlier_one_returned(sidecar: Serving) -> None:
    session_id = new_session()
    await sidecar.run(
        call("value", {"value": PAIR}, id="forecast"),
        call("echo", {"text": "x" * 200_000}, id="long"),
        session_id=session_id,
        max_response_bytes=10_000,
    )
    await sidecar.run(call("echo", {"text": "between"}, id="other"), session_id=session_id)

    results = await sidecar.run(
        call("echo", {"text": "$ref:forecast#/city"}),
        call("value", {"value": "$ref:forecast"}),
        call("echo", {"text": "<${ref:other}>"}, depends_on=["forecast"]),
        call("echo", {"text": "$ref:long"}),
        session_id=session_id,
    )

    assert results[0].content == "Ulm"
    assert json.loads(results[1].content) == PAIR
    assert results[2].content == "<between>"
    assert results[3].content == "x" * 200_000  # references read the uncut value


async def test_a_call_that_failed_or_that_nobody_made(sidecar: Serving) -> None:
    session_id = new_session()
    await sidecar.run(call("nothing_like_it", id="bad"), session_id=session_id)

    results = await sidecar.run(
        call("echo", {"text": "$ref:bad"}),
        call("echo", {"text": "a"}, depends_on=["bad"]),
        call("echo", {"text": "$ref:never"}),
        session_id=session_id,
    )

    for result in results:
        check_failure(
            result, "REFERENCE_UNRESOLVED", grpc.StatusCode.FAILED_PRECONDITION, NOT_STARTED
        )
    assert "no result (TOOL_NOT_FOUND)" in results[0].content
    assert "earlier turn" in results[2].content


async def test_another_session_or_none_reads_nothing(sidecar: Serving) -> None:
    session_id = new_session()
    await sidecar.run(call("echo", {"text": "secret"}, id="a"), session_id=session_id)

    for options in ({"session_id": new_session()}, {}):
        results = await sidecar.run(call("echo", {"text": "$ref:a"}), **options)
        assert reasons(results) == ["REFERENCE_UNRESOLVED"]
        assert "secret" not in results[0].content


async def test_streamed_turns_take_part(sidecar: Serving) -> None:
    session_id = new_session()
    await sidecar.run(call("echo", {"text": "one"}, id="a"), session_id=session_id)
    turn = await Turn(sidecar.channel).start(session_id=session_id)
    await turn.call(0, call("echo", {"text": "${ref:a} two"}, id="b"))
    await turn.call(1, call("write", {"text": "${ref:@1} three"}, id="c"))
    await turn.seal(2)
    await turn.finish()

    (result,) = await sidecar.run(call("echo", {"text": "$ref:c"}), session_id=session_id)

    assert result.content == "one two three"


async def test_another_caller_cannot_read_it(sidecar: Serving) -> None:
    session_id = new_session()
    write = batch(call("echo", {"text": "secret"}, id="a"), session_id=session_id)
    read = batch(call("echo", {"text": "$ref:a"}), session_id=session_id)

    async def sent(request: ExecuteBatchRequest, token: str | None) -> ToolResult:
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        response = await sidecar.stub.ExecuteBatch(request, timeout=WAIT_S, metadata=metadata)
        return response.results[0]

    await sent(write, "alice")

    for token in ("bob", "alice2", None):
        result = await sent(read, token)
        assert reasons([result]) == ["REFERENCE_UNRESOLVED"]
        assert "secret" not in result.content
    assert (await sent(read, "alice")).content == "secret"
