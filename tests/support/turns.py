"""One turn over StreamBatch, step by step."""

import asyncio
import contextlib
from typing import Any

import grpc
from tests.support.gate import WAIT_S
from tests.support.serving import stub_of

from sidecall.v1 import execution_pb2
from sidecall.v1.tool_service_pb2 import (
    BatchEvent,
    BatchSummary,
    StreamBatchRequest,
    StreamCall,
    StreamCancel,
    StreamSeal,
    StreamStart,
)


class Turn:
    """A stream and what came out of it so far.

    Attributes:
        rpc: The RPC.
        events: All events, in order.
        messages: Number of messages that held them.
    """

    def __init__(self, channel: grpc.aio.Channel, timeout: float = WAIT_S) -> None:
        self.rpc: Any = stub_of(channel).StreamBatch(timeout=timeout)
        self.events: list[BatchEvent] = []
        self.messages = 0

    async def send(self, **message: Any) -> None:
        """Sends one message as it is. Where the RPC has ended, reading tells how."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self.rpc.write(StreamBatchRequest(**message))

    async def start(self, **options: Any) -> "Turn":
        """Opens the turn; returns this."""
        await self.send(start=StreamStart(**options))
        return self

    async def call(self, index: int, call: execution_pb2.ToolCall) -> None:
        """Sends a call."""
        await self.send(call=StreamCall(index=index, call=call))

    async def seal(self, call_count: int) -> None:
        """Seals the turn."""
        await self.send(seal=StreamSeal(call_count=call_count))

    async def cancel(self, index: int) -> None:
        """Cancels a call."""
        await self.send(cancel=StreamCancel(index=index))

    async def close(self) -> None:
        """Closes the sending half."""
        await self.rpc.done_writing()

    async def until(self, kind: str, index: int | None = None) -> BatchEvent:
        """Reads until an event of a kind, of one call where an index is given.

        Events that were read before count.
        """
        seen = 0
        while True:
            for event in self.events[seen:]:
                if event.WhichOneof("event") == kind and index in (None, _index(event)):
                    return event
            seen = len(self.events)
            assert await self._read(), f"no {kind} of {index} in {self.trace()}"

    async def finish(self) -> BatchSummary:
        """Reads to the end; checks that the summary comes last."""
        while await self._read():
            pass
        kinds = self.trace()
        assert kinds[0] == ("accepted", None)
        assert kinds[-1] == ("summary", None)
        assert len([kind for kind, _ in kinds if kind in ("accepted", "summary")]) == 2
        return self.events[-1].summary

    async def failure(self) -> grpc.aio.AioRpcError:
        """Reads until the RPC fails; returns how."""
        try:
            while await self._read():
                pass
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError(f"the RPC ended OK: {self.trace()}")

    async def _read(self) -> bool:
        async with asyncio.timeout(WAIT_S):
            message = await self.rpc.read()
        if message is grpc.aio.EOF:
            return False
        self.messages += 1
        assert message.events, "a message without events"
        self.events.extend(message.events)
        if message.events[-1].HasField("summary"):
            await self.rpc.done_writing()
        return True

    def trace(self, index: int | None = None) -> list[tuple[str, int | None]]:
        """Kinds of the events and the calls they are about; of one call where given."""
        trace: list[tuple[str, int | None]] = [
            (event.WhichOneof("event") or "", _index(event)) for event in self.events
        ]
        return trace if index is None else [item for item in trace if item[1] == index]

    def kinds(self, index: int) -> list[str]:
        """Kinds of the events of one call."""
        return [kind for kind, _ in self.trace(index)]

    def results(self) -> dict[int, execution_pb2.ToolResult]:
        """The results by index; checks that none came twice."""
        finished = [event.result for event in self.events if event.HasField("result")]
        results = {item.index: item.result for item in finished}
        assert len(results) == len(finished)
        return results


def _index(event: BatchEvent) -> int | None:
    kind = event.WhichOneof("event")
    if kind in (None, "accepted", "summary"):
        return None
    return int(getattr(event, kind).index)
