"""Tools whose identical calls share runs, and tools that a person has to approve."""

import asyncio
import itertools
from typing import Any

from pydantic import BaseModel, field_validator

from sidecall import File, ToolContext, tool

_numbers = itertools.count(1)


async def _stand(gate: str, name: str) -> str:
    """Says its name at the gate and waits for the answer; hangs up when cancelled."""
    reader, writer = await asyncio.open_unix_connection(gate)
    try:
        writer.write(name.encode() + b"\n")
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()


@tool(effects="read_only", coalesce=True, timeout="20s")
async def hold_shared(gate: str, name: str, unit: str = "C") -> str:
    """Waits at the gate, once for all that ask for the same."""
    return await _stand(gate, name)


@tool(effects="read_only", coalesce=True, isolation="process")
def count_in_process(name: str) -> int:
    """Returns how many calls ran in its process."""
    return next(_numbers)


@tool(effects="read_only", cache_ttl="1h")
async def count(name: str) -> int:
    """Returns how many calls ran so far."""
    return next(_numbers)


@tool(effects="read_only", cache_ttl="1h", share="all", context_keys=["tenant"])
async def count_for_all(name: str) -> list[Any]:
    """Returns how many calls ran so far, and a file."""
    return [next(_numbers), File(b"data", media_type="text/plain", name="a.txt")]


class Payment(BaseModel):
    """A payment.

    Attributes:
        cents: How much.
    """

    cents: int

    @field_validator("cents")
    @classmethod
    def _not_too_much(cls, cents: int) -> int:
        if cents > 1_000:
            raise ValueError("at most 1000")
        return cents


@tool(approval="required")
async def pay(to: str, payment: Payment, currency: str = "EUR") -> str:
    """Pays, once a person has agreed."""
    return f"payment {next(_numbers)}: {payment.cents} {currency} to {to}"


@tool(approval="required")
async def hold_approved(gate: str, name: str) -> str:
    """Waits at the gate, once a person has agreed."""
    return await _stand(gate, name)


@tool
async def note(text: str, context: ToolContext) -> str:
    """Writes something down."""
    return f"{text} #{next(_numbers)}"
