"""ToolService: RPCs in, results out."""

import contextlib
from collections.abc import AsyncIterator

from sidecall._version import __version__
from sidecall.v1 import (
    tool_host_pb2,
    tool_host_pb2_grpc,
    tool_service_pb2,
    tool_service_pb2_grpc,
)
from sidecall_server.engine.engine import Engine
from sidecall_server.transport.attach import HostDesk
from sidecall_server.transport.batch import serve_batch
from sidecall_server.transport.guard import Guard, ServicerContext
from sidecall_server.transport.requests import FEATURES
from sidecall_server.transport.stream import serve_stream
from sidecall_server.transport.tools import duration, list_tools

SERVICE_NAME = "sidecall.v1.ToolService"
HOST_SERVICE_NAME = "sidecall.v1.ToolHostService"


class ToolService(tool_service_pb2_grpc.ToolServiceServicer):
    """Serves one engine."""

    def __init__(self, engine: Engine, guard: Guard) -> None:
        self._engine = engine
        self._guard = guard

    async def GetCapabilities(
        self,
        request: tool_service_pb2.GetCapabilitiesRequest,
        context: ServicerContext,
    ) -> tool_service_pb2.GetCapabilitiesResponse:
        """See the contract."""
        del request
        async with self._guard(context):
            limits = self._engine.limits
            return tool_service_pb2.GetCapabilitiesResponse(
                server_version=__version__,
                api_versions=["v1"],
                max_calls_per_batch=limits.max_calls_per_batch,
                max_message_bytes=limits.max_message_bytes,
                max_open_batches=limits.max_open_batches,
                max_argument_depth=limits.max_argument_depth,
                max_concurrency=limits.max_concurrency,
                max_batch_concurrency=limits.max_batch_concurrency,
                max_threads=limits.max_threads,
                max_processes=limits.max_processes,
                default_attempt_timeout=duration(int(limits.timeout_s * 1e9)),
                default_queue_timeout=duration(int(limits.queue_timeout_s * 1e9)),
                default_max_response_bytes=limits.max_response_bytes,
                stream_idle_timeout=duration(int(limits.stream_idle_timeout_s * 1e9)),
                request_retention=duration(int(limits.request_retention_s * 1e9)),
                session_retention=duration(int(limits.session_retention_s * 1e9)),
                durable_requests=self._engine.ledger.is_durable,
                instance_id=self._engine.instance_id,
                host_retention=duration(int(limits.host_retention_s * 1e9)),
                features=FEATURES,
            )

    async def ListTools(
        self, request: tool_service_pb2.ListToolsRequest, context: ServicerContext
    ) -> tool_service_pb2.ListToolsResponse:
        """See the contract."""
        async with self._guard(context):
            return list_tools(self._engine.registry, request)

    async def ExecuteBatch(
        self, request: tool_service_pb2.ExecuteBatchRequest, context: ServicerContext
    ) -> tool_service_pb2.ExecuteBatchResponse:
        """See the contract."""
        async with self._guard(context):
            return await serve_batch(self._engine, request, context)

    async def StreamBatch(
        self,
        request_iterator: AsyncIterator[tool_service_pb2.StreamBatchRequest],
        context: ServicerContext,
    ) -> AsyncIterator[tool_service_pb2.StreamBatchResponse]:
        """See the contract."""
        async with self._guard(context):
            turn = serve_stream(self._engine, request_iterator, context)
            # Whoever drops this generator must not leave the turn to the garbage collector.
            async with contextlib.aclosing(turn):
                async for events in turn:
                    yield events


class ToolHostService(tool_host_pb2_grpc.ToolHostServiceServicer):
    """Serves the hosts of one engine."""

    def __init__(self, desk: HostDesk, guard: Guard) -> None:
        self._desk = desk
        self._guard = guard

    async def Attach(
        self,
        request_iterator: AsyncIterator[tool_host_pb2.AttachRequest],
        context: ServicerContext,
    ) -> AsyncIterator[tool_host_pb2.AttachResponse]:
        """See the contract."""
        async with (
            self._guard(context),
            # Whoever drops this generator must not leave the host to the garbage collector.
            contextlib.aclosing(self._desk.serve(request_iterator)) as responses,
        ):
            async for response in responses:
                yield response
