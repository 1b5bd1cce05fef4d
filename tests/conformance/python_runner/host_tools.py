"""The tools that every language's host offers."""

import asyncio
from typing import Any

from sidecall import Image, Link, Tool, ToolContext, ToolError, tool

LOG: list[str] = []


@tool(description="Conformance tool host_echo.", effects="read_only")
async def host_echo(text: str) -> str:
    return text


@tool(description="Conformance tool host_add.", effects="read_only")
def host_add(a: int, b: int) -> dict[str, int]:
    return {"sum": a + b}


@tool(description="Conformance tool host_nothing.", effects="idempotent")
async def host_nothing() -> None:
    return None


@tool(description="Conformance tool host_parts.", effects="read_only")
async def host_parts() -> list[Any]:
    image = Image(b"\x89PNG\r\n\x1a\n", name="dot.png")
    return ["two parts", image, Link("https://example.com/a", media_type="text/html", name="a")]


@tool(description="Conformance tool host_progress.", effects="read_only")
async def host_progress(steps: int, context: ToolContext) -> str:
    for step in range(1, steps + 1):
        context.progress(step, steps, f"step {step}")
        context.output(f"part {step};")
    return "done"


@tool(description="Conformance tool host_wait.")
async def host_wait(name: str, context: ToolContext) -> str:
    context.progress(1, None, "waiting")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        LOG.append(f"host_wait {name} cancelled")
        raise
    return "never"


@tool(description="Conformance tool host_fail.")
async def host_fail(code: str, message: str, retry_after_ms: int = 0) -> str:
    raise ToolError(message, code=code, retry_after=retry_after_ms / 1000 or None)


@tool(description="Conformance tool host_crash.")
async def host_crash(text: str) -> str:
    raise RuntimeError(text)


@tool(description="Conformance tool host_large.", effects="read_only")
async def host_large(size: int) -> str:
    return "x" * size


@tool(description="Conformance tool host_context.", effects="read_only")
async def host_context(context: ToolContext) -> dict[str, Any]:
    return {
        "context": dict(context.context),
        "call_id": context.call_id,
        "attempt": context.attempt,
        "idempotency_key": context.idempotency_key,
        "traceparent": context.traceparent,
        "has_deadline": context.remaining() is not None,
    }


TOOLS: list[Tool[..., Any]] = [
    host_echo,
    host_add,
    host_nothing,
    host_parts,
    host_progress,
    host_wait,
    host_fail,
    host_crash,
    host_large,
    host_context,
]
