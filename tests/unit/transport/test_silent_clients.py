"""StreamBatch of a client that says nothing, on a fake clock."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.clock import settle
from tests.support.engines import Bench, Gate, bench, bound, echo

from sidecall.v1 import execution_pb2 as execution
from sidecall.v1 import tool_service_pb2 as pb
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.core.tool import Effects
from sidecall_server.transport.stream import serve_stream


class Client:
    """The other end of a stream.

    Attributes:
        events: What came back.
    """

    def __init__(self, b: Bench) -> None:
        self._messages: asyncio.Queue[pb.StreamBatchRequest | None] = asyncio.Queue()
        self.events: list[pb.BatchEvent] = []
        self.rpc = asyncio.create_task(self._receive(b))

    def time_remaining(self) -> float | None:
        return None

    def peer(self) -> str:
        return "a test"

    def invocation_metadata(self) -> None:
        return None

    async def _requests(self) -> AsyncIterator[pb.StreamBatchRequest]:
        while (message := await self._messages.get()) is not None:
            yield message

    async def _receive(self, b: Bench) -> None:
        async for message in serve_stream(b.engine, self._requests(), self):
            self.events.extend(message.events)
            if message.events[-1].HasField("summary"):
                self._messages.put_nowait(None)

    async def send(self, **message: object) -> None:
        self._messages.put_nowait(pb.StreamBatchRequest(**message))  # type: ignore[arg-type]  # by name
        await settle()

    async def call(self, index: int, name: str) -> None:
        await self.send(call=pb.StreamCall(index=index, call=execution.ToolCall(name=name)))

    def results(self) -> dict[int, execution.ToolResult]:
        finished = [event.result for event in self.events if event.HasField("result")]
        return {item.index: item.result for item in finished}

    @property
    def summary(self) -> pb.BatchSummary:
        assert self.rpc.done()
        self.rpc.result()
        return self.events[-1].summary


async def test_a_turn_without_a_first_message_is_refused() -> None:
    async with bench(bound("echo", echo), stream_start_timeout_s=10.0) as b:
        client = Client(b)
        await b.clock.advance(9.9)
        assert not client.rpc.done()
        await b.clock.advance(0.2)
        with pytest.raises(Rejection, match="within 10 s") as caught:
            await client.rpc
        assert caught.value.reason is RejectionReason.REQUEST_INVALID
        assert b.clock.armed == 0


async def test_an_unsealed_turn_is_abandoned_when_nothing_comes() -> None:
    async with bench(bound("echo", echo), stream_idle_timeout_s=60.0, max_open_batches=1) as b:
        client = Client(b)
        await client.send(start=pb.StreamStart())
        await b.clock.advance(59)
        await client.call(0, "echo")
        await b.clock.advance(59)
        assert not client.rpc.done()
        await b.clock.advance(2)
        assert not client.summary.sealed
        assert not client.summary.HasField("status")
        (result,) = client.results().values()
        assert result.execution_state == execution.EXECUTION_STATE_NOT_STARTED
        assert result.status.code == 1
        assert "nothing for 60 s" in result.content
        b.assert_idle()


async def test_a_call_that_runs_ends_although_its_turn_is_abandoned() -> None:
    gate = Gate()
    read = bound("read", gate, effects=Effects.READ_ONLY, timeout_s=1_000.0)
    async with bench(read, bound("echo", echo), stream_idle_timeout_s=60.0) as b:
        client = Client(b)
        await client.send(start=pb.StreamStart())
        await client.call(0, "read")
        await client.call(1, "echo")
        await b.clock.advance(61)
        assert set(client.results()) == {1}
        await client.call(2, "echo")
        assert client.results()[2].execution_state == execution.EXECUTION_STATE_NOT_STARTED
        gate.open(0)
        await settle()
        assert client.results()[0].content == "result 0"
        assert (client.summary.call_count, client.summary.ok_count) == (3, 1)


async def test_a_sealed_turn_may_take_its_time() -> None:
    gate = Gate()
    slow = bound("slow", gate, timeout_s=10_000.0)
    async with bench(slow, stream_idle_timeout_s=60.0) as b:
        client = Client(b)
        await client.send(start=pb.StreamStart())
        await client.call(0, "slow")
        await client.send(seal=pb.StreamSeal(call_count=1))
        await b.clock.advance(5_000)
        assert not client.rpc.done()
        gate.open(0)
        await settle()
        assert client.results()[0].content == "result 0"
        assert client.summary.sealed
        assert b.clock.armed <= 1
