"""Tools that write down when each call ran, and what it was given."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sidecall import Tool, ToolError

LIMITS = {"text": 3, "json": 4, "write": 2, "fails": 2, "thread": 2, "hangs": 2, "gated": 2}
"""max_concurrency of each tool."""

READ_ONLY = {"text", "json", "fails"}
"""Tools that may start before the seal."""

HANGS_FOR_S = 0.02
"""Attempt timeout of the tool that never returns."""

_SCHEMA = {
    "type": "object",
    "properties": {
        "key": {"type": "string"},
        "delay_ms": {"type": "integer", "minimum": 0, "maximum": 50, "default": 0},
        "values": {"type": "array", "default": []},
    },
    "required": ["key"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Mark:
    """A start or an end of a call.

    Attributes:
        what: Which of the two.
        tool: Name of the tool.
        key: Argument `key` of the call.
        time_ns: When, on the clock of the machine.
    """

    what: Literal["start", "end"]
    tool: str
    key: str
    time_ns: int


class Recorder:
    """What happened, in order. Threads may write to it.

    Attributes:
        marks: Starts and ends.
        values: Argument `values` of each call by its key.
        gate: The tool `gated` waits until it is set.
    """

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self.values: dict[str, list[Any]] = {}
        self.gate = asyncio.Event()

    def clear(self) -> None:
        """Forgets all."""
        self.marks.clear()
        self.values.clear()
        self.gate.clear()

    @contextlib.contextmanager
    def run(self, tool: str, key: str, values: list[Any]) -> Iterator[None]:
        """Writes down that a call runs inside the block."""
        self.values[key] = values
        self.marks.append(Mark("start", tool, key, time.monotonic_ns()))
        try:
            yield
        finally:
            self.marks.append(Mark("end", tool, key, time.monotonic_ns()))

    def starts(self) -> Counter[str]:
        """How often each key was started."""
        return Counter(mark.key for mark in self.marks if mark.what == "start")

    def position(self, what: str, key: str) -> int:
        """Place of a call's start or end among all marks; raises StopIteration without one."""
        return next(i for i, m in enumerate(self.marks) if (m.what, m.key) == (what, key))


def text_result(key: str) -> str:
    """What `text`, `write` and `thread` return: data that looks like references."""
    return f"$ref:@1 ${{ref:@2}} $$ref:{key}"


def recorded_tools(recorder: Recorder) -> list[Tool[..., Any]]:
    """The tools of `LIMITS`."""

    async def run(tool: str, key: str, delay_ms: int, values: list[Any]) -> None:
        with recorder.run(tool, key, values):
            # Some calls end without ever suspending.
            if delay_ms:
                await asyncio.sleep(delay_ms / 1_000)

    async def text(key: str, delay_ms: int, values: list[Any]) -> str:
        await run("text", key, delay_ms, values)
        return text_result(key)

    async def write(key: str, delay_ms: int, values: list[Any]) -> str:
        await run("write", key, delay_ms, values)
        return text_result(key)

    async def json(key: str, delay_ms: int, values: list[Any]) -> dict[str, str]:
        await run("json", key, delay_ms, values)
        return {"key": key}

    async def fails(key: str, delay_ms: int, values: list[Any]) -> str:
        await run("fails", key, delay_ms, values)
        raise ToolError(f"{key} failed")

    async def hangs(key: str, delay_ms: int, values: list[Any]) -> str:
        del delay_ms
        with recorder.run("hangs", key, values):
            await asyncio.Event().wait()
        return "cannot be reached"

    async def gated(key: str, delay_ms: int, values: list[Any]) -> str:
        with recorder.run("gated", key, values):
            await recorder.gate.wait()
            await asyncio.sleep(delay_ms / 1_000)
        return text_result(key)

    def thread(key: str, delay_ms: int, values: list[Any]) -> str:
        with recorder.run("thread", key, values):
            time.sleep(delay_ms / 1_000)
        return text_result(key)

    return [
        Tool(
            name=function.__name__,
            description="Writes down that it ran.",
            input_schema=_SCHEMA,
            call=function,
            max_concurrency=LIMITS[function.__name__],
            effects="read_only" if function.__name__ in READ_ONLY else "non_idempotent",
            timeout=HANGS_FOR_S if function is hangs else None,
        )
        for function in (text, json, write, fails, thread, hangs, gated)
    ]
