"""Tools that return what they know about their call, wherever they run."""

from typing import Any

from sidecall import ToolContext, tool


def known(context: ToolContext) -> dict[str, Any]:
    """What a context holds about a call."""
    remaining = context.remaining()
    return {
        "call_id": context.call_id,
        "attempt": context.attempt,
        "idempotency_key": context.idempotency_key,
        "context": dict(context.context),
        "traceparent": context.traceparent,
        "tracestate": context.tracestate,
        "remaining": remaining is not None and 10 < remaining <= 20,
        "cancelled": context.cancelled,
    }


@tool(timeout="20s")
async def tell_coroutine(context: ToolContext) -> dict[str, Any]:
    """Tells it on the event loop."""
    return known(context)


@tool(timeout="20s")
def tell_thread(context: ToolContext) -> dict[str, Any]:
    """Tells it in a thread."""
    return known(context)


@tool(timeout="20s", isolation="process")
def tell_process(context: ToolContext) -> dict[str, Any]:
    """Tells it in a process."""
    return known(context)
