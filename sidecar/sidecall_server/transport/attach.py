"""Attach: an application attaches, gets calls and answers them."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from sidecall.v1 import tool_host_pb2
from sidecall_server.core.events import PartialOutput, Progress
from sidecall_server.core.ports import Timer
from sidecall_server.core.rejection import Rejection, RejectionReason, invalid_field
from sidecall_server.engine.engine import Engine
from sidecall_server.hosts.host import Host
from sidecall_server.hosts.pool import HostPool
from sidecall_server.transport.host_messages import (
    call_message,
    hosted_tools,
    outcome_of,
    too_large,
)
from sidecall_server.transport.idle import IdleTimer
from sidecall_server.transport.opening import first_message
from sidecall_server.transport.tools import duration

_DEFAULT_SLOTS = 16
_MAX_SLOTS = 10_000
_DEFAULT_MESSAGE_BYTES = 4 * 1024 * 1024
_MAX_NAME_BYTES = 256
_BEATS = 3
"""Heartbeats within the time after which a silent side is taken for gone."""

_FULL_RETRY_S = 5.0
_STUCK_S = 1.0
"""Seconds after which a stream is cancelled whose silent host does not even read."""

_CLOSE_S = 0.4
"""Seconds that hosts get to end their streams when the sidecar stops: less than gRPC does."""

_log = logging.getLogger("sidecall.hosts")

Request = tool_host_pb2.AttachRequest
Response = tool_host_pb2.AttachResponse


class HostDesk:
    """Where hosts attach."""

    def __init__(self, engine: Engine, pool: HostPool) -> None:
        self._engine = engine
        self._pool = pool
        self._attachments: set[_Attachment] = set()

    def close(self) -> None:
        """Says to all hosts that no more calls come; their streams end within a second or so."""
        for attachment in list(self._attachments):
            attachment.close()

    async def serve(self, requests: AsyncIterator[Request]) -> AsyncGenerator[Response, None]:
        """Serves one host until its stream ends.

        Raises:
            Rejection: Why the sidecar ended it, or refused it.
        """
        messages = aiter(requests)
        first = await first_message(self._engine, messages, "Attach")
        if self._engine.draining.done():
            raise Rejection(
                RejectionReason.DRAINING, "The sidecar is shutting down.", retry_after_s=_CLOSE_S
            )
        if isinstance(first, Rejection):
            raise first
        if first is None or first.WhichOneof("message") != "attach":
            raise _broken("the first message must hold `attach`")
        if len(self._pool.hosts) >= self._engine.limits.max_hosts:
            raise Rejection(
                RejectionReason.TOO_MANY_HOSTS,
                f"{len(self._pool.hosts)} hosts are attached already.",
                retry_after_s=_FULL_RETRY_S,
            )
        attachment = _Attachment(self._engine, self._pool, first.attach)
        self._attachments.add(attachment)
        try:
            async with contextlib.aclosing(attachment.serve(messages)) as responses:
                async for response in responses:
                    yield response
        finally:
            self._attachments.discard(attachment)


class _Attachment:
    """One stream of one host."""

    def __init__(self, engine: Engine, pool: HostPool, attach: tool_host_pb2.HostAttach) -> None:
        """Takes what the host says about itself.

        Raises:
            Rejection: It is not valid, or a tool's name is taken.
        """
        name = attach.host_name
        if len(name.encode()) > _MAX_NAME_BYTES:
            raise invalid_field("host_name", f"is larger than {_MAX_NAME_BYTES} bytes")
        if not 0 <= attach.max_concurrency <= _MAX_SLOTS:
            raise invalid_field("max_concurrency", f"must be within 0 and {_MAX_SLOTS}")
        if attach.max_message_bytes < 0:
            raise invalid_field("max_message_bytes", "must not be negative")
        self._engine = engine
        self._clock = engine.clock
        self._pool = pool
        self._user_agent = attach.user_agent
        # Beyond what the sidecar sends, a message would break the stream.
        self._max_bytes = min(
            attach.max_message_bytes or _DEFAULT_MESSAGE_BYTES, engine.limits.max_message_bytes
        )
        self._some = asyncio.Event()
        host_id = secrets.token_hex(8)
        source = f"application {name or 'without a name'!r}"
        self.host = Host(
            host_id,
            name,
            hosted_tools(attach.tools, source),
            attach.max_concurrency or _DEFAULT_SLOTS,
            self._some.set,
        )
        self._silence_s = engine.limits.host_silence_timeout_s
        self._beat_s = self._silence_s / _BEATS
        self._beat: IdleTimer | None = None
        self._silent = False
        self._beat_due = False
        self._drains = False
        self._closing = False
        self._close_due = False
        self._close_timer: IdleTimer | None = None
        self._stuck: Timer | None = None
        self._task = asyncio.current_task()

    def close(self) -> None:
        """Ends the stream soon: no more calls come."""
        self._closing = True
        self._some.set()

    async def serve(self, messages: AsyncIterator[Request]) -> AsyncGenerator[Response, None]:
        """Serves the host until it leaves, is silent, breaks the protocol or is sent away.

        Raises:
            Rejection: Why the sidecar ended it.
        """
        self._pool.attach(self.host)
        _log.info("%s attached: %s", self._who, ", ".join(self.host.tools))
        silence = IdleTimer(self._clock, self._silence_s, self._on_silence)
        self._beat = IdleTimer(self._clock, self._beat_s, self._on_beat)
        reader = asyncio.create_task(self._read(messages, silence))
        reader.add_done_callback(lambda _: self._some.set())
        why = "its stream broke"
        try:
            yield self._attached()
            while True:
                await self._some.wait()
                self._some.clear()
                if self._silent:
                    why = f"nothing was heard of it for {self._silence_s:g} s"
                    raise Rejection(RejectionReason.HOST_SILENT, f"Attach: {why}")
                if reader.done():
                    why = "it broke the protocol"
                    await reader
                    why = "it left"
                    return
                for response in self._responses():
                    if self._beat is not None:
                        self._beat.heard()
                    yield response
                if self._close_due:
                    why = "the sidecar stops"
                    return
        finally:
            for timer in (silence, self._beat, self._close_timer):
                if timer is not None:
                    timer.stop()
            if self._stuck is not None:
                self._stuck.cancel()
            self._pool.detach(self.host)
            _log.info("%s detached: %s", self._who, why)
            reader.cancel()
            await asyncio.wait((reader,))

    @property
    def _who(self) -> str:
        agent = f", {self._user_agent}" if self._user_agent else ""
        return f"host {self.host.name!r} ({self.host.id}{agent})"

    def _on_silence(self) -> None:
        self._silent = True
        self._some.set()
        # At once, and not when the stream has room for what is being sent.
        self._pool.detach(self.host)
        until_ns = self._clock.now_ns() + int(_STUCK_S * 1e9)
        self._stuck = self._clock.call_at(until_ns, self._end_stream)

    def _end_stream(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _on_beat(self) -> None:
        self._beat_due = True
        self._beat = IdleTimer(self._clock, self._beat_s, self._on_beat)
        self._some.set()

    def _on_close(self) -> None:
        self._close_due = True
        self._some.set()

    def _attached(self) -> Response:
        return Response(
            attached=tool_host_pb2.HostAttached(
                host_id=self.host.id,
                instance_id=self._engine.instance_id,
                heartbeat_interval=duration(int(self._beat_s * 1e9)),
                silence_timeout=duration(int(self._silence_s * 1e9)),
                max_message_bytes=self._engine.limits.max_message_bytes,
            )
        )

    def _responses(self) -> Iterator[Response]:
        """What is to be sent now."""
        host = self.host
        while host.outbox or host.cancellations:
            if host.cancellations:
                yield Response(
                    cancel=tool_host_pb2.HostCancel(attempt_id=host.cancellations.popleft())
                )
                continue
            attempt = host.outbox.popleft()
            self._pool.sent(attempt)
            message = call_message(attempt, self._clock)
            size = message.ByteSize()
            if size > self._max_bytes:
                failure = too_large(attempt, size, self._max_bytes)
                self._pool.returned(host, attempt, failure)
            else:
                yield message
        if self._drains:
            self._drains = False
            yield Response(draining=tool_host_pb2.HostDraining())
        if self._closing:
            self._closing = False
            self._pool.drain(host)
            self._close_timer = IdleTimer(self._clock, _CLOSE_S, self._on_close)
            timeout = duration(int(_CLOSE_S * 1e9))
            yield Response(draining=tool_host_pb2.HostDraining(timeout=timeout))
        if self._beat_due:
            self._beat_due = False
            yield Response(heartbeat=tool_host_pb2.HostHeartbeat())

    async def _read(self, messages: AsyncIterator[Request], silence: IdleTimer) -> None:
        """Reads until the host half-closes.

        Raises:
            Rejection: The host broke the protocol.
        """
        async for message in messages:
            silence.heard()
            if isinstance(message, Rejection):
                raise message
            self._dispatch(message)

    def _dispatch(self, message: Request) -> None:
        kind = message.WhichOneof("message")
        if kind == "result":
            self._end(message.result)
        elif kind == "progress":
            self._observe(message.progress)
        elif kind == "partial_output":
            self._observe(message.partial_output)
        elif kind == "drain":
            self._pool.drain(self.host)
            self._drains = True
            self._some.set()
            _log.info("%s drains", self._who)
        elif kind == "attach":
            raise _broken("`attach` was sent twice")
        elif kind is None:
            raise _broken("a message holds nothing known")

    def _end(self, result: tool_host_pb2.HostResult) -> None:
        attempt = self.host.in_hand.get(result.attempt_id)
        if attempt is None or not attempt.is_sent:
            raise _broken(f"there is no attempt {result.attempt_id} that has no result yet")
        self._pool.returned(self.host, attempt, outcome_of(result, attempt.offer.tool.name))

    def _observe(
        self, message: tool_host_pb2.HostProgress | tool_host_pb2.HostPartialOutput
    ) -> None:
        attempt = self.host.in_hand.get(message.attempt_id)
        observer = None if attempt is None else attempt.call.observer
        # What crosses the end of its call means nothing.
        if attempt is None or observer is None or attempt.call.outcome is not None:
            return
        index = attempt.call.index
        if isinstance(message, tool_host_pb2.HostPartialOutput):
            observer(PartialOutput(index, message.text))
        else:
            total = message.total if message.HasField("total") else None
            observer(Progress(index, message.progress, total, message.message))


def _broken(why: str) -> Rejection:
    return Rejection(RejectionReason.REQUEST_INVALID, f"Attach: {why}")
