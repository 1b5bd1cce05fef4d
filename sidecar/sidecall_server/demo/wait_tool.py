"""A tool that only waits: what is measured with it is what surrounds it."""

import asyncio

from sidecall import tool


def answer(number: int) -> str:
    """What `wait` returns for a number."""
    return f"waited as number {number}"


@tool(effects="read_only")
async def wait(seconds: float, number: int) -> str:
    """Waits, then says its number.

    Args:
        seconds: How long to wait.
        number: The number to say.
    """
    await asyncio.sleep(seconds)
    return answer(number)
