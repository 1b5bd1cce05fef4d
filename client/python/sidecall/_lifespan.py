"""Resources that the tools of one file share: opened before they serve, closed after."""

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from sidecall._errors import ToolDefinitionError

LifespanFunction = Callable[
    [],
    AsyncIterator[Any]
    | AsyncGenerator[Any, None]
    | Iterator[Any]
    | Generator[Any, None, None]
    | AbstractAsyncContextManager[Any]
    | AbstractContextManager[Any],
]


class Lifespan:
    """The start-up and shutdown of what the tools of one file share.

    Attributes:
        function: The function that was decorated.
    """

    __slots__ = ("function",)

    def __init__(self, function: LifespanFunction) -> None:
        self.function = function

    def __repr__(self) -> str:
        return f"Lifespan({getattr(self.function, '__qualname__', self.function)!r})"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Any]:
        """Starts up, gives what the function yields, and shuts down at the end."""
        function: Any = self.function
        if inspect.isasyncgenfunction(function):
            function = contextlib.asynccontextmanager(function)
        elif inspect.isgeneratorfunction(function):
            function = contextlib.contextmanager(function)
        manager = function()
        # Whatever ends the tools, the shutdown runs as after a return: not every function
        # has its yield in a try statement.
        if hasattr(manager, "__aenter__"):
            state = await manager.__aenter__()
            try:
                yield state
            finally:
                await manager.__aexit__(None, None, None)
        elif hasattr(manager, "__enter__"):
            # Blocking start-up must not hold the event loop.
            state = await _in_thread(manager.__enter__)
            try:
                yield state
            finally:
                await _in_thread(manager.__exit__, None, None, None)
        else:
            raise ToolDefinitionError(f"{self!r} returned neither a context manager nor yields")


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """As `asyncio.to_thread`, in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    run = functools.partial(contextvars.copy_context().run, function, *arguments)

    def settle(result: Any, error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result((result, error))

    def work() -> None:
        result, error = None, None
        try:
            result = run()
        except BaseException as caught:
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop has closed
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="sidecall-lifespan", daemon=True).start()
    result, error = await ended
    if error is not None:
        raise error
    return result


def lifespan(function: LifespanFunction) -> Lifespan:
    """Marks the function that opens and closes what the tools of its file share.

    It yields once, as for `contextlib.asynccontextmanager` (or `contextmanager`): before
    the yield it starts up, after it it shuts down. What it yields is `ToolContext.state`
    in every tool of the file. Each worker process runs it once for itself.

    Example:
        ```python
        @lifespan
        async def database():
            async with connect("...") as pool:
                yield pool

        @tool
        async def find_user(name: str, context: ToolContext) -> dict:
            return await context.state.fetch(name)
        ```
    """
    if not callable(function):
        raise ToolDefinitionError("@lifespan belongs on a function that yields once")
    return Lifespan(function)
