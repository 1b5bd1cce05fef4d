"""StreamBatch: what a client may send, and what becomes of it when it breaks the rules."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.interaction.conftest import StartServing
from tests.support.batches import NOT_STARTED, call, check_failure, detail, reason, rpc_status
from tests.support.gate import Gate
from tests.support.serving import Serving
from tests.support.turns import Turn

from sidecall.v1 import tool_service_pb2 as pb

Send = Callable[[Turn], Awaitable[None]]


async def _index_twice(turn: Turn) -> None:
    await turn.call(1, call("write", {"text": "b"}))
    await turn.call(1, call("write", {"text": "b"}))


async def _negative_index(turn: Turn) -> None:
    await turn.call(-1, call("write", {"text": "b"}))


async def _index_beyond_the_limit(turn: Turn) -> None:
    await turn.call(10_000, call("write", {"text": "b"}))


async def _start_twice(turn: Turn) -> None:
    await turn.start()


async def _empty_message(turn: Turn) -> None:
    await turn.send()


async def _seal_with_too_many(turn: Turn) -> None:
    await turn.seal(5)


async def _seal_with_too_few(turn: Turn) -> None:
    await turn.seal(0)


async def _seal_over_a_gap(turn: Turn) -> None:
    await turn.call(3, call("write", {"text": "b"}))
    await turn.seal(2)


async def _negative_seal(turn: Turn) -> None:
    await turn.seal(-1)


BROKEN: list[Send] = [
    _index_twice,
    _negative_index,
    _index_beyond_the_limit,
    _start_twice,
    _empty_message,
    _seal_with_too_many,
    _seal_with_too_few,
    _seal_over_a_gap,
    _negative_seal,
]


@pytest.mark.parametrize("kind", ["call", "seal", "cancel", "nothing", "half-close"])
async def test_the_first_message_must_open_the_turn(sidecar: Serving, kind: str) -> None:
    turn = Turn(sidecar.channel)
    first: dict[str, Callable[[], Awaitable[None]]] = {
        "call": lambda: turn.call(0, call("nothing")),
        "seal": lambda: turn.seal(0),
        "cancel": lambda: turn.cancel(0),
        "nothing": turn.send,
        "half-close": turn.close,
    }
    await first[kind]()
    error = await turn.failure()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(rpc_status(error)) == "REQUEST_INVALID"
    assert turn.events == []


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_violation_before_any_start_is_refused(sidecar: Serving, broken: Send) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("write", {"text": "a"}))
    await broken(turn)
    error = await turn.failure()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(rpc_status(error)) == "REQUEST_INVALID"
    assert "started" not in [kind for kind, _ in turn.trace()]


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_violation_after_a_start_abandons_the_turn(
    sidecar: Serving, gate: Gate, broken: Send
) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("hold", {"gate": gate.path, "name": "a"}))
    visit = await gate.arrived("a")
    await turn.call(2, call("write", {"text": "held"}))
    await broken(turn)
    held = (await turn.until("result", 2)).result.result
    check_failure(held, "CANCELLED", grpc.StatusCode.CANCELLED, NOT_STARTED)
    visit.release("finished")
    summary = await turn.finish()
    assert turn.results()[0].content == "finished"
    assert reason(summary.status) == "REQUEST_INVALID"
    assert summary.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert not summary.sealed
    assert (summary.call_count, summary.ok_count) == (len(turn.results()), 1)


@pytest.mark.parametrize("late", ["call", "seal", "start"])
async def test_a_violation_after_the_seal_abandons_what_waits(
    sidecar: Serving, gate: Gate, late: str
) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("hold_one", {"gate": gate.path, "name": "a"}))
    await turn.call(1, call("hold_one", {"gate": gate.path, "name": "b"}))
    await turn.seal(2)
    visit = await gate.arrived("a")
    if late == "call":
        await turn.call(2, call("nothing"))
    elif late == "seal":
        await turn.seal(2)
    else:
        await turn.start()
    waited = (await turn.until("result", 1)).result.result
    check_failure(waited, "CANCELLED", grpc.StatusCode.CANCELLED, NOT_STARTED)
    visit.release("finished")
    summary = await turn.finish()
    assert summary.sealed
    assert reason(summary.status) == "REQUEST_INVALID"
    assert turn.results()[0].content == "finished"
    assert gate.names == ["a"]


async def test_garbage_after_a_start_abandons_the_turn(sidecar: Serving, gate: Gate) -> None:
    rpc: Any = sidecar.channel.stream_stream("/sidecall.v1.ToolService/StreamBatch")()
    start = pb.StreamBatchRequest(start=pb.StreamStart())
    held = pb.StreamCall(index=0, call=call("hold", {"gate": gate.path, "name": "a"}))
    for message in (start, pb.StreamBatchRequest(call=held)):
        await rpc.write(message.SerializeToString())
    (await gate.arrived("a")).release("finished")
    await rpc.write(b"\xff\xff\xff")
    events: list[pb.BatchEvent] = []
    while (data := await rpc.read()) is not grpc.aio.EOF:
        events.extend(pb.StreamBatchResponse.FromString(data).events)
    assert reason(events[-1].summary.status) == "REQUEST_INVALID"
    assert events[-2].result.result.content == "finished"


async def test_a_half_close_without_a_seal_abandons_the_turn(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("hold_one", {"gate": gate.path, "name": "a"}))
    visit = await gate.arrived("a")
    await turn.call(1, call("hold_one", {"gate": gate.path, "name": "b"}))
    await turn.call(2, call("write", {"text": "held"}))
    await turn.call(3, call("echo", {"text": "$ref:write"}))
    await turn.close()
    for index in (1, 2, 3):
        ended = (await turn.until("result", index)).result.result
        check_failure(ended, "CANCELLED", grpc.StatusCode.CANCELLED, NOT_STARTED)
    visit.release("finished")
    summary = await turn.finish()
    assert turn.results()[0].content == "finished"
    assert not summary.sealed
    assert not summary.HasField("status")
    assert (summary.call_count, summary.ok_count) == (4, 1)


async def test_a_half_close_of_a_turn_without_calls(sidecar: Serving) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.close()
    summary = await turn.finish()
    assert (summary.call_count, summary.sealed) == (0, False)


async def test_a_sealed_turn_without_calls(sidecar: Serving) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.seal(0)
    summary = await turn.finish()
    assert (summary.call_count, summary.sealed) == (0, True)


async def test_a_sealed_turn_ends_without_a_half_close(sidecar: Serving) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("echo", {"text": "a"}))
    await turn.seal(1)
    summary = await turn.finish()
    assert turn.results()[0].content == "a"
    assert (summary.call_count, summary.ok_count, summary.sealed) == (1, 1, True)
    assert summary.duration_ns > 0


async def test_calls_may_come_in_any_order(sidecar: Serving) -> None:
    turn = await Turn(sidecar.channel).start()
    for index in (2, 0, 1):
        await turn.call(index, call("write", {"text": str(index)}, id=f"call_{index}"))
    await turn.seal(3)
    await turn.finish()
    results = turn.results()
    assert {i: (r.call_id, r.content) for i, r in results.items()} == {
        i: (f"call_{i}", str(i)) for i in range(3)
    }


@pytest.mark.parametrize("index", [7, -1, 2**31 - 1])
async def test_cancelling_an_unknown_call_does_nothing(sidecar: Serving, index: int) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("write", {"text": "a"}))
    await turn.cancel(index)
    await turn.seal(1)
    summary = await turn.finish()
    assert (summary.ok_count, summary.HasField("status")) == (1, False)


async def test_too_many_batches(start_sidecar: StartServing) -> None:
    sidecar: Serving = await start_sidecar(max_open_batches=1)
    first = await Turn(sidecar.channel).start()
    await first.until("accepted")
    error = await (await Turn(sidecar.channel).start()).failure()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(rpc_status(error)) == "TOO_MANY_BATCHES"
    assert detail(rpc_status(error), error_details_pb2.RetryInfo) is not None
    await first.seal(0)
    await first.finish()
    again = await Turn(sidecar.channel).start()
    await again.seal(0)
    assert (await again.finish()).sealed


async def test_a_draining_sidecar_refuses_a_turn(sidecar: Serving) -> None:
    sidecar.app.engine.refuse_batches()
    error = await (await Turn(sidecar.channel).start()).failure()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert reason(rpc_status(error)) == "DRAINING"
