"""Tools with rates, lanes, retries and breakers, for tests that serve them."""

import asyncio
from collections import Counter

from sidecall import ToolContext, ToolError, tool

_attempts: Counter[str] = Counter()


async def _stand(gate: str, name: str) -> str:
    """Says its name at the gate and waits for the answer."""
    reader, writer = await asyncio.open_unix_connection(gate)
    try:
        writer.write(name.encode() + b"\n")
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()


@tool(rate="1/h", effects="read_only")
async def hourly() -> str:
    """May start once in an hour."""
    return "done"


@tool(rate="1/h", queue_timeout="2h", effects="read_only")
async def hourly_patient() -> str:
    """May start once in an hour, and waits for it."""
    return "done"


@tool(rate="5/s", effects="read_only")
async def brisk() -> str:
    """May start five times in a second."""
    return "done"


@tool(lane="account:{account}")
async def book(gate: str, name: str, account: str) -> str:
    """Waits at the gate, one call at a time for each account."""
    return await _stand(gate, name)


@tool(lane={"key": "account:{account}", "on_failure": "skip_rest"})
async def book_all(account: str, amount: int) -> int:
    """Books an amount; a failed booking ends those after it."""
    if amount < 0:
        raise ToolError("The amount is negative.", code="OUT_OF_RANGE")
    return amount


@tool(effects="read_only")
async def account_of(name: str) -> str:
    """Returns the account of somebody."""
    return {"Ann": "1", "Bob": "2"}[name]


@tool(retry={"attempts": 3, "backoff": "1ms", "budget": 1.0}, effects="read_only")
async def flaky(key: str, failures: int, items: list[int], context: ToolContext) -> str:
    """Fails so many times for a key, and changes what it is given."""
    items.append(99)
    _attempts[key] += 1
    if _attempts[key] <= failures:
        raise ToolError("Not now.", code="UNAVAILABLE", retry_after=0.01)
    return f"{key}: attempt {context.attempt}, items {items}"


@tool(retry={"attempts": 2, "backoff": "1ms"}, timeout="100ms", effects="idempotent")
async def slow_once(context: ToolContext) -> str:
    """Hangs in its first attempt."""
    if context.attempt == 1:
        await asyncio.Event().wait()
    return "second"


@tool(retry=3)
async def flaky_write(key: str) -> str:
    """Fails, and may have had an effect."""
    _attempts[key] += 1
    raise ToolError(f"attempt {_attempts[key]}", code="UNAVAILABLE")


@tool(breaker={"min_attempts": 2, "failure_ratio": 1.0, "open": "1h"}, effects="read_only")
async def fragile(fails: bool = True) -> str:
    """Fails where it is told to, and is left alone for an hour then."""
    if fails:
        raise ToolError("It is broken.", code="INTERNAL")
    return "fine"


@tool(
    breaker={"min_attempts": 1, "failure_ratio": 1.0, "open": "1h"},
    max_concurrency=1,
    effects="read_only",
)
async def fragile_one(gate: str, name: str) -> str:
    """Waits at the gate, one call at a time, and fails."""
    raise ToolError(await _stand(gate, name), code="INTERNAL")
