"""Tools that write a line to a file when they start, for sidecars that are killed."""

import asyncio
import os
import socket

from sidecall import ToolError, tool


def _note(path: str, name: str) -> None:
    """Adds a line at once, so that it is there whatever happens next."""
    line = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(line, f"{name}\n".encode())
    finally:
        os.close(line)


async def _run(path: str, name: str, gate: str) -> str:
    _note(path, name)
    if gate:
        reader, writer = await asyncio.open_unix_connection(gate)
        try:
            writer.write(name.encode() + b"\n")
            await reader.readline()
        finally:
            writer.close()
    return f"did {name}"


def _run_blocking(path: str, name: str, gate: str) -> str:
    _note(path, name)
    if gate:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(gate)
            connection.sendall(name.encode() + b"\n")
            connection.recv(1)
    return f"did {name}"


@tool
async def write(path: str, name: str, gate: str = "", after: str = "") -> str:
    """Changes something each time."""
    return await _run(path, name, gate)


@tool
def write_in_thread(path: str, name: str, gate: str = "") -> str:
    """Changes something each time, in a thread."""
    return _run_blocking(path, name, gate)


@tool(isolation="process")
def write_in_process(path: str, name: str, gate: str = "") -> str:
    """Changes something each time, in a worker process."""
    return _run_blocking(path, name, gate)


@tool
async def fail(path: str, name: str) -> str:
    """Changes something and raises."""
    _note(path, name)
    raise ToolError("it cannot be done")


@tool(effects="idempotent")
async def put(path: str, name: str, gate: str = "") -> str:
    """Changes something, the same each time."""
    return await _run(path, name, gate)


@tool(effects="read_only")
async def read(path: str, name: str, gate: str = "") -> str:
    """Changes nothing."""
    return await _run(path, name, gate)


@tool(approval="required")
async def pay(path: str, name: str, gate: str = "") -> str:
    """Changes something when a person has approved it."""
    return await _run(path, name, gate)


@tool
async def work(path: str, name: str, delay_ms: int) -> str:
    """Changes something, and takes a while."""
    _note(path, name)
    await asyncio.sleep(delay_ms / 1000)
    return f"did {name}"
