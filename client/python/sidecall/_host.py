"""Offers functions of an application as tools."""

import asyncio
import os
import sys
from asyncio import FIRST_COMPLETED
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import grpc

from sidecall._connection import Connection, ConnectionOptions
from sidecall._durations import Timeout, optional_duration_s, parse_duration
from sidecall._host_calls import ServedTool
from sidecall._host_link import HostLink
from sidecall._host_runner import CallRunner
from sidecall._host_script import run_until_signal
from sidecall._host_tools import ToolSource, load, messages_of
from sidecall._lifespan import Lifespan
from sidecall._lifespans import Lifespans
from sidecall._rpc_errors import SidecallError
from sidecall._version import __version__
from sidecall.v1.tool_host_pb2 import HostAttach

_MAX_CONCURRENCY = 10_000
_MAX_NAME_BYTES = 256
_END_S = 5.0
"""Seconds that the sidecar has to end a stream, and lifespans to end, when the host closes."""


class ToolHost:
    """Offers functions of this process as tools of a sidecar, for as long as it is open.

    It attaches to the sidecar, runs the calls that the sidecar sends, and attaches again
    by itself when the connection is lost. Coroutine functions and async generators run on
    the event loop, other functions in threads. It can be opened once.

    Example:
        ```python
        @tool(effects="read_only")
        async def get_weather(city: str) -> str:
            return await weather_of(city)

        async with ToolHost([get_weather], name="weather") as host:
            await host.wait_until_attached()
            ...
        ```

    In a script, `ToolHost([get_weather]).run()` serves until SIGTERM or SIGINT.
    """

    def __init__(
        self,
        tools: ToolSource | Iterable[ToolSource],
        *,
        endpoint: str | None = None,
        name: str | None = None,
        max_concurrency: int = 16,
        lifespan: Lifespan | None = None,
        drain_timeout: Timeout = 25.0,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        """Takes the tools; nothing is connected yet.

        Args:
            tools: Tools, modules of tools, and names of modules or files (`app.tools`,
                `tools.py`). Those of a module or file have its lifespan.
            endpoint: `host:port` or `unix:/path`; by default the environment's
                SIDECALL_ENDPOINT, then 127.0.0.1:50071.
            name: Name of the application for people; by default the program's.
            max_concurrency: Most calls that run at a time, from 1 to 10 000.
            lifespan: Opens and closes what the tools share that are given themselves.
            drain_timeout: Time that calls get to end when the host closes: seconds, or text
                such as "5s".
            **connection: See `ConnectionOptions`.

        Raises:
            ToolDefinitionError: A tool cannot be offered as it is declared.
            ToolLoadError: A file or module cannot be loaded, or two tools have one name.
            ValueError: Another argument makes no sense.
        """
        self._sources = load(tools, lifespan)
        self._connection = Connection.resolve(endpoint, **connection)
        self._drain_timeout_s = parse_duration(drain_timeout)
        self._attach = HostAttach(
            host_name=_checked_name(_program() if name is None else name),
            tools=messages_of(self._sources),
            max_concurrency=_checked_slots(max_concurrency),
            user_agent=f"sidecall-python/{__version__}",
            max_message_bytes=self._connection.max_message_bytes,
        )
        self._opened: _Opened | None = None
        self._is_used = False

    @property
    def is_attached(self) -> bool:
        """Whether the sidecar offers its tools at present."""
        return self._opened is not None and self._opened.link.attached.is_set()

    async def __aenter__(self) -> Self:
        """Starts the lifespans, and begins to attach; it does not wait for the sidecar.

        Raises:
            RuntimeError: It was opened before.
            ToolLoadError: A lifespan failed.
        """
        if self._is_used:
            raise RuntimeError("a ToolHost can be opened once; make another one")
        self._is_used = True
        lifespans = Lifespans(self._sources)
        states = await lifespans.start()
        tools = {
            tool.name: ServedTool(tool, state)
            for source, state in zip(self._sources, states, strict=True)
            for tool in source.tools
        }
        runner = CallRunner(tools, self._attach.max_concurrency)
        link = HostLink(self._connection, self._attach, runner)
        serving = asyncio.create_task(link.serve(), name="sidecall-host")
        self._opened = _Opened(lifespans, runner, link, serving)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drains: calls in hand end, for at most `drain_timeout`; then the lifespans end.

        Raises:
            SidecallError: The sidecar had refused the host for good.
        """
        opened = self._open()
        try:
            if await opened.link.drain(self._drain_timeout_s):
                await asyncio.wait((opened.serving,), timeout=_END_S)
        finally:
            await opened.stop()
        if error is None:
            opened.raise_refusal()

    async def wait_until_attached(self, timeout: Timeout | None = 30.0) -> None:
        """Waits until the sidecar offers its tools.

        Args:
            timeout: How long to wait: seconds, or text such as "5s"; None for no bound.

        Raises:
            SidecallError: The sidecar has refused the host for good, or it is not attached in
                time; the text says why the last attempt failed.
            RuntimeError: It is not open.
            ValueError: The timeout is not positive and finite.
        """
        opened = self._open()
        timeout_s = optional_duration_s(timeout)
        attached = asyncio.create_task(opened.link.attached.wait())
        try:
            done, _ = await asyncio.wait(
                (attached, opened.serving), timeout=timeout_s, return_when=FIRST_COMPLETED
            )
        finally:
            attached.cancel()
        opened.raise_refusal()
        if not done:
            why = opened.link.failure or "the sidecar did not answer"
            text = f"not attached after {timeout_s:g} s: {why}"
            raise SidecallError(text, code=grpc.StatusCode.DEADLINE_EXCEEDED)

    async def wait_closed(self) -> None:
        """Waits until it serves no more: it was closed, or refused for good.

        Raises:
            SidecallError: The sidecar has refused the host for good.
            RuntimeError: It is not open.
        """
        opened = self._open()
        await asyncio.wait((opened.serving,))
        opened.raise_refusal()

    async def serve(self) -> None:
        """Serves until it is cancelled, which drains it, or refused for good.

        Raises:
            SidecallError: The sidecar has refused the host for good.
            ToolLoadError: A lifespan failed.
        """
        async with self:
            await self.wait_closed()

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT, which drain it; a second signal ends the drain.

        For scripts: it makes an event loop of its own and belongs into the main thread.

        Raises:
            SidecallError: The sidecar has refused the host for good.
            ToolLoadError: A lifespan failed.
        """
        run_until_signal(self.serve)

    def _open(self) -> "_Opened":
        if self._opened is None:
            raise RuntimeError("the ToolHost is not open; use `async with ToolHost(...) as host`")
        return self._opened


@dataclass(frozen=True, slots=True)
class _Opened:
    """What a host has while it is open."""

    lifespans: Lifespans
    runner: CallRunner
    link: HostLink
    serving: asyncio.Task[None]

    async def stop(self) -> None:
        """Ends everything."""
        self.serving.cancel()
        await asyncio.wait((self.serving,))
        await self.runner.stop()
        await self.lifespans.stop(_END_S)
        if not self.serving.cancelled():
            self.serving.exception()  # was logged

    def raise_refusal(self) -> None:
        """Raises what ended it."""
        if self.serving.done() and not self.serving.cancelled():
            self.serving.result()


def _checked_slots(max_concurrency: int) -> int:
    if not 1 <= max_concurrency <= _MAX_CONCURRENCY:
        raise ValueError(
            f"max_concurrency must be from 1 to {_MAX_CONCURRENCY}, not {max_concurrency!r}"
        )
    return max_concurrency


def _checked_name(name: str) -> str:
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise ValueError(f"the name of a host takes at most {_MAX_NAME_BYTES} bytes")
    return name


def _program() -> str:
    program = Path(sys.argv[0]).name or "python"
    return f"{program[:64]} {os.getpid()}"
