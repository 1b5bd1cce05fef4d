"""The outermost wrapper of every RPC: what it raises becomes a status, nothing leaks."""

import asyncio
from types import TracebackType
from typing import Any

import grpc

from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.engine.bugs import internal_error
from sidecall_server.transport.status import rejection_status

_CODES = {code.value[0]: code for code in grpc.StatusCode}

ServicerContext = grpc.aio.ServicerContext[Any, Any]


class Guard:
    """Turns exceptions of RPC handlers into statuses and counts RPCs in flight.

    gRPC itself would send an exception's text to the client, and would let a server stop
    before the handlers have cleaned up.

    Attributes:
        idle: Set while no RPC is in flight.
    """

    def __init__(self) -> None:
        self._in_flight = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def __call__(self, context: ServicerContext) -> "_Rpc":
        """What a handler's body runs in."""
        return _Rpc(self, context)

    def enter(self) -> None:
        """Counts one more RPC."""
        self._in_flight += 1
        self.idle.clear()

    def leave(self) -> None:
        """Counts one RPC less."""
        self._in_flight -= 1
        if not self._in_flight:
            self.idle.set()


class _Rpc:
    """One RPC in flight. A class, since a generator would take three times as long."""

    __slots__ = ("_context", "_guard")

    def __init__(self, guard: Guard, context: ServicerContext) -> None:
        self._guard = guard
        self._context = context

    async def __aenter__(self) -> None:
        self._guard.enter()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if isinstance(error, Rejection):
                await abort(self._context, error)
            elif isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
                why = internal_error("RPC")
                await abort(self._context, Rejection(RejectionReason.INTERNAL, why))
        finally:
            self._guard.leave()


async def abort(context: ServicerContext, rejection: Rejection) -> None:
    """Ends an RPC with the status of a rejection; raises."""
    status = rejection_status(rejection)
    await context.abort(
        _CODES[status.code],
        status.message,
        (("grpc-status-details-bin", status.SerializeToString()),),
    )
