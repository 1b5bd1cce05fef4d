"""A sidecar in the test's own process, behind a real channel."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
from tests.support.batches import batch
from tests.support.gate import WAIT_S

from sidecall.v1 import execution_pb2, tool_service_pb2, tool_service_pb2_grpc
from sidecall_server import app, config
from sidecall_server.engine.engine import EngineStatistics

_POLL_S = 0.005


class Serving:
    """A running sidecar and a client that sets no options.

    Attributes:
        app: The sidecar.
        channel: A channel to it.
        stub: Its service.
    """

    def __init__(self, sidecar: app.Sidecar, channel: grpc.aio.Channel) -> None:
        self.app = sidecar
        self.channel = channel
        self.stub = stub_of(channel)

    @property
    def address(self) -> str:
        """The gRPC target of its first address."""
        return str(self.app.addresses[0])

    async def run(
        self, *calls: execution_pb2.ToolCall, **options: Any
    ) -> list[execution_pb2.ToolResult]:
        """Runs a batch; checks that there is one result per call, in order."""
        response = await self.stub.ExecuteBatch(batch(*calls, **options), timeout=WAIT_S)
        results = list(response.results)
        assert [(r.call_id, r.name) for r in results] == [(c.id, c.name) for c in calls]
        assert all(result.content for result in results)
        return results

    def begin(
        self, *calls: execution_pb2.ToolCall, timeout: float = WAIT_S, **options: Any
    ) -> "grpc.aio.UnaryUnaryCall[Any, tool_service_pb2.ExecuteBatchResponse]":
        """Sends a batch and returns at once."""
        return self.stub.ExecuteBatch(batch(*calls, **options), timeout=timeout)

    @property
    def statistics(self) -> EngineStatistics:
        """State of the engine."""
        return self.app.engine.statistics()

    async def until(self, condition: Callable[[EngineStatistics], bool]) -> None:
        """Polls the engine's state until a condition holds."""
        async with asyncio.timeout(WAIT_S):
            while not condition(self.statistics):  # noqa: ASYNC110  the engine has no such event
                await asyncio.sleep(_POLL_S)


def stub_of(channel: grpc.aio.Channel) -> "tool_service_pb2_grpc.ToolServiceAsyncStub":
    """The service at the other end of a channel."""
    stub: tool_service_pb2_grpc.ToolServiceAsyncStub = tool_service_pb2_grpc.ToolServiceStub(
        channel
    )
    return stub


def raw_unary(channel: grpc.aio.Channel, method: str) -> Any:
    """A method that takes and gives bytes."""
    return channel.unary_unary(method)


def is_idle(statistics: EngineStatistics) -> bool:
    """Whether nothing is open, runs, waits or holds a permit."""
    busy = (statistics.open_batches, statistics.running, statistics.queued)
    limiters = statistics.limiters.values()
    return not any(busy) and not any(item.active or item.waiting for item in limiters)


@asynccontextmanager
async def start_serving(settings: Mapping[str, Any], tools: Any = ()) -> AsyncIterator[Serving]:
    """Serves inside the block; at its end the sidecar must be idle."""
    async with app.running(config.load(settings, environ={}), tools=tools) as sidecar:
        async with grpc.aio.insecure_channel(str(sidecar.addresses[0])) as channel:
            serving = Serving(sidecar, channel)
            yield serving
        await serving.until(is_idle)
