"""What the sidecar and its worker processes say to each other.

A frame is a JSON object and a body of bytes, each with its length in front. The body
holds what would be slow to put through JSON: results and partial output.

From the sidecar: `load` (sources, sys_path, log_level), `call` (name, id, arguments,
attempt, idempotency_key, caller, context, trace, remaining_s), `stop`. From the worker:
`hello` (protocol), `ready` (tools) or `load_failed` (message); `started`, `progress` (done,
total, message), `output` (body), `result` (is_json, sizes and facts of its parts, body),
`failure` (its fields); `log` (a record).
"""

import asyncio
import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

from sidecall_server.core.outcome import (
    BlobPart,
    Code,
    ExecutionState,
    Failure,
    JsonPart,
    LinkPart,
    Part,
    Reason,
    Success,
    TextPart,
    Violation,
)

PROTOCOL = 3
"""Version of all of this; both sides refuse another one."""

Header = dict[str, Any]
Frame = tuple[Header, bytes]

_LENGTHS = struct.Struct(">IQ")
_MAX_HEADER_BYTES = 256 * 1024 * 1024
_MAX_BODY_BYTES = 1024 * 1024 * 1024


class FrameError(ValueError):
    """What arrived is not a frame."""


def encode(header: Header, body: bytes = b"") -> bytes:
    """Writes a frame. Numbers of any size and lone surrogates stay what they are."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((_LENGTHS.pack(len(text), len(body)), text, body))


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """Reads a frame.

    Raises:
        FrameError: It is not one.
        asyncio.IncompleteReadError: The other side is gone.
    """
    header_bytes, body_bytes = _lengths(await reader.readexactly(_LENGTHS.size))
    header = await reader.readexactly(header_bytes)
    body = await reader.readexactly(body_bytes) if body_bytes else b""
    return _parse(header), body


def receive_frame(connection: socket.socket) -> Frame | None:
    """Reads a frame from a blocking socket; None when the other side is gone."""
    lengths = _receive_exactly(connection, _LENGTHS.size)
    if lengths is None:
        return None
    header_bytes, body_bytes = _lengths(lengths)
    header = _receive_exactly(connection, header_bytes)
    body = _receive_exactly(connection, body_bytes)
    if header is None or body is None:
        return None
    return _parse(header), body


def _receive_exactly(connection: socket.socket, count: int) -> bytes | None:
    buffer = bytearray(count)
    view = memoryview(buffer)
    while view:
        try:
            received = connection.recv_into(view)
        except ConnectionError:
            return None
        if not received:
            return None
        view = view[received:]
    return bytes(buffer)


def _lengths(data: bytes) -> tuple[int, int]:
    header_bytes, body_bytes = _LENGTHS.unpack(data)
    if header_bytes > _MAX_HEADER_BYTES or body_bytes > _MAX_BODY_BYTES:
        raise FrameError(f"a frame of {header_bytes} + {body_bytes} bytes")
    return header_bytes, body_bytes


def _parse(data: bytes) -> Header:
    try:
        header = json.loads(data)
    except ValueError as error:
        raise FrameError("a header that is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("type"), str):
        raise FrameError("a header without a type")
    return header


def result_frame(success: Success) -> Frame:
    """A result as a frame.

    Its body holds the text, then what its parts hold: their texts and bytes.
    """
    body = success.text.encode()
    header: Header = {"type": "result", "is_json": success.is_json}
    if not success.parts:
        return header, body
    held = [_held(part) for part in success.parts]
    facts = [[*_facts(part), len(data)] for part, data in zip(success.parts, held, strict=True)]
    header |= {"text_bytes": len(body), "parts": facts}
    return header, b"".join((body, *held))


def success_from(header: Header, body: bytes) -> Success:
    """The result that a frame holds."""
    facts = header.get("parts")
    if facts is None:
        return Success(body.decode(), header["is_json"])
    start = header["text_bytes"]
    text = body[:start].decode()
    parts: list[Part] = []
    for *fact, size in facts:
        parts.append(_part_from(fact, body[start : start + size]))
        start += size
    return Success(text, header["is_json"], tuple(parts))


def _held(part: Part) -> bytes:
    """What of a part stands in the body."""
    if isinstance(part, BlobPart):
        return part.data
    return b"" if isinstance(part, LinkPart) else part.text.encode()


def _facts(part: Part) -> list[str]:
    """What of a part stands in the header."""
    if isinstance(part, BlobPart):
        return ["blob", part.media_type, part.name]
    if isinstance(part, LinkPart):
        return ["link", part.uri, part.media_type, part.name]
    return ["json" if isinstance(part, JsonPart) else "text"]


def _part_from(facts: Sequence[str], data: bytes) -> Part:
    match facts:
        case ["text"]:
            return TextPart(data.decode())
        case ["json"]:
            return JsonPart(data.decode())
        case ["blob", media_type, name]:
            return BlobPart(media_type, data, name)
        case ["link", uri, media_type, name]:
            return LinkPart(uri, media_type, name)
    raise FrameError(f"a part that is {facts[:1]}")


def failure_header(failure: Failure) -> Header:
    """A failure as a header."""
    return {
        "type": "failure",
        "reason": failure.reason.name,
        "message": failure.message,
        "state": int(failure.state),
        "code": None if failure.code is None else int(failure.code),
        "violations": [[item.field, item.message] for item in failure.violations],
        "retry_after_s": failure.retry_after_s,
        "metadata": dict(failure.metadata),
    }


def failure_from(header: Header) -> Failure:
    """The failure that a header holds."""
    code = header["code"]
    return Failure(
        Reason[header["reason"]],
        header["message"],
        ExecutionState(header["state"]),
        code=None if code is None else Code(code),
        violations=tuple(Violation(at, what) for at, what in header["violations"]),
        retry_after_s=header["retry_after_s"],
        metadata=header["metadata"],
    )
