"""As much of HTTP/1.1 as a model's API needs, on asyncio streams."""

import asyncio
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

_MAX_BODY_BYTES = 64 * 1024 * 1024


class BadRequestError(Exception):
    """What arrived is not a request that this server understands."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request.

    Attributes:
        method: For example "POST".
        path: Path without the query.
        body: The decoded JSON body; None where there is none.
    """

    method: str
    path: str
    body: Any


async def read_request(reader: asyncio.StreamReader) -> HttpRequest | None:
    """Reads a request; None at the end of the connection.

    Raises:
        BadRequestError: It is malformed.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequestError("the header is too large") from error
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(":", 1) for line in lines[1:] if ":" in line)
    method, _, target = lines[0].rpartition(" ")[0].partition(" ")
    length = headers.get("content-length", "0").strip()
    if not length.isdecimal() or int(length) > _MAX_BODY_BYTES:
        raise BadRequestError(f"a body of {length} bytes is not accepted")
    try:
        raw = await reader.readexactly(int(length))
    except asyncio.IncompleteReadError:
        return None
    try:
        body = json.loads(raw) if raw else None
    except ValueError as error:
        raise BadRequestError("We could not parse the JSON body of your request.") from error
    return HttpRequest(method, target.partition("?")[0], body)


async def write_json(writer: asyncio.StreamWriter, status: int, body: Any) -> None:
    """Answers with a JSON body."""
    raw = json.dumps(body).encode()
    writer.write(_head(status, "application/json", f"content-length: {len(raw)}") + raw)
    await writer.drain()


class EventStream:
    """Answers with server-sent events.

    Args:
        writer: The connection.
        piece_bytes: Bytes of an HTTP chunk at most; None for one event each.
    """

    def __init__(self, writer: asyncio.StreamWriter, piece_bytes: int | None = None) -> None:
        self._writer = writer
        self._piece_bytes = piece_bytes

    async def begin(self) -> None:
        """Sends the header."""
        self._writer.write(_head(200, "text/event-stream", "transfer-encoding: chunked"))
        await self._writer.drain()

    async def send(self, data: str, event: str | None = None) -> None:
        """Sends an event."""
        raw = f"event: {event}\ndata: {data}\n\n" if event else f"data: {data}\n\n"
        encoded = raw.encode()
        size = self._piece_bytes or len(encoded)
        for start in range(0, len(encoded), size):
            piece = encoded[start : start + size]
            self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await self._writer.drain()

    async def end(self) -> None:
        """Ends the answer."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def abort(self) -> None:
        """Cuts the connection."""
        self._writer.transport.abort()


def _head(status: int, content_type: str, framing: str) -> bytes:
    reason = HTTPStatus(status).phrase
    return (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\n{framing}\r\n\r\n"
    ).encode()
