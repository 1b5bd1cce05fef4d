"""The sidecar's side of one worker process."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from sidecall_server.backends.process_frames import (
    PROTOCOL,
    FrameError,
    Header,
    encode,
    failure_from,
    read_frame,
    success_from,
)
from sidecall_server.core.outcome import Outcome

T = TypeVar("T")

Observe = Callable[[Header, bytes], None]
"""Receives the `progress` and `output` frames of a call."""

_log = logging.getLogger("sidecall.processes")

_DRAIN_S = 1.0  # time for what a dead process wrote last
_READ_BYTES = 1024 * 1024


class ChildStartError(Exception):
    """A worker process cannot be started; the text says why."""


class ChildDied(Exception):  # noqa: N818  an event that is expected, not a mistake
    """The worker process died during a call.

    Attributes:
        started: Whether the tool's function had been started.
        returncode: As in `subprocess`: the exit code, or minus the signal.
    """

    def __init__(self, started: bool, returncode: int) -> None:
        super().__init__(describe(returncode))
        self.started = started
        self.returncode = returncode


class _Running:
    """The call that a worker process runs."""

    __slots__ = ("observe", "outcome", "started")

    def __init__(self, observe: Observe, outcome: asyncio.Future[Outcome]) -> None:
        self.observe = observe
        self.outcome = outcome
        self.started = False


class Child:
    """One worker process, from its start to its end.

    A thread of its own starts it and waits for it: the kernel ends a process that asked
    to die with its parent when the thread that started it ends.

    Attributes:
        gone: Done when the process has ended; holds its return code.
        calls: Calls that it was given.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[int] = self._loop.create_future()
        self.calls = 0
        self._ready: asyncio.Future[frozenset[str]] = self._loop.create_future()
        self._running: _Running | None = None
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._reaped = False
        self._reading: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def alive(self) -> bool:
        """Whether it can take a call."""
        return not self._killed and not self.gone.done()

    @property
    def pid(self) -> int | None:
        """Its process id; None before it was started."""
        return None if self._process is None else self._process.pid

    async def start(self, load: Header, timeout_s: float) -> frozenset[str]:
        """Starts the process and has it load the tools.

        Returns:
            Names of the tools that it has.

        Raises:
            ChildStartError: It cannot be started, died, or was not ready in time.
        """
        ours, theirs = socket.socketpair()
        try:
            reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=_READ_BYTES)
        except BaseException:
            theirs.close()
            raise
        ended: asyncio.Future[int] = self._loop.create_future()
        try:
            threading.Thread(
                target=self._own, args=(theirs, ended), name="sidecall-process", daemon=True
            ).start()
        except RuntimeError as error:
            theirs.close()
            self._writer.transport.abort()
            self._writer = None
            raise ChildStartError(f"it cannot be started: {error}") from error
        self._ending = asyncio.create_task(self._end(ended), name="sidecall-process-end")
        self._reading = asyncio.create_task(self._read(reader), name="sidecall-process-read")
        self._writer.write(encode(load))
        try:
            await asyncio.wait(
                (self._ready, self.gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            self.kill()
            raise
        if self._ready.done():
            return self._ready.result()
        self.kill()
        if self.gone.done():
            raise ChildStartError(f"it ended at its start ({describe(self.gone.result())})")
        raise ChildStartError(f"it was not ready after {timeout_s:g} s")

    async def run(self, header: Header, observe: Observe) -> Outcome:
        """Runs a call.

        Raises:
            ChildDied: The process died.
        """
        self.calls += 1
        running = _Running(observe, self._loop.create_future())
        if self._writer is None or self.gone.done():
            raise ChildDied(started=False, returncode=await self.gone)
        self._running = running
        self._writer.write(encode(header))
        try:
            return await running.outcome
        finally:
            self._running = None

    def kill(self) -> None:
        """Ends the process and everything that it started, at once."""
        with self._lock:
            self._killed = True
            if self._process is not None and not self._reaped:
                _kill_group(self._process.pid)

    async def stop(self, grace_s: float) -> None:
        """Lets the process end by itself, and ends it after the grace."""
        if self._writer is not None and self.alive:
            self._writer.write(encode({"type": "stop"}))
            await asyncio.wait((self.gone,), timeout=grace_s)
        self.kill()
        if self._ending is not None:
            await asyncio.wait((self._ending,))

    def _own(self, theirs: socket.socket, ended: asyncio.Future[int]) -> None:
        """Starts the process and waits for its end; in a thread of its own."""
        try:
            with theirs:
                process = _spawn(theirs.fileno())
        except OSError as error:
            self._tell(_fail, ended, ChildStartError(f"it cannot be started: {error}"))
            return
        with self._lock:
            self._process = process
            if self._killed:
                _kill_group(process.pid)
        _wait_for_exit(process)
        with self._lock:
            _kill_group(process.pid)
            returncode = process.wait()
            self._reaped = True
        self._tell(_resolve, ended, returncode)

    def _tell(self, set_future: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(set_future, *arguments)

    async def _end(self, ended: asyncio.Future[int]) -> None:
        """Tells everybody who waits that the process has ended."""
        returncode = -signal.SIGKILL
        try:
            returncode = await ended
        except ChildStartError as error:
            _fail(self._ready, error)
        finally:
            if self._reading is not None:
                await asyncio.wait((self._reading,), timeout=_DRAIN_S)
                self._reading.cancel()
            if self._writer is not None:
                self._writer.transport.abort()
            _resolve(self.gone, returncode)
            if self._running is not None:
                died = ChildDied(self._running.started, returncode)
                _fail(self._running.outcome, died)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                self._take(*await read_frame(reader))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except (FrameError, KeyError, TypeError, ValueError) as error:
            _log.error("a worker process breaks the protocol: %r", error)
        finally:
            self.kill()

    def _take(self, header: Header, body: bytes) -> None:
        kind = header["type"]
        running = self._running
        if kind == "log":
            _log_record(header)
        elif kind == "hello":
            if header["protocol"] != PROTOCOL:
                raise FrameError(f"protocol {header['protocol']} instead of {PROTOCOL}")
        elif kind == "ready":
            _resolve(self._ready, frozenset(header["tools"]))
        elif kind == "load_failed":
            _fail(self._ready, ChildStartError(header["message"]))
        elif running is None:
            raise FrameError(f"{kind} without a call")
        elif kind == "started":
            running.started = True
        elif kind in ("progress", "output"):
            running.observe(header, body)
        elif kind == "result":
            _resolve(running.outcome, success_from(header, body))
        elif kind == "failure":
            _resolve(running.outcome, failure_from(header))
        else:
            raise FrameError(f"unknown type {kind}")


def describe(returncode: int) -> str:
    """A return code for people: "exit code 3" or "SIGSEGV"."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def _spawn(descriptor: int) -> subprocess.Popen[bytes]:
    # -P: the working directory must not shadow modules. Standard output is not the
    # protocol: what tools print goes to the log of the sidecar.
    command = [
        *(sys.executable, "-P", "-m", "sidecall_server.backends.process_worker"),
        *(str(descriptor), str(os.getpid())),
    ]
    return subprocess.Popen(  # noqa: S603  a fixed command
        command,
        stdin=subprocess.DEVNULL,
        stdout=2,
        pass_fds=(descriptor,),
        start_new_session=True,
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
    )


def _wait_for_exit(process: subprocess.Popen[bytes]) -> None:
    """Waits, and where it can leaves the process unreaped, so that its id names no other."""
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _log_record(header: Header) -> None:
    logger = logging.getLogger(header["logger"])
    level = header["level"]
    if logger.isEnabledFor(level):
        record = logger.makeRecord(
            logger.name, level, "(worker process)", 0, header["message"], (), None
        )
        record.created = header["created"]
        record.exc_text = header["traceback"]
        logger.handle(record)


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
