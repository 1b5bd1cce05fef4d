"""One stream on which a host is attached to a sidecar."""

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from sidecall._host_calls import HostedCall
from sidecall._host_outbox import Outbox
from sidecall._host_results import abandoned, fitting
from sidecall._host_runner import CallRunner
from sidecall._rpc_errors import SidecallError, error_from_rpc, make_error
from sidecall.v1.tool_host_pb2 import (
    AttachRequest,
    AttachResponse,
    HostAttach,
    HostAttached,
    HostCall,
    HostDrain,
    HostHeartbeat,
    HostResult,
)

if TYPE_CHECKING:
    Stream = grpc.aio.StreamStreamCall[AttachRequest, AttachResponse]

_ATTACH_S = 30.0
"""Seconds that a sidecar may take to accept a host."""

_DRAINING_S = 1.0
"""Seconds that the sidecar may take to say that no more calls come."""

_log = logging.getLogger("sidecall.host")


class Attachment:
    """An attachment, from its acceptance to the end of its stream.

    Attributes:
        attached: What the sidecar said about it.
    """

    def __init__(
        self, rpc: "Stream", attached: HostAttached, runner: CallRunner, max_message_bytes: int
    ) -> None:
        """Takes a stream on which the host was accepted; `attach` is the way to it."""
        self.attached = attached
        self._rpc = rpc
        self._runner = runner
        self._max_bytes = min(attached.max_message_bytes or max_message_bytes, max_message_bytes)
        self._outbox = Outbox()
        self._in_hand: dict[int, HostedCall] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._drains = False
        self._draining = asyncio.Event()

    @classmethod
    async def attach(cls, rpc: "Stream", attach: HostAttach, runner: CallRunner) -> "Attachment":
        """Attaches on a new stream.

        Args:
            rpc: The stream.
            attach: What the host offers, and the largest message that it takes and sends.
            runner: Runs its calls.

        Raises:
            SidecallError: The sidecar is not there, or refuses the host.
        """
        try:
            async with asyncio.timeout(_ATTACH_S):
                await rpc.write(AttachRequest(attach=attach))
                # Nothing is sent before the answer: gRPC loses the reason of a refusal that
                # crosses a message.
                answer = await rpc.read()
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            code, details = await rpc.code(), await rpc.details()
            raise make_error(code, details, await rpc.trailing_metadata()) from error
        except TimeoutError:
            text = f"the sidecar did not answer within {_ATTACH_S:g} s"
            raise SidecallError(text, code=grpc.StatusCode.UNAVAILABLE) from None
        except BaseException:
            rpc.cancel()
            raise
        if not isinstance(answer, AttachResponse) or not answer.HasField("attached"):
            rpc.cancel()
            text = "the sidecar did not say that the host is attached"
            raise SidecallError(text, code=grpc.StatusCode.INTERNAL)
        return cls(rpc, answer.attached, runner, attach.max_message_bytes)

    async def serve(self) -> None:
        """Runs calls until the stream ends.

        Raises:
            SidecallError: It did not end in order.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(), name="sidecall-host-write")
                failure = await self._read()
                self._outbox.drop()
        finally:
            self._rpc.cancel()
            self._outbox.drop()
            calls = list(self._in_hand.values())
            self._in_hand.clear()
            self._empty.set()
            for call in calls:
                self._runner.cancel(call)
        if failure is not None:
            raise failure

    async def drain(self, timeout_s: float) -> None:
        """Asks for no more calls, waits for those in hand and half-closes then.

        Calls that have not ended in time are answered as abandoned.
        """
        self._drains = True
        self._outbox.put(AttachRequest(drain=HostDrain()))
        try:
            async with asyncio.timeout(timeout_s):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_DRAINING_S):
                        await self._draining.wait()
                await self._empty.wait()
        except TimeoutError:
            self._abandon()
        self._outbox.close()

    def _abandon(self) -> None:
        calls = self._in_hand.values()
        if not calls:
            return
        names = ", ".join(sorted(call.message.name for call in calls))
        _log.warning("functions that still run are abandoned: %s", names)
        for attempt_id in list(self._in_hand):
            result = abandoned()
            result.attempt_id = attempt_id
            self._answer(result)

    async def _write(self) -> None:
        """Sends what there is to send, heartbeats where there is nothing, and half-closes."""
        beat_s = self.attached.heartbeat_interval.ToNanoseconds() / 1e9 or None
        try:
            while True:
                try:
                    async with asyncio.timeout(beat_s):
                        message = await self._outbox.get()
                except TimeoutError:
                    message = AttachRequest(heartbeat=HostHeartbeat())
                if message is None:
                    break
                await self._rpc.write(message)
            await self._rpc.done_writing()
        except (grpc.RpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
            pass  # The stream has ended: who reads learns why.

    async def _read(self) -> SidecallError | None:
        """Handles messages until the stream ends; returns why, where that is not in order."""
        silence_s = self.attached.silence_timeout.ToNanoseconds() / 1e9 or None
        try:
            while True:
                async with asyncio.timeout(silence_s):
                    message = await self._rpc.read()
                if not isinstance(message, AttachResponse):
                    return None
                self._handle(message)
        except grpc.RpcError as error:
            return error_from_rpc(error)
        except TimeoutError:
            text = f"nothing was heard of the sidecar for {silence_s:g} s"
            return SidecallError(text, code=grpc.StatusCode.UNAVAILABLE)

    def _handle(self, message: AttachResponse) -> None:
        kind = message.WhichOneof("message")
        if kind == "call":
            self._start(message.call)
        elif kind == "cancel":
            call = self._in_hand.get(message.cancel.attempt_id)
            if call is not None:
                self._runner.cancel(call)
        elif kind == "draining":
            if not self._drains:
                _log.info("the sidecar shuts down; calls in hand are finished")
            self._draining.set()
            self._close_if_drained()

    def _start(self, message: HostCall) -> None:
        if message.attempt_id in self._in_hand:
            _log.error("the sidecar sent attempt %d twice", message.attempt_id)
            return
        if self._outbox.is_closed:
            _log.warning("a call of %s came after the drain and is not run", message.name)
            return
        self._empty.clear()
        self._in_hand[message.attempt_id] = self._runner.start(
            message, self._outbox.report, partial(self._end, message.attempt_id)
        )

    def _end(self, attempt_id: int, result: HostResult) -> None:
        if attempt_id in self._in_hand:
            self._answer(result)

    def _answer(self, result: HostResult) -> None:
        del self._in_hand[result.attempt_id]
        self._outbox.put(fitting(result, self._max_bytes))
        if not self._in_hand:
            self._empty.set()
            self._close_if_drained()

    def _close_if_drained(self) -> None:
        if self._draining.is_set() and not self._in_hand:
            self._outbox.close()
