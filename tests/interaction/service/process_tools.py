"""Tools that run in worker processes."""

import ctypes
import os
import socket
from typing import Any

from sidecall import ToolContext, tool

_ODD: dict[str, Any] = {"none": None, "object": object(), "raw_bytes": b"\xff\xfe"}


def _stand_blocking(gate: str, name: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(gate)
        connection.sendall(name.encode() + b"\n")
        with connection.makefile() as lines:
            return lines.readline().strip()


@tool(isolation="process", effects="read_only")
def process_echo(text: str) -> str:
    """Returns the text from a worker process."""
    return text


@tool(isolation="process")
def process_hold(gate: str, name: str) -> str:
    """Waits at the gate in a worker process."""
    return _stand_blocking(gate, name)


@tool(isolation="process", timeout="300ms")
def process_hold_briefly(gate: str, name: str) -> str:
    """Waits at the gate in a worker process for a short time."""
    return _stand_blocking(gate, name)


@tool(isolation="process")
def process_exit(code: int = 7) -> str:
    """Ends its interpreter."""
    os._exit(code)


@tool(isolation="process")
def process_segfault() -> str:
    """Breaks its interpreter."""
    ctypes.string_at(0)
    return "unreachable"


@tool(isolation="process")
def process_fail() -> str:
    """Raises in a worker process."""
    raise RuntimeError("secret detail")


@tool(isolation="process", effects="read_only")
def process_odd(kind: str) -> Any:
    """Returns something unusual from a worker process."""
    return _ODD[kind]


@tool(isolation="process", effects="read_only")
def process_report(steps: int, context: ToolContext) -> str:
    """Reports progress and output from a worker process."""
    for step in range(steps):
        context.progress(step, steps, f"step {step}")
        context.output(f"part {step};")
    return "reported"
