"""Clients that go away at any moment leave nothing behind."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.support.gate import WAIT_S
from tests.support.promises import check_batch, check_tool_limits
from tests.support.random_batches import Link, PlannedBatch, PlannedCall
from tests.support.recorded_tools import Recorder, recorded_tools
from tests.support.serving import Serving, is_idle, start_serving

from sidecall import Tool
from sidecall.v1.tool_service_pb2 import StreamBatchRequest, StreamCall, StreamSeal, StreamStart

ROUNDS = 100
SEED = 20_261_122


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def serving(tmp_path: Path, recorder: Recorder) -> AsyncIterator[Serving]:
    """A sidecar whose tools include one that ends only when it is cancelled."""

    async def forever(key: str, **_: object) -> str:
        with recorder.run("forever", key, []):
            await asyncio.Event().wait()
        return "cannot be reached"

    schema = {"type": "object", "required": ["key"]}
    endless = Tool(
        name="forever", description="Never ends.", input_schema=schema, call=forever,
        max_concurrency=3,
    )  # fmt: skip
    address = f"unix:{tmp_path}/s"
    tools = [*recorded_tools(recorder), endless]
    async with start_serving({"listen": address}, tools) as made:
        yield made


def random_batch(source: random.Random) -> PlannedBatch:
    """Calls that end at once, soon or never, and that wait for each other."""
    calls = []
    for index in range(source.randrange(1, 30)):
        earlier = source.randint(1, index + 1)
        links = [Link(f"@{earlier}", "depends_on")] if index % 4 == 3 and earlier <= index else []
        tool = source.choice(["text", "write", "thread", "forever", "forever", "json"])
        calls.append(PlannedCall("", tool, source.choice([0, 1, 3]), tuple(links)))
    mode = source.choice(["PARALLEL", "PARALLEL", "SEQUENTIAL"])
    return PlannedBatch(calls, mode, max_concurrency=source.choice([0, 0, 4]))


async def assert_serves(serving: Serving, recorder: Recorder) -> None:
    """Asserts that nothing is left, and that a batch runs as on the first day."""
    await serving.until(is_idle)
    check_tool_limits(recorder)
    batch = PlannedBatch(
        [PlannedCall("", tool) for tool in ("text", "write", "thread", "json")] * 5
    )
    response = await serving.stub.ExecuteBatch(batch.request, timeout=WAIT_S)
    check_batch(batch, response.results, recorder)


async def test_batches_that_are_cancelled_at_random_moments(
    serving: Serving, recorder: Recorder
) -> None:
    source = random.Random(SEED)  # noqa: S311  repeatable on purpose
    for _ in range(ROUNDS):
        rpcs = [
            serving.stub.ExecuteBatch(random_batch(source).request, timeout=WAIT_S)
            for _ in range(source.randint(1, 3))
        ]
        for _ in range(source.choice([0, 1, 3, 10, 30])):
            await asyncio.sleep(0)
        await asyncio.sleep(source.choice([0, 0, 0.001, 0.004]))
        for rpc in rpcs:
            rpc.cancel()
        await serving.until(is_idle)

    await assert_serves(serving, recorder)


async def test_a_cancelled_batch_starts_nothing_more(serving: Serving, recorder: Recorder) -> None:
    batch = PlannedBatch([PlannedCall("", "forever")] * 20)
    rpc = serving.stub.ExecuteBatch(batch.request, timeout=WAIT_S)
    await serving.until(lambda statistics: statistics.running == 3)
    rpc.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rpc
    await serving.until(is_idle)

    assert sum(recorder.starts().values()) == 3
    await assert_serves(serving, recorder)


async def test_streams_that_are_cancelled_at_random_moments(
    serving: Serving, recorder: Recorder
) -> None:
    source = random.Random(SEED)  # noqa: S311  repeatable on purpose
    for _ in range(ROUNDS):
        batch = random_batch(source)
        rpc: Any = serving.stub.StreamBatch(timeout=WAIT_S)
        await _send_some(rpc, batch, source)
        if source.random() < 0.5:
            reader = asyncio.ensure_future(rpc.read())
            await asyncio.sleep(source.choice([0, 0, 0.002]))
            reader.cancel()
        rpc.cancel()
        await serving.until(is_idle)

    await assert_serves(serving, recorder)


async def test_streams_that_are_cancelled_while_calls_run(
    serving: Serving, recorder: Recorder
) -> None:
    for _ in range(10):
        batch = PlannedBatch([PlannedCall("", "forever")] * 20)
        rpc: Any = serving.stub.StreamBatch(timeout=WAIT_S)
        for message in _messages(batch):
            await rpc.write(message)
        await serving.until(lambda statistics: statistics.running == 3)
        rpc.cancel()
        await serving.until(is_idle)

    assert sum(recorder.starts().values()) == 30
    await assert_serves(serving, recorder)


async def _send_some(rpc: Any, batch: PlannedBatch, source: random.Random) -> None:
    messages = _messages(batch)
    for message in messages[: source.choice([0, 1, 2, len(messages) // 2, len(messages)])]:
        await rpc.write(message)


def _messages(batch: PlannedBatch) -> list[StreamBatchRequest]:
    messages = [StreamBatchRequest(start=StreamStart(**batch.options))]
    for index in range(len(batch.calls)):
        call = StreamCall(index=index, call=batch.message(index))
        messages.append(StreamBatchRequest(call=call))
    messages.append(StreamBatchRequest(seal=StreamSeal(call_count=len(batch.calls))))
    return messages


async def test_a_client_that_drops_its_connection(serving: Serving, recorder: Recorder) -> None:
    for round_number in range(10):
        # A connection of its own: channels with equal options share one.
        options = [("sidecall.round", round_number), ("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.insecure_channel(serving.address, options)
        stub = Serving(serving.app, channel).stub
        batch = PlannedBatch([PlannedCall("", "forever")] * 5)
        rpc = stub.ExecuteBatch(batch.request, timeout=WAIT_S)
        await serving.until(lambda statistics: statistics.running == 3)
        await channel.close()
        with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
            await rpc
        await serving.until(is_idle)

    await assert_serves(serving, recorder)
