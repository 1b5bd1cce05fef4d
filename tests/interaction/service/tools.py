"""Tools that behave, that misbehave, and that wait at a gate."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from sidecall import ToolContext, ToolError, tool


async def _stand(gate: str, name: str) -> str:
    """Says its name at the gate and waits for the answer; hangs up when cancelled."""
    reader, writer = await asyncio.open_unix_connection(gate)
    try:
        writer.write(name.encode() + b"\n")
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()


def _stand_blocking(gate: str, name: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(gate)
        connection.sendall(name.encode() + b"\n")
        with connection.makefile() as lines:
            return lines.readline().strip()


@tool(effects="read_only")
async def echo(text: str) -> str:
    """Returns the text."""
    return text


@tool(effects="read_only")
async def value(value: Any) -> Any:
    """Returns the JSON value."""
    return value


@tool
async def write(text: str) -> str:
    """Returns the text, and counts as an effect."""
    return text


@tool(effects="read_only")
async def hold(gate: str, name: str) -> str:
    """Waits at the gate."""
    return await _stand(gate, name)


@tool
async def hold_write(gate: str, name: str, after: Any = None) -> str:
    """Waits at the gate, and counts as an effect."""
    return await _stand(gate, name)


@tool(max_concurrency=1, effects="read_only")
async def hold_one(gate: str, name: str) -> str:
    """Waits at the gate, one call at a time."""
    return await _stand(gate, name)


@tool(timeout="200ms")
async def hold_briefly(gate: str, name: str) -> str:
    """Waits at the gate for a short time."""
    return await _stand(gate, name)


@tool(max_concurrency=1, queue_timeout="100ms")
async def hold_impatient(gate: str, name: str) -> str:
    """Waits at the gate, one call at a time; others wait a short time."""
    return await _stand(gate, name)


@tool(max_concurrency=1, max_queue=0)
async def hold_full(gate: str, name: str) -> str:
    """Waits at the gate, one call at a time; no other may wait."""
    return await _stand(gate, name)


@tool(max_concurrency=1)
def hold_thread(gate: str, name: str) -> str:
    """Waits at the gate in a thread, one call at a time."""
    return _stand_blocking(gate, name)


@tool(timeout="200ms", max_concurrency=1)
def hold_thread_briefly(gate: str, name: str) -> str:
    """Waits at the gate in a thread for a short time, and cannot be stopped."""
    return _stand_blocking(gate, name)


@tool
def hold_thread_politely(gate: str, name: str, context: ToolContext) -> str:
    """Stands at the gate in a thread and leaves when it is cancelled."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(gate)
        connection.sendall(name.encode() + b"\n")
        context.wait_cancelled()
        return "left"


@tool(timeout="200ms")
async def stubborn(gate: str, name: str) -> str:
    """Swallows every cancellation and says so at the gate."""
    reader, writer = await asyncio.open_unix_connection(gate)
    writer.write(name.encode() + b"\n")
    try:
        while True:
            try:
                return (await reader.readline()).decode().strip()
            except asyncio.CancelledError:
                writer.write(b"cancelled\n")
    finally:
        writer.close()


@tool
async def fail(message: str = "secret detail") -> None:
    """Raises an ordinary exception."""
    raise RuntimeError(message)


@tool
async def fail_usefully(code: str = "NOT_FOUND", retry_after: float | None = None) -> None:
    """Raises a ToolError."""
    raise ToolError("There is no such city; try 'Oslo'.", code=code, retry_after=retry_after)


@tool
async def fail_with_group() -> None:
    """Raises an exception group."""
    raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])


@tool
async def fail_by_exit() -> None:
    """Raises SystemExit."""
    raise SystemExit(3)


@tool
async def fail_by_cancelling() -> None:
    """Raises CancelledError although nobody cancelled it."""
    raise asyncio.CancelledError


@tool
def fail_in_thread() -> None:
    """Raises in a thread."""
    raise RuntimeError("secret detail")


@tool
def recurse() -> int:
    """Recurses without end."""
    return int(recurse()) + 1


class City(BaseModel):
    """A city.

    Attributes:
        name: Its name.
        population: Its inhabitants.
    """

    name: str
    population: int


class Unprintable:
    """Has no JSON form, and raises when it is printed."""

    def __repr__(self) -> str:
        raise RuntimeError("secret detail")


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


_ODD: dict[str, Any] = {
    "none": None,
    "empty": "",
    "bytes": b"caf\xc3\xa9",
    "raw_bytes": b"\xff\xfe",
    "nan": float("nan"),
    "infinities": [float("inf"), float("-inf")],
    "model": City(name="Oslo", population=709_037),
    "models": [City(name="Oslo", population=1)],
    "set": {1},
    "object": object(),
    "unprintable": Unprintable(),
    "circle": _circle(),
    "surrogate": "a\ud800b",
    "surrogate_inside": {"text": "a\ud800b"},
    "huge_integer": 2**200,
    "false": False,
    "zero": 0,
    "reference": "$ref:@1",
    "nul": "a\x00b",
}


@tool(effects="read_only")
async def odd(kind: str) -> Any:
    """Returns something unusual."""
    return _ODD[kind]


@tool(effects="read_only")
def odd_in_thread(kind: str) -> Any:
    """Returns something unusual from a thread."""
    return _ODD[kind]


@tool(effects="read_only")
async def big(size: int, letter: str = "x") -> str:
    """Returns a long text."""
    return letter * size


class Place(BaseModel):
    """A place.

    Attributes:
        latitude: Degrees.
        tags: Words.
    """

    latitude: Annotated[float, Field(ge=-90, le=90)]
    tags: list[str] = []


@tool
async def strict(
    city: str,
    count: int,
    unit: Literal["celsius", "fahrenheit"] = "celsius",
    place: Place | None = None,
) -> dict[str, Any]:
    """Takes typed arguments."""
    inside = None if place is None else place.model_dump()
    return {"city": city, "count": count, "unit": unit, "place": inside}


@tool
async def nothing() -> str:
    """Takes no arguments."""
    return "done"


@tool
async def see(context: ToolContext) -> dict[str, Any]:
    """Returns what it knows about its call."""
    return {"id": context.call_id, "context": dict(context.context), "attempt": context.attempt}


@tool(effects="read_only")
async def report(steps: int, context: ToolContext) -> str:
    """Reports progress and output."""
    for step in range(steps):
        context.progress(step, steps, f"step {step}")
        context.output(f"part {step};")
        await asyncio.sleep(0)
    return "reported"


@tool(effects="read_only")
def report_in_thread(steps: int, context: ToolContext) -> str:
    """Reports progress and output from a thread."""
    for step in range(steps):
        context.progress(step, steps, f"step {step}")
        context.output(f"part {step};")
    return "reported"


@tool(effects="read_only")
async def show(size: int, context: ToolContext) -> str:
    """Shows a long text before its end."""
    context.output("x" * size)
    context.progress(1, 1, "y" * size)
    return "shown"


@tool(effects="read_only")
async def pieces(count: int, gate: str = "") -> AsyncIterator[str]:
    """Yields text piece by piece, and waits at the gate in the middle."""
    for index in range(count):
        if gate and index == count // 2:
            await _stand(gate, "pieces")
        yield f"{index};"


@tool(effects="read_only")
def pieces_in_thread(count: int) -> Iterator[int]:
    """Yields numbers from a thread."""
    yield from range(count)


_lock = threading.Lock()
_running = 0


@tool(max_concurrency=3, effects="read_only")
async def crowd() -> int:
    """Returns how many calls of it run at this moment."""
    global _running  # noqa: PLW0603  what is measured is process-wide
    with _lock:
        _running += 1
        now = _running
    try:
        await asyncio.sleep(0)
        return max(now, _running)
    finally:
        with _lock:
            _running -= 1


@tool(effects="read_only")
async def length(text: str) -> int:
    """Returns the length of a text."""
    return len(text)


@tool
async def fail_at_length(size: int) -> None:
    """Raises a ToolError with a long text."""
    raise ToolError("z" * size)


@tool
async def stubborn_for_long(gate: str, name: str) -> str:
    """Swallows every cancellation, for as long as it likes."""
    return await stubborn(gate, name)
