"""What a tool's function gave back, as one value: that of a generator is what it yielded."""

import contextlib
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from sidecall._errors import ResultError
from sidecall._values import join_yielded

Show = Callable[[str], None]
"""Shows part of the output."""


async def collect(items: AsyncGenerator[Any, None], show: Show) -> Any:
    """The result of an async generator tool: see `join_yielded`."""
    yielded: list[Any] = []
    async with contextlib.aclosing(items):
        async for item in items:
            yielded.append(item)
            if isinstance(item, str):
                show(item)
    return join_yielded(yielded)


def settle(value: Any, show: Show) -> Any:
    """The result of a sync function; what a generator yields is collected.

    Raises:
        ResultError: The function returned a coroutine, which nothing awaits.
    """
    if isinstance(value, Generator):
        return _collect_now(value, show)
    if inspect.iscoroutine(value):
        value.close()
        raise ResultError("is a coroutine; the function must be declared with `async def`")
    return value


def _collect_now(items: Generator[Any, Any, Any], show: Show) -> Any:
    yielded: list[Any] = []
    with contextlib.closing(items):
        for item in items:
            yielded.append(item)
            if isinstance(item, str):
                show(item)
    return join_yielded(yielded)
