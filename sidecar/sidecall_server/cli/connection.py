"""How client commands reach a sidecar, and what they say where they do not."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import click
import grpc

from sidecall import AsyncClient, SidecallError
from sidecall._durations import parse_duration
from sidecall._loader import ToolLoadError
from sidecall_server.app import running
from sidecall_server.cli.errors import RefusedError, SettingsError, UnreachableError
from sidecall_server.cli.output import tools_print_to_stderr
from sidecall_server.config import ConfigError, load

_MAX_PORT = 65_535
_MAX_DURATION_S = 365 * 24 * 3600
_RETRIES = 3
"""Somebody waits at the terminal, and more often no sidecar runs than one restarts."""

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")


class Duration(click.ParamType[float]):
    """Seconds, or text like 5s, 250ms or 1m30s; the value is in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Reads it."""
        try:
            text = str(value)
            is_number = text.replace(".", "", 1).isdecimal()
            seconds = parse_duration(float(text) if is_number else text)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds > _MAX_DURATION_S:
            self.fail("more than a year", param, ctx)
        return seconds


def endpoint_options(function: _F) -> _F:
    """Adds --endpoint and --tools."""
    function = click.option(
        "--tools",
        metavar="FILE",
        multiple=True,
        help="Serve this Python file or module just for this command, instead of asking a "
        "running sidecar. Repeatable.",
    )(function)
    return click.option(
        "--endpoint",
        metavar="ADDRESS",
        help="The sidecar: host:port or unix:/path.  [env: SIDECALL_ENDPOINT; "
        "default: 127.0.0.1:50071]",
    )(function)


def _check_port(endpoint: str) -> None:
    port = endpoint.rpartition(":")[2]
    if endpoint.startswith("unix:") or not port.isdecimal():
        return
    if not 1 <= int(port[:6]) <= _MAX_PORT:
        raise click.UsageError(f"endpoint {endpoint!r}: a port is from 1 to {_MAX_PORT}")


@asynccontextmanager
async def connect(endpoint: str | None, tools: tuple[str, ...]) -> AsyncIterator[AsyncClient]:
    """A client of a running sidecar, or of one that serves some tools inside the block.

    Raises:
        SettingsError: The tools cannot be loaded.
        UsageError: The endpoint makes no sense.
    """
    if not tools:
        _check_port(endpoint or os.environ.get("SIDECALL_ENDPOINT", ""))
        try:
            client = AsyncClient(endpoint, retries=_RETRIES)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        async with client:
            yield client
        return
    if endpoint is not None:
        raise click.UsageError("--endpoint and --tools exclude each other")
    with tools_print_to_stderr(), tempfile.TemporaryDirectory(prefix="sidecall-") as folder:
        address = f"unix:{folder}/api.sock"
        try:
            serving = running(load({"tools": tools, "listen": (address,)}))
            await serving.__aenter__()
        except (ConfigError, ToolLoadError) as error:
            raise SettingsError(str(error)) from None
        try:
            async with AsyncClient(address) as client:
                yield client
        finally:
            await serving.__aexit__(None, None, None)


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Runs a command; signals and Ctrl-C cancel it, so that what it opened is closed.

    Raises:
        UnreachableError: No sidecar answers.
        RefusedError: The sidecar refused the request.
    """
    stopped_by: list[int] = []

    async def guarded() -> _T:
        task = asyncio.current_task()

        def stop(number: int) -> None:
            # Once: a second one must not interrupt the cleaning up.
            if not stopped_by and task is not None:
                task.cancel()
            stopped_by.append(number)

        for number in stop_signals():
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        return await main

    try:
        return asyncio.run(guarded())
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except asyncio.CancelledError:
        raise SystemExit(128 + (stopped_by or [signal.SIGTERM])[0]) from None
    except SidecallError as error:
        raise explained(error) from None


def stop_signals() -> list[signal.Signals]:
    """Signals that end a command; under nohup, SIGHUP does not."""
    kept = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGTERM] if kept else [signal.SIGTERM, signal.SIGHUP]


def explained(error: SidecallError) -> click.ClickException:
    """The error as the person at the terminal needs it."""
    if error.code is not grpc.StatusCode.UNAVAILABLE:
        return RefusedError(str(error))
    hint = (
        ""
        if error.reason
        else (
            "\nStart a sidecar with `sidecall serve --tools FILE`, name another one with "
            "--endpoint, or pass --tools FILE to do without."
        )
    )
    return UnreachableError(f"no sidecar answers: {error}{hint}")
