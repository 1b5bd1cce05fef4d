"""Keeps a host attached to its sidecar."""

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import grpc

from sidecall._connection import Connection
from sidecall._host_attachment import Attachment
from sidecall._host_backoff import Backoff
from sidecall._host_runner import CallRunner
from sidecall._rpc_errors import SidecallError
from sidecall.v1.tool_host_pb2 import HostAttach
from sidecall.v1.tool_host_pb2_grpc import ToolHostServiceStub

if TYPE_CHECKING:
    # Known to the stubs' type information only.
    from sidecall.v1.tool_host_pb2_grpc import ToolHostServiceAsyncStub

_REFUSALS = frozenset(
    {
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)

_log = logging.getLogger("sidecall.host")


class HostLink:
    """Attaches a host, and attaches it again whenever its stream has ended.

    Attributes:
        attached: Set while the host is attached.
        failure: Why the last attempt failed, or attachment ended; None for no reason.
    """

    def __init__(
        self,
        connection: Connection,
        attach: HostAttach,
        runner: CallRunner,
        backoff: Backoff | None = None,
    ) -> None:
        """Takes what to connect to, what to offer, and who runs the calls."""
        self.attached = asyncio.Event()
        self.failure: SidecallError | None = None
        self._connection = connection
        self._attach = attach
        self._runner = runner
        self._backoff = backoff or Backoff()
        self._attachment: Attachment | None = None
        self._closing = asyncio.Event()
        self._told = False

    async def serve(self) -> None:
        """Serves until it has drained.

        Raises:
            SidecallError: The sidecar refuses the host, and would again.
        """
        async with self._connection.open_channel() as channel:
            stub: ToolHostServiceAsyncStub = ToolHostServiceStub(channel)
            while not self._closing.is_set():
                self.failure = await self._serve_once(stub)
                if not self._closing.is_set():
                    await self._pause(self.failure)

    async def drain(self, timeout_s: float) -> bool:
        """Finishes the calls in hand, for at most so long; then `serve` returns soon.

        Returns:
            Whether the host was attached; else there is nothing to wait for.
        """
        self._closing.set()
        if self._attachment is None:
            return False
        await self._attachment.drain(timeout_s)
        return True

    async def _serve_once(self, stub: "ToolHostServiceAsyncStub") -> SidecallError | None:
        """One attachment; returns why there was none, or why it ended out of order."""
        rpc = stub.Attach(metadata=self._connection.metadata)
        try:
            attachment = await Attachment.attach(rpc, self._attach, self._runner)
        except SidecallError as error:
            if _is_refusal(error):
                _log.error("the sidecar refuses host %r: %s", self._attach.host_name, error)
                raise
            return error
        self._backoff.attached()
        self._told = False
        host_id = attachment.attached.host_id
        _log.info("attached to %s as %s", self._connection.target, host_id)
        self._attachment = attachment
        self.attached.set()
        try:
            await attachment.serve()
        except SidecallError as error:
            return error
        finally:
            self._attachment = None
            self.attached.clear()
        return None

    async def _pause(self, failure: SidecallError | None) -> None:
        why = failure or "the sidecar ended the stream"
        # Once is enough: a sidecar may be away for hours.
        level = logging.DEBUG if self._told else logging.WARNING
        self._told = True
        _log.log(level, "not attached to %s, trying again: %s", self._connection.target, why)
        delay_s = self._backoff.next_s(None if failure is None else failure.retry_after_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._closing.wait()


def _is_refusal(error: SidecallError) -> bool:
    """Whether attaching again in the same way has the same end."""
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return not error.reason  # gRPC's own: the offer is larger than a message may be
    return error.code in _REFUSALS
