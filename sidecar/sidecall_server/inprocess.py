"""An engine without a network, for `sidecall.testing` (entry point group `sidecall.engine`)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sidecall._rpc_errors import error_from_status
from sidecall._tool import Tool
from sidecall.v1 import tool_service_pb2
from sidecall_server.backends.python import PythonBackend
from sidecall_server.core.defaults import Limits
from sidecall_server.core.rejection import Rejection
from sidecall_server.core.tool import Group
from sidecall_server.engine.engine import Engine
from sidecall_server.observability.clock import SystemClock
from sidecall_server.transport.batch import serve_batch
from sidecall_server.transport.status import rejection_status

_STOP_GRACE_S = 1.0


class _NoPeer:
    """A caller in the same process: no deadline but the batch's own."""

    def time_remaining(self) -> float | None:
        return None

    def peer(self) -> str:
        return "in-process"

    def invocation_metadata(self) -> None:
        return None


class InProcessEngine:
    """Runs batches as the service does, without a channel.

    Attributes:
        engine: The engine, for its statistics.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def execute_batch(
        self, request: tool_service_pb2.ExecuteBatchRequest
    ) -> tool_service_pb2.ExecuteBatchResponse:
        """What the RPC of the same name does.

        Raises:
            SidecallError: The batch was not accepted.
        """
        try:
            return await serve_batch(self.engine, request, _NoPeer())
        except Rejection as rejection:
            raise error_from_status(rejection_status(rejection)) from rejection


@asynccontextmanager
async def open_engine(
    tools: Sequence[Tool[..., Any]], limits: Limits | None = None
) -> AsyncIterator[InProcessEngine]:
    """An engine that serves some tools inside the block."""
    limits = limits or Limits()
    clock = SystemClock(asyncio.get_running_loop())
    backend = PythonBackend((), limits, clock, tools)
    engine = Engine(limits, clock)
    bound = await backend.start()
    # What a tool declares to share has its bounds in a configuration file; here it has none.
    named = {name for tool in bound for name in tool.spec.groups} - {"threads", "processes"}
    engine.registry.swap(bound, {name: Group() for name in named})
    try:
        yield InProcessEngine(engine)
    finally:
        await engine.stop(_STOP_GRACE_S)
        await backend.stop(_STOP_GRACE_S)
