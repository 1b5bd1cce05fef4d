"""StreamBatch: what is reported, and when calls may start."""

import asyncio
import itertools

import grpc
import pytest
from tests.support.batches import NOT_STARTED, call, check_failure, reason
from tests.support.gate import Gate
from tests.support.serving import Serving
from tests.support.turns import Turn

from sidecall.v1 import execution_pb2

SEAL = execution_pb2.BLOCK_CAUSE_SEAL
REFERENCE = execution_pb2.BLOCK_CAUSE_REFERENCE
ORDER = execution_pb2.BLOCK_CAUSE_ORDER
TOOL_LIMIT = execution_pb2.BLOCK_CAUSE_TOOL_LIMIT
SEQUENTIAL = execution_pb2.EXECUTION_MODE_SEQUENTIAL
STOP = execution_pb2.FAILURE_POLICY_STOP


async def test_read_only_calls_start_before_the_seal_and_others_do_not(
    sidecar: Serving, gate: Gate
) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("hold_write", {"gate": gate.path, "name": "write"}))
    await turn.call(1, call("hold", {"gate": gate.path, "name": "read"}))
    await turn.call(2, call("process_like_unknown"))
    (await gate.arrived("read")).release("early")
    assert (await turn.until("result", 1)).result.result.content == "early"
    queued = (await turn.until("queued", 0)).queued
    assert queued.cause == SEAL
    assert gate.names == ["read"]
    await turn.seal(3)
    (await gate.arrived("write")).release("late")
    await turn.finish()
    assert turn.kinds(0) == ["queued", "started", "result"]
    assert turn.kinds(1) == ["started", "result"]
    assert turn.results()[0].timing.blocked_on_seal_ns > 0
    check_failure(turn.results()[2], "TOOL_NOT_FOUND", grpc.StatusCode.NOT_FOUND, NOT_STARTED)


async def test_a_write_that_depends_on_a_read_waits_for_the_seal(
    sidecar: Serving, gate: Gate
) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("echo", {"text": "read"}))
    arguments = {"gate": gate.path, "name": "write", "after": "$ref:@1"}
    await turn.call(1, call("hold_write", arguments))
    await turn.until("result", 0)
    assert gate.names == []
    await turn.seal(2)
    (await gate.arrived("write")).release()
    assert (await turn.finish()).ok_count == 2


async def test_references_backward_do_not_wait_for_the_seal(sidecar: Serving) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("value", {"value": {"n": 7}}, id="first"))
    await turn.call(1, call("value", {"value": "$ref:first#/n"}))
    await turn.call(2, call("echo", {"text": "<${ref:@2}>"}))
    assert (await turn.until("result", 2)).result.result.content == "<7>"
    await turn.seal(3)
    assert (await turn.finish()).ok_count == 3


@pytest.mark.parametrize("reference", ["$ref:@2", "$ref:later", "$ref:write"])
async def test_references_forward_and_by_name_wait_for_the_seal(
    sidecar: Serving, reference: str
) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("echo", {"text": reference}))
    await turn.call(1, call("write", {"text": "late"}, id="later"))
    assert (await turn.until("queued", 0)).queued.cause == SEAL
    await turn.call(2, call("echo", {"text": "early"}))
    await turn.until("result", 2)
    assert "started" not in turn.kinds(0)
    await turn.seal(3)
    assert (await turn.finish()).ok_count == 3
    assert turn.results()[0].content == "late"
    causes = [e.queued.cause for e in turn.events if e.HasField("queued") and e.queued.index == 0]
    assert causes == [SEAL, REFERENCE]


async def test_a_reference_to_nothing_is_known_at_the_seal(sidecar: Serving) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("echo", {"text": "$ref:nobody"}))
    await turn.call(1, call("echo", {"text": "$ref:@3"}))
    await turn.call(2, call("echo", {"text": "$ref:@2"}))
    await turn.call(3, call("echo", {"text": "$ref:@1"}))
    await turn.seal(4)
    await turn.finish()
    reasons = {i: reason(r.status) for i, r in turn.results().items()}
    assert reasons == {
        0: "REFERENCE_UNRESOLVED",
        1: "REFERENCE_CYCLE",
        2: "REFERENCE_CYCLE",
        3: "DEPENDENCY_FAILED",
    }


@pytest.mark.parametrize("tool", ["report", "report_in_thread"])
async def test_progress_and_output_arrive_in_order_before_the_result(
    sidecar: Serving, tool: str
) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call(tool, {"steps": 20}))
    await turn.seal(1)
    await turn.finish()
    assert turn.kinds(0)[-42:] == ["started", *["progress", "partial_output"] * 20, "result"]
    progress = [event.progress for event in turn.events if event.HasField("progress")]
    assert [(p.progress, p.total, p.message) for p in progress] == [
        (step, 20, f"step {step}") for step in range(20)
    ]
    output = [event.partial_output for event in turn.events if event.HasField("partial_output")]
    assert [part.text for part in output] == [f"part {step};" for step in range(20)]


async def test_what_a_generator_yields_arrives_while_it_runs(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("pieces", {"count": 4, "gate": gate.path}))
    await turn.seal(1)
    visit = await gate.arrived("pieces")
    await turn.until("partial_output", 0)
    while sum(event.HasField("partial_output") for event in turn.events) < 2:
        assert await turn._read()
    assert "result" not in turn.kinds(0)
    visit.release()
    await turn.finish()
    output = [e.partial_output.text for e in turn.events if e.HasField("partial_output")]
    assert output == ["0;", "1;", "2;", "3;"]
    assert turn.results()[0].content == "0;1;2;3;"


async def test_output_of_five_megabytes_does_not_break_the_stream(sidecar: Serving) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("show", {"size": 5_000_000}))
    await turn.seal(1)
    assert (await turn.finish()).ok_count == 1
    assert turn.results()[0].content == "shown"
    assert {"progress", "partial_output"} <= set(turn.kinds(0))


async def test_results_of_five_megabytes_do_not_break_the_stream(sidecar: Serving) -> None:
    turn = await Turn(sidecar.channel).start()
    for index in range(4):
        await turn.call(index, call("big", {"size": 5_000_000}))
    await turn.call(4, call("echo", {"text": "small"}))
    await turn.seal(5)
    assert (await turn.finish()).ok_count == 5
    results = turn.results()
    assert all(results[index].truncated for index in range(4))
    assert results[4].content == "small"


async def test_instant_calls_share_messages(sidecar: Serving) -> None:
    turn = await Turn(sidecar.channel).start()
    for index in range(500):
        await turn.call(index, call("write", {"text": str(index)}))
    await turn.until("queued", 499)
    before = turn.messages
    await turn.seal(500)
    summary = await turn.finish()
    assert (summary.call_count, summary.ok_count) == (500, 500)
    assert turn.messages - before < 100
    assert [turn.results()[index].content for index in range(500)] == [
        str(index) for index in range(500)
    ]


async def test_thousands_of_calls(sidecar: Serving) -> None:
    turn = await Turn(sidecar.channel).start()

    async def send() -> None:
        for index in range(3_000):
            await turn.call(index, call("echo", {"text": "a"}))
        await turn.seal(3_000)

    sending = asyncio.create_task(send())
    assert (await turn.finish()).ok_count == 3_000
    await sending


async def test_a_wait_for_a_limit_is_reported(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("hold_one", {"gate": gate.path, "name": "a"}))
    visit = await gate.arrived("a")
    await turn.call(1, call("hold_one", {"gate": gate.path, "name": "b"}))
    assert (await turn.until("queued", 1)).queued.cause == TOOL_LIMIT
    await turn.seal(2)
    visit.release()
    (await gate.arrived("b")).release()
    assert (await turn.finish()).ok_count == 2


async def test_a_wait_for_another_call_names_it(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel).start()
    await turn.call(0, call("hold", {"gate": gate.path, "name": "a"}))
    await turn.call(1, call("echo", {"text": "$ref:@1"}))
    queued = (await turn.until("queued", 1)).queued
    assert (queued.cause, list(queued.waiting_for)) == (REFERENCE, [0])
    (await gate.arrived("a")).release("x")
    await turn.seal(2)
    assert (await turn.finish()).ok_count == 2


async def test_sequential(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel).start(mode=SEQUENTIAL)
    names = ["a", "b", "c"]
    for index, name in enumerate(names):
        await turn.call(index, call("hold", {"gate": gate.path, "name": name}))
    await turn.seal(3)
    for name, done in zip(names, itertools.count(1), strict=False):
        visit = await gate.arrived(name)
        assert gate.names == names[:done]
        visit.release(name)
    assert (await turn.finish()).ok_count == 3
    started = [index for kind, index in turn.trace() if kind in ("started", "result")]
    assert started == [0, 0, 1, 1, 2, 2]
    assert turn.results()[2].timing.blocked_on_order_ns > 0


async def test_sequential_starts_nothing_out_of_order_before_the_seal(
    sidecar: Serving, gate: Gate
) -> None:
    turn = await Turn(sidecar.channel).start(mode=SEQUENTIAL)
    await turn.call(1, call("hold", {"gate": gate.path, "name": "second"}))
    await turn.call(2, call("hold_write", {"gate": gate.path, "name": "third"}))
    await turn.call(0, call("hold", {"gate": gate.path, "name": "first"}))
    for name in ("first", "second"):
        (await gate.arrived(name)).release()
    await turn.until("result", 1)
    assert gate.names == ["first", "second"]
    await turn.seal(3)
    (await gate.arrived("third")).release()
    assert (await turn.finish()).ok_count == 3


async def test_stop(sidecar: Serving, gate: Gate) -> None:
    turn = await Turn(sidecar.channel).start(on_failure=STOP)
    await turn.call(0, call("hold", {"gate": gate.path, "name": "running"}))
    visit = await gate.arrived("running")
    await turn.call(1, call("odd", {"kind": "object"}))
    assert reason((await turn.until("result", 1)).result.result.status) == "TOOL_FAILED"
    await turn.call(2, call("echo", {"text": "too late"}))
    await turn.call(3, call("write", {"text": "too late"}))
    await turn.seal(4)
    visit.release("finished")
    summary = await turn.finish()
    results = turn.results()
    assert results[0].content == "finished"
    for index in (2, 3):
        check_failure(results[index], "STOPPED", grpc.StatusCode.CANCELLED, NOT_STARTED)
    assert (summary.call_count, summary.ok_count) == (4, 1)
