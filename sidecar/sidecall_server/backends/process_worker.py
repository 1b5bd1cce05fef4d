"""Main program of a worker process: loads the tools and runs one call at a time."""

import asyncio
import contextlib
import ctypes
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping

from sidecall._loader import LoadedSource, ToolLoadError, load_sources
from sidecall._modules import Modules
from sidecall_server.backends.in_process import InProcessBackend
from sidecall_server.backends.process_frames import (
    PROTOCOL,
    Frame,
    Header,
    encode,
    failure_header,
    receive_frame,
    result_frame,
)
from sidecall_server.core.call import BatchOptions, Call, ToolCall
from sidecall_server.core.events import CallEvent, PartialOutput, Progress
from sidecall_server.core.outcome import Failure, Outcome
from sidecall_server.core.ports import BoundTool, Timer

_PR_SET_PDEATHSIG = 1


class _Clock:
    """The machine's clock; a worker needs no timers of the engine."""

    now_ns = staticmethod(time.monotonic_ns)
    unix_ns = staticmethod(time.time_ns)

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        raise NotImplementedError("deadlines are kept by the sidecar")


class Connection:
    """The socket to the sidecar. `send` may be called from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lock = threading.Lock()

    def send(self, header: Header, body: bytes = b"") -> None:
        """Sends a frame; blocks while the sidecar does not read."""
        data = encode(header, body)
        with self._lock:
            self._socket.sendall(data)

    def read_into(self, loop: asyncio.AbstractEventLoop, frames: asyncio.Queue[Frame]) -> None:
        """Reads until the sidecar is gone, and ends this process and its children then."""
        try:
            while (frame := receive_frame(self._socket)) is not None:
                loop.call_soon_threadsafe(frames.put_nowait, frame)
        finally:
            _end_group()


class _LogForwarder(logging.Handler):
    """Hands log records to the sidecar, which has one log."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a record."""
        try:
            self._connection.send(self._header(record))
        except Exception:
            self.handleError(record)

    def _header(self, record: logging.LogRecord) -> Header:
        text = record.exc_text
        if text is None and record.exc_info:
            text = self._formatter.formatException(record.exc_info)
        return {
            "type": "log",
            "logger": record.name,
            "level": record.levelno,
            "message": record.getMessage(),
            "traceback": text,
            "created": record.created,
        }


class Worker:
    """Runs the calls that arrive, one after the other."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tools: dict[str, BoundTool] = {}

    async def run(self) -> int:
        """Serves until it is told to stop; returns the exit code."""
        frames: asyncio.Queue[Frame] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        threading.Thread(
            target=self._connection.read_into, args=(loop, frames), name="reader", daemon=True
        ).start()
        self._connection.send({"type": "hello", "protocol": PROTOCOL})
        load, _ = await frames.get()
        for folder in load["sys_path"]:
            if folder not in sys.path:
                sys.path.append(folder)
        logging.basicConfig(level=load["log_level"], handlers=[_LogForwarder(self._connection)])
        try:
            backend = InProcessBackend(_load(load["sources"]), 1, _Clock())
            self._tools = {tool.spec.name: tool for tool in await backend.start()}
        except ToolLoadError as error:
            self._connection.send({"type": "load_failed", "message": str(error)})
            return 1
        try:
            self._connection.send({"type": "ready", "tools": sorted(self._tools)})
            await self._serve(frames)
        finally:
            await backend.stop(load["grace_s"])
        return 0

    async def _serve(self, frames: asyncio.Queue[Frame]) -> None:
        while True:
            header, _ = await frames.get()
            if header["type"] == "stop":
                return
            outcome = await self._execute(header)
            if isinstance(outcome, Failure):
                self._connection.send(failure_header(outcome))
            else:
                self._connection.send(*result_frame(outcome))

    async def _execute(self, header: Header) -> Outcome:
        tool = self._tools[header["name"]]
        call = self._call(header)
        if tool.prepare is not None:
            prepared = tool.prepare(call.arguments)
            if isinstance(prepared, Failure):
                return prepared
            call.arguments = prepared
        self._connection.send({"type": "started"})
        call.outcome = await tool.handler(call)  # what the tool reports later is dropped
        return call.outcome

    def _call(self, header: Header) -> Call:
        traceparent, tracestate = header["trace"]
        options = BatchOptions(
            context=header["context"],
            caller=header["caller"],
            traceparent=traceparent,
            tracestate=tracestate,
        )
        now_ns = time.monotonic_ns()
        request = ToolCall(header["id"], header["name"], idempotency_key=header["idempotency_key"])
        call = Call(0, request, options, self._observe, now_ns)
        call.arguments = header["arguments"]
        call.attempt = header["attempt"]
        if header["remaining_s"] is not None:
            call.deadline_ns = now_ns + int(header["remaining_s"] * 1e9)
        return call

    def _observe(self, event: CallEvent) -> None:
        if isinstance(event, Progress):
            self._connection.send(
                {
                    "type": "progress",
                    "done": event.progress,
                    "total": event.total,
                    "message": event.message,
                }
            )
        elif isinstance(event, PartialOutput):
            self._connection.send({"type": "output"}, event.text.encode())


def _load(texts: Mapping[str, str | None]) -> list[LoadedSource]:
    """Loads what the sidecar has loaded, also where files have changed since."""
    known = {name: text for name, text in texts.items() if text is not None}
    return load_sources(list(texts), Modules(texts=known))


def _end_group() -> None:
    """Ends this process and what its tools started."""
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _die_with(parent_pid: int) -> None:
    """Asks the kernel to end this process when the sidecar ends, where it can.

    The end of the socket tells it as well, but only to a process that still runs Python.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        _end_group()


def main(arguments: list[str]) -> int:
    """Runs a worker.

    Args:
        arguments: The number of the file descriptor that is the socket, and the id of
            the sidecar's process.
    """
    descriptor, parent_pid = map(int, arguments)
    _die_with(parent_pid)
    os.set_inheritable(descriptor, False)
    faulthandler.enable()
    worker = Worker(Connection(socket.socket(fileno=descriptor)))
    return asyncio.run(worker.run())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
