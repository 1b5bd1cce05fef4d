import asyncio
import socket
import struct
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall_server.backends.process_frames import (
    FrameError,
    encode,
    failure_from,
    failure_header,
    read_frame,
    receive_frame,
)
from sidecall_server.core.outcome import Code, ExecutionState, Failure, Reason, Violation

TEXT = st.text(st.characters(codec=None))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)


def reader_of(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


def send_all(connection: socket.socket, data: bytes) -> None:
    with connection:
        connection.sendall(data)


@given(st.lists(st.tuples(VALUES, st.binary()), max_size=3))
def test_frames_arrive_as_they_were_sent(sent: list[tuple[Any, bytes]]) -> None:
    frames = [({"type": "t", "value": value}, body) for value, body in sent]
    data = b"".join(encode(header, body) for header, body in frames)

    async def read() -> list[Any]:
        reader = reader_of(data)
        return [await read_frame(reader) for _ in frames]

    assert asyncio.run(read()) == frames
    ours, theirs = socket.socketpair()
    with theirs:
        writer = threading.Thread(target=send_all, args=(ours, data))
        writer.start()
        assert [receive_frame(theirs) for _ in frames] == frames
        assert receive_frame(theirs) is None
        writer.join()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">IQ", 2**31, 0),
        struct.pack(">IQ", 1, 2**40),
        struct.pack(">IQ", 1, 0) + b"{",
        struct.pack(">IQ", 2, 0) + b"[]",
        struct.pack(">IQ", 2, 0) + b"{}",
        struct.pack(">IQ", 10, 0) + b'{"type":1}',
    ],
)
async def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        await read_frame(reader_of(data))


async def test_end_in_the_middle_of_a_frame() -> None:
    data = encode({"type": "t"}, b"body")[:-1]
    with pytest.raises(asyncio.IncompleteReadError):
        await read_frame(reader_of(data))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        assert receive_frame(theirs) is None


@pytest.mark.parametrize(
    "failure",
    [
        Failure(Reason.TOOL_FAILED, "no", ExecutionState.COMPLETED),
        Failure(
            Reason.ARGUMENTS_INVALID,
            "wrong",
            ExecutionState.NOT_STARTED,
            code=Code.NOT_FOUND,
            violations=(Violation("/a", "must be b"),),
            retry_after_s=1.5,
            metadata={"error_id": "1"},
        ),
    ],
)
async def test_failures_arrive_as_they_were_sent(failure: Failure) -> None:
    header, _ = await read_frame(reader_of(encode(failure_header(failure))))
    assert failure_from(header) == failure
