"""The outermost wrapper of every RPC: what it raises becomes a status, nothing leaks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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

    @asynccontextmanager
    async def __call__(self, context: ServicerContext) -> AsyncIterator[None]:
        """Runs a handler's body."""
        self._in_flight += 1
        self.idle.clear()
        try:
            yield
        except Rejection as rejection:
            await abort(context, rejection)
        except grpc.aio.AbortError:
            raise
        except Exception:
            await abort(context, Rejection(RejectionReason.INTERNAL, internal_error("RPC")))
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self.idle.set()


async def abort(context: ServicerContext, rejection: Rejection) -> None:
    """Ends an RPC with the status of a rejection; raises."""
    status = rejection_status(rejection)
    await context.abort(
        _CODES[status.code],
        status.message,
        (("grpc-status-details-bin", status.SerializeToString()),),
    )
