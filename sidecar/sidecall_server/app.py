"""The composition root: builds a sidecar, serves, drains."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from sidecall._tool import Tool
from sidecall_server.config import (
    ATTEMPTS_STOP_S,
    BACKENDS_STOP_S,
    SERVERS_STOP_S,
    STOP_S,
    STORE_STOP_S,
    TASKS_STOP_S,
    ConfigError,
    Settings,
)
from sidecall_server.config.store_url import store_file
from sidecall_server.core.ports import BoundTool
from sidecall_server.engine.engine import Engine
from sidecall_server.hosts.pool import HostPool
from sidecall_server.last_resort import LastResort, leave_behind
from sidecall_server.memory import relax_garbage_collection
from sidecall_server.observability.clock import SystemClock
from sidecall_server.reload.reloader import Reloader
from sidecall_server.reload.served import ServedTools
from sidecall_server.store.keeper import StoreOptions
from sidecall_server.store.sqlite import SqliteStore
from sidecall_server.transport.addresses import Address, AddressError, TcpAddress, parse_address
from sidecall_server.transport.server import GrpcServers

_log = logging.getLogger("sidecall")

_ANSWER_S = 1.0
"""Seconds at the end of the drain that the answers of cancelled calls get to leave."""


class Sidecar:
    """One sidecar, from start to stop.

    Attributes:
        engine: Runs the batches.
        hosts: Applications that run calls of their own tools.
        served: The tools that are served.
        reloader: Puts changed settings and tools in force; None where nothing is reloaded.
    """

    def __init__(
        self,
        settings: Settings,
        tools: Sequence[Tool[..., Any]] = (),
        load: Callable[[], Settings] | None = None,
    ) -> None:
        """Takes what to serve.

        Args:
            settings: The settings.
            tools: Tools beside those that the settings name.
            load: Reads the settings again; nothing is reloaded where None.
        """
        loop = asyncio.get_running_loop()
        clock = SystemClock(loop)
        self._settings = settings
        self._listen, self._health_listen = listen_addresses(settings)
        self.engine = Engine(settings.limits, clock)
        self.hosts = HostPool(clock, settings.limits.host_retention_s)
        self.served = ServedTools(self.engine, self.hosts, tools)
        self.reloader = Reloader(self.served, settings, load, clock) if load is not None else None
        self._servers = GrpcServers(self.engine, self.hosts, settings.limits.max_message_bytes)
        self._store: SqliteStore | None = None

    @property
    def tools(self) -> Sequence[BoundTool]:
        """The tools in force."""
        return self.served.bound

    @property
    def addresses(self) -> Sequence[Address]:
        """Addresses that are listened on, free ports filled in."""
        return self._servers.addresses

    async def start(self) -> None:
        """Loads the tools and serves.

        Raises:
            ToolLoadError: A tool cannot be loaded.
            ConfigError: A tool is declared wrongly.
            AddressError: An address is taken.
            StoreError: The store cannot be opened.
        """
        try:
            if self.reloader is not None:
                await self.reloader.observe()
            await self._open_store()
            await self.served.put_in_force(self._settings)
            await self._servers.start(self._listen, self._health_listen)
        except BaseException:
            await self.stop()
            raise
        if self.reloader is not None:
            await self.reloader.start()
        where = ", ".join(map(str, self.addresses))
        count = len(self.tools)
        _log.info("serving %d tool%s on %s", count, "" if count == 1 else "s", where)
        if not count:
            _log.warning(
                "there are no tools yet: name files of tools with --tools, or have applications "
                "attach and offer theirs"
            )

    async def _open_store(self) -> None:
        path = store_file(self._settings.store)
        if path is not None:
            retention_s = self._settings.limits.request_retention_s
            self._store = await SqliteStore.open(StoreOptions(path, retention_s))
            self.engine.keep_in(self._store)

    async def drain(self, hurry: asyncio.Event | None = None) -> None:
        """Refuses new batches and waits for running ones.

        Those that run when the time is over, or when `hurry` is set, are answered with
        what they have: calls that are not final end with reason DRAINING.
        """
        answer_s = min(_ANSWER_S, self._settings.drain_timeout_s)
        _log.info("draining: running batches get %g s", self._settings.drain_timeout_s)
        if self.reloader is not None:
            self.reloader.close()
        self.engine.refuse_batches()
        await self._servers.refuse()
        waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(self._wait_idle())}
        if hurry is not None:
            waits.add(asyncio.ensure_future(hurry.wait()))
        try:
            grace_s = self._settings.drain_timeout_s - answer_s
            await asyncio.wait(waits, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self.engine.cancel_open()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(answer_s):
                await self._servers.wait_idle()

    async def _wait_idle(self) -> None:
        await self._servers.wait_idle()
        await self.engine.wait_detached()

    async def stop(self) -> None:
        """Ends everything, within `config.STOP_S` seconds. Idempotent."""
        if self.reloader is not None:
            self.reloader.close()
        self.engine.refuse_batches()
        self.engine.cancel_open()
        self.hosts.close()
        await self._servers.stop(SERVERS_STOP_S)
        await self.engine.stop(ATTEMPTS_STOP_S)
        if self._store is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STORE_STOP_S):
                    await self._store.close()
        if self.reloader is not None:
            await self.reloader.wait_closed()
        await self.served.stop(BACKENDS_STOP_S)


def listen_addresses(settings: Settings) -> tuple[list[Address], list[Address]]:
    """Addresses of the API, and those of health checks alone.

    Raises:
        ConfigError: One of them is malformed, not allowed, or stands twice.
    """
    listen = _parsed(settings.where("listen"), settings.listen)
    _require_local(settings.where("listen"), listen)
    health = _parsed(settings.where("health_listen"), settings.health_listen)
    _require_different(settings.where("listen"), listen)
    _require_different(settings.where("health_listen"), health, listen)
    return listen, health


def _parsed(where: str, texts: Sequence[str]) -> list[Address]:
    try:
        return [parse_address(text) for text in texts]
    except AddressError as error:
        raise ConfigError(f"{where}: {error}") from None


def _require_local(where: str, addresses: Sequence[Address]) -> None:
    for address in addresses:
        if isinstance(address, TcpAddress) and not address.is_loopback:
            raise ConfigError(
                f"{where}: {address}: this version has no TLS and no tokens, so it listens on "
                "loopback addresses and unix sockets only"
            )


def _require_different(
    where: str, addresses: Sequence[Address], others: Sequence[Address] = ()
) -> None:
    seen = set(others)
    for address in addresses:
        if address in seen:
            raise ConfigError(f"{where}: {address} stands twice")
        if not isinstance(address, TcpAddress) or address.port:
            seen.add(address)


@contextlib.asynccontextmanager
async def running(
    settings: Settings, tools: Sequence[Tool[..., Any]] = ()
) -> AsyncIterator[Sidecar]:
    """A sidecar that serves inside the block."""
    sidecar = Sidecar(settings, tools)
    await sidecar.start()
    try:
        yield sidecar
    finally:
        await sidecar.stop()


async def serve(
    settings: Settings,
    load: Callable[[], Settings] | None = None,
    reload_on: Sequence[signal.Signals] = (),
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the drain.

    `STOP_S` seconds after the drain the process ends in any case.

    Args:
        settings: The settings.
        load: Reads the settings again; nothing is reloaded where None.
        reload_on: Signals that ask for a reload.
    """
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()
    last_resort = LastResort(loop)

    def on_signal() -> None:
        if first.is_set():
            second.set()
        else:
            first.set()
            last_resort.end_within(STOP_S)

    # Before the start: a signal that arrives while tools load must not kill halfway.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        sidecar = Sidecar(settings, load=load)
        if sidecar.reloader is not None:
            for number in reload_on:
                loop.add_signal_handler(number, sidecar.reloader.request, number.name)
        if await _start_unless(sidecar, first):
            try:
                relax_garbage_collection()
                await first.wait()
                last_resort.end_within(settings.drain_timeout_s + STOP_S)
                await sidecar.drain(second)
                last_resort.end_within(STOP_S)
            finally:
                await sidecar.stop()
        _log.info("stopped")
        await _end_tasks()
    finally:
        if not first.is_set():
            last_resort.stand_down()


async def _start_unless(sidecar: Sidecar, stop: asyncio.Event) -> bool:
    """Starts, unless it is told to stop before that is done; returns whether it has started."""
    start = asyncio.create_task(sidecar.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((start, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not start.done():
            start.cancel()
            await asyncio.wait((start,))
        if start.cancelled():
            return False
        start.result()
        return True
    finally:
        stopping.cancel()


async def _end_tasks() -> None:
    """Cancels the tasks that are left, and ends the process where they ignore that."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks and (await asyncio.wait(tasks, timeout=TASKS_STOP_S))[1]:
        leave_behind(asyncio.get_running_loop())
