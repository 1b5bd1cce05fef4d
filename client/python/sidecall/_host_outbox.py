"""What a host has still to send."""

import asyncio
from collections import deque

from sidecall.v1.tool_host_pb2 import AttachRequest

MAX_REPORT_BYTES = 4 * 1024 * 1024
"""Bytes of progress and partial output that may wait; more is dropped."""


class Outbox:
    """Messages in the order in which they are sent. It belongs to one event loop.

    Functions may report faster than the sidecar reads. That must not fill the memory, nor
    keep results away, so reports are dropped then; the result has all of the output.
    """

    def __init__(self) -> None:
        self._messages: deque[tuple[AttachRequest, int]] = deque()
        self._report_bytes = 0
        self._closed = False
        self._some = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more."""
        return self._closed

    def put(self, message: AttachRequest) -> None:
        """Sends a message, unless it is closed."""
        self._add(message, 0)

    def report(self, message: AttachRequest) -> None:
        """Sends progress or partial output, if there is room."""
        if self._report_bytes < MAX_REPORT_BYTES:
            size = message.ByteSize()
            self._report_bytes += size
            self._add(message, size)

    def close(self) -> None:
        """Takes no more; what waits is still sent. Idempotent."""
        self._closed = True
        self._some.set()

    def drop(self) -> None:
        """Takes no more, and forgets what waits."""
        self._messages.clear()
        self.close()

    async def get(self) -> AttachRequest | None:
        """Waits for the next message; None when there will be none."""
        while not self._messages:
            if self._closed:
                return None
            self._some.clear()
            await self._some.wait()
        message, size = self._messages.popleft()
        self._report_bytes -= size
        return message

    def _add(self, message: AttachRequest, report_bytes: int) -> None:
        if not self._closed:
            self._messages.append((message, report_bytes))
            self._some.set()
