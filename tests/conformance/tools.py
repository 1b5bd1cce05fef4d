"""The tools that the suite's sidecar serves. What they do is written to a log, line by line."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sidecall import File, Image, Link, ToolContext, ToolError, tool

_LOG = Path(os.environ["CONFORMANCE_LOG"])
_PNG = b"\x89PNG\r\n\x1a\n"
_POLL_S = 0.005


def _log(tool_name: str, phase: str, argument: str = "") -> None:
    line = json.dumps({"tool": tool_name, "phase": phase, "argument": argument})
    with _LOG.open("a") as log:
        log.write(f"{line}\n")


async def _until_released(tool_name: str, name: str) -> str:
    """Runs until the harness makes a file of that name, or until it is cancelled."""
    try:
        while not _LOG.with_name(f"release-{name}").exists():  # noqa: ASYNC110  another process makes it
            await asyncio.sleep(_POLL_S)
    except asyncio.CancelledError:
        _log(tool_name, "cancelled", name)
        raise
    return f"released {name}"


@tool(effects="read_only")
async def get_weather(city: str) -> str:
    """Returns the weather of a city."""
    _log("get_weather", "started", city)
    return f"sunny in {city}"


@tool(effects="read_only")
async def get_city(name: str) -> dict[str, Any]:
    """Returns facts about a city."""
    _log("get_city", "started", name)
    return {"name": name, "degrees": 21, "tags": ["old", "a/b"], "mayor": None}


@tool(effects="read_only")
async def add(a: int, b: int = 1) -> int:
    """Adds two numbers."""
    _log("add", "started", f"{a}+{b}")
    return a + b


@tool(effects="read_only")
async def echo(text: str) -> str:
    """Returns the text."""
    _log("echo", "started", text)
    return text


@tool(effects="read_only")
async def ping() -> str:
    """Answers."""
    _log("ping", "started")
    return "pong"


@tool
async def note(text: str) -> str:
    """Writes a note."""
    _log("note", "started", text)
    return f"noted {text}"


@tool(effects="read_only")
async def look_long(name: str) -> str:
    """Looks until it is told to stop."""
    _log("look_long", "started", name)
    return await _until_released("look_long", name)


@tool
async def write_long(name: str) -> str:
    """Writes until it is told to stop."""
    _log("write_long", "started", name)
    return await _until_released("write_long", name)


@tool(effects="read_only")
async def fail(message: str, code: str = "FAILED_PRECONDITION") -> str:
    """Fails with a message for the model."""
    _log("fail", "started", message)
    raise ToolError(message, code=code)


@tool(effects="read_only")
async def crash(secret: str) -> str:
    """Fails with an error that is not meant for the model."""
    _log("crash", "started", secret)
    raise ValueError(secret)


@tool(approval="required")
async def send_money(to: str, amount: int, currency: str = "EUR") -> str:
    """Sends money."""
    _log("send_money", "started", f"{amount} {currency} to {to}")
    return f"sent {amount} {currency} to {to}"


@tool(name="clock.now", effects="read_only")
async def clock(zone: str = "UTC") -> str:
    """Returns the time."""
    _log("clock.now", "started", zone)
    return f"noon in {zone}"


@tool(name="clock/now", effects="read_only")
async def other_clock(zone: str = "UTC") -> str:
    """Returns the time of another clock."""
    _log("clock/now", "started", zone)
    return f"midnight in {zone}"


@tool(name="café.öffnen_" + "x" * 70, effects="read_only")
async def open_cafe() -> str:
    """Has a name that is too long, in letters that no provider takes."""
    _log("café", "started")
    return "open"


@tool(effects="read_only")
async def draw(size: int = 8) -> list[Any]:
    """Draws a picture."""
    _log("draw", "started", str(size))
    image = Image(_PNG + bytes(size - len(_PNG)), name="dot.png")
    return ["A dot:", image, {"pixels": 1}, Link("https://example.com/dot", name="source")]


@tool(effects="read_only")
async def get_report() -> File:
    """Returns a document."""
    _log("get_report", "started")
    return File(b"%PDF-1.7 report", name="report.pdf")


@tool(effects="read_only")
async def get_table() -> File:
    """Returns a table."""
    _log("get_table", "started")
    return File(b"a,b\n1,2\n", media_type="text/csv", name="table.csv")


@tool(effects="read_only", max_result_bytes=256)
async def read_long(size: int) -> str:
    """Returns a text that may be too long."""
    _log("read_long", "started", str(size))
    return "0123456789" * (size // 10)


@tool(effects="read_only")
async def fill(size: int) -> str:
    """Returns a text of so many characters."""
    _log("fill", "started", str(size))
    return "x" * size


@tool(effects="read_only")
async def count_up(steps: int, context: ToolContext) -> AsyncIterator[str]:
    """Counts, and shows how far it is."""
    _log("count_up", "started", str(steps))
    for step in range(1, steps + 1):
        context.progress(step, steps, f"step {step}")
        yield f"{step};"


@tool(effects="read_only")
async def who_am_i(context: ToolContext) -> dict[str, Any]:
    """Tells what the application says about its user."""
    _log("who_am_i", "started")
    remaining_s = context.remaining()
    bounded = remaining_s is not None and remaining_s < 50
    return {
        "context": dict(sorted(context.context.items())),
        "call_id": context.call_id,
        "bounded": bounded,
    }
