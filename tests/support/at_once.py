"""Stands in for a thread."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def at_once(function: Callable[[], T], /) -> T:
    """Calls a function here and now."""
    return function()
