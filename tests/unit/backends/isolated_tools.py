"""Tools that misbehave, for the tests of worker processes."""

import ctypes
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sidecall import Image, Link, ToolContext, ToolError, lifespan, tool

if "SIDECALL_TEST_BROKEN" in os.environ and Path(os.environ["SIDECALL_TEST_BROKEN"]).exists():
    raise RuntimeError("cannot be loaded any more")


@lifespan
def resources() -> Iterator[dict[str, Any]]:
    """Knows its process and writes down its end."""
    yield {"pid": os.getpid()}
    if "SIDECALL_TEST_ENDED" in os.environ:
        Path(os.environ["SIDECALL_TEST_ENDED"]).write_text("ended")


class Item(BaseModel):
    """Something to count."""

    count: int


@tool(isolation="process")
def pid() -> int:
    """Id of the process."""
    return os.getpid()


@tool(isolation="process")
async def describe(item: Item, context: ToolContext) -> dict[str, Any]:
    """Tells what it was given."""
    context.progress(1, 2, "half \ud800")
    context.output("part")
    context.logger.warning("a word for the %s", "log")
    return {
        "count": item.count,
        "own_state": context.state["pid"] == os.getpid(),
        "user": context.context["user"],
        "caller": context.caller,
        "id": context.call_id,
        "attempt": context.attempt,
        "timed": context.remaining() is not None,
    }


@tool(isolation="process")
def echo(value: Any) -> Any:
    """Returns what it gets."""
    return value


@tool(isolation="process")
async def pieces(n: int) -> AsyncIterator[str]:
    """Yields."""
    for number in range(n):
        yield str(number)


@tool(isolation="process")
def lines(n: int) -> Iterator[str]:
    """Yields in a thread."""
    for number in range(n):
        yield str(number)


@tool(isolation="process")
def fail(how: str) -> object:
    """Raises, or returns what cannot be written."""
    if how == "tool_error":
        raise ToolError("no such thing", code="NOT_FOUND", retry_after=3)
    if how == "system_exit":
        raise SystemExit("secret")
    if how == "keyboard_interrupt":
        raise KeyboardInterrupt
    if how == "value_error":
        raise ValueError("secret")
    return object()


@tool(isolation="process")
def die(how: str) -> None:
    """Ends the process."""
    if how == "exit":
        os._exit(3)
    elif how == "segmentation_fault":
        ctypes.string_at(0)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "garbage":
        for descriptor in range(3, 256):
            try:
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    os.write(descriptor, b"\xff" * 64)
            except OSError:
                continue
        time.sleep(3600)


@tool(isolation="process")
async def die_async() -> None:
    """Ends the process from its event loop."""
    os._exit(4)


@tool(isolation="process")
def hang(context: ToolContext) -> None:
    """Starts a process of its own, tells both ids and never returns."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    context.output(f"{os.getpid()} {child.pid}")
    while True:
        time.sleep(0.01)


@tool(isolation="process")
def flood(lines: int) -> str:
    """Prints a lot and reads standard input."""
    for _ in range(lines):
        print("x" * 1000)
    return f"read {len(sys.stdin.read())}"


@tool(isolation="process")
def large(size: int) -> str:
    """Returns a large text."""
    return "x" * size


@tool(isolation="process")
def chatty(n: int, context: ToolContext) -> str:
    """Reports a lot of progress."""
    for number in range(n):
        context.progress(number)
    return "done"


@tool(isolation="process")
def deep(context: ToolContext) -> str:
    """Recurses until the interpreter stops it."""
    return deep.function(context)  # type: ignore[no-any-return]  # it never returns


@tool
def beside() -> int:
    """Runs in the sidecar's own process."""
    return os.getpid()


@tool(isolation="process")
def picture(size: int) -> list[Any]:
    """Returns text, an image, a value and a link."""
    image = Image(b"\x89PNG\r\n\x1a\n" + bytes(size), name="a.png")
    return ["Seen \u00e4:", image, {"size": size}, Link("https://example.org")]
