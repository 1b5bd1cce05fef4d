"""Runs tools and batches in tests, without a network.

`run_tool` calls one tool as the service would and shows what it did. `ToolBox` runs whole
batches on the service's own engine, with its references, limits and timeouts; it needs
`sidecall[server]`.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, Unpack, cast

from sidecall._context import CallFacts, ToolContext
from sidecall._durations import Timeout, optional_duration_s, parse_duration
from sidecall._tool import Tool
from sidecall._values import render
from sidecall._yielded import collect, settle

if TYPE_CHECKING:
    from sidecall._batch_results import BatchResults
    from sidecall._requests import ExecuteOptions
    from sidecall._tool_calls import ToolCallLike
    from sidecall.v1 import ExecuteBatchRequest, ExecuteBatchResponse, ToolResult

    _Pair = tuple[str, Mapping[str, Any] | str]

__all__ = ["InProcessEngine", "ToolBox", "ToolRun", "run_batch", "run_tool"]

_ENGINE_GROUP = "sidecall.engine"


@dataclass(slots=True)
class ToolRun:
    """What one run of a tool did.

    Attributes:
        value: What the function returned; for a generator, what it yielded, joined.
        content: The text that the model would get.
        progress: The (done, total, message) reports.
        output: The parts of partial output.
    """

    value: Any = None
    content: str = ""
    progress: list[tuple[float, float | None, str]] = field(default_factory=list)
    output: list[str] = field(default_factory=list)


async def run_tool(
    tool: Tool[..., Any],
    arguments: Mapping[str, Any] | None = None,
    *,
    context: Mapping[str, str] | None = None,
    state: Any = None,
    caller: str = "",
    timeout: Timeout | None = None,
) -> ToolRun:
    """Runs one tool with JSON arguments.

    Arguments are checked against the function's types, strictly. Those of a tool with an
    explicit schema are passed as they are. A blocking function runs in a thread, as it
    does in the service. Isolation and limits are not applied.

    Args:
        tool: The tool.
        arguments: JSON values by name.
        context: Facts about the end user.
        state: What the lifespan would have yielded.
        caller: Who sent the call.
        timeout: Time after which the run is cancelled, in seconds or as text such as "5s";
            also what the tool sees as `context.remaining()`.

    Raises:
        ArgumentError: The arguments do not fit.
        ResultError: The result cannot be written as text.
        TimeoutError: The time was over. A thread goes on until its function returns.
        ValueError: The timeout is not positive and finite.
        Exception: Whatever the tool raises.
    """
    run = ToolRun()
    timeout_s = optional_duration_s(timeout)
    port = _RecordingPort(run, timeout_s)
    values = tool.parameters.check(dict(arguments or {}))
    if tool.context_parameter is not None:
        values[tool.context_parameter] = ToolContext(
            port, CallFacts(tool.name, caller=caller, context=dict(context or {})), state
        )
    try:
        async with asyncio.timeout(timeout_s):
            run.value = await _call(tool, values, port)
    finally:
        port.end()
    run.content, _ = render(run.value)
    return run


async def _call(tool: Tool[..., Any], values: dict[str, Any], port: "_RecordingPort") -> Any:
    function: Callable[..., Any] = tool.function
    if tool.kind == "coroutine":
        return await function(**values)
    if tool.kind == "generator":
        return await collect(function(**values), port.output)
    return await asyncio.to_thread(lambda: settle(function(**values), port.output))


class _RecordingPort:
    """The world of a tool that runs in a test."""

    def __init__(self, run: ToolRun, timeout_s: float | None) -> None:
        self._run = run
        self._deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._ended = False

    @property
    def cancelled(self) -> bool:
        return self._ended or self.remaining() == 0.0

    def remaining(self) -> float | None:
        return None if self._deadline_s is None else max(0.0, self._deadline_s - time.monotonic())

    def wait_cancelled(self, timeout_s: float | None) -> bool:
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.cancelled and (end_s is None or time.monotonic() < end_s):
            time.sleep(0.005)
        return self.cancelled

    def progress(self, done: float, total: float | None, message: str) -> None:
        self._run.progress.append((done, total, message))

    def output(self, text: str) -> None:
        self._run.output.append(text)

    def end(self) -> None:
        """Tells a thread that still runs that nobody waits for it."""
        self._ended = True


class InProcessEngine(Protocol):
    """The service's engine in this process."""

    async def execute_batch(self, request: "ExecuteBatchRequest") -> "ExecuteBatchResponse":
        """Executes a batch as the RPC of that name does.

        Raises:
            SidecallError: It was not accepted.
        """


class ToolBox:
    """Tools in an engine of their own, for a test.

    Example:
        ```python
        async with ToolBox([get_weather, get_time]) as box:
            result = await box.run("get_weather", {"location": "Oslo"})
            assert result.content == "3 °C"
        ```
    """

    def __init__(self, tools: Sequence[Tool[..., Any]]) -> None:
        """Takes the tools; their files' lifespans do not run."""
        self._tools = tuple(tools)
        self._stack = contextlib.AsyncExitStack()
        self._engine: InProcessEngine | None = None

    async def __aenter__(self) -> Self:
        self._engine = await self._stack.enter_async_context(_find_engine()(self._tools))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._engine = None
        await self._stack.aclose()

    async def run(
        self,
        name: str,
        arguments: Mapping[str, Any] | str = "",
        *,
        timeout: Timeout | None = None,
        **options: Unpack["ExecuteOptions"],
    ) -> "ToolResult":
        """Runs one call; `run_batch` for a batch of one.

        Args:
            name: Name of the tool.
            arguments: JSON values by name, or the JSON text as a model would write it.
            timeout: Time for the call, in seconds or as text such as "5s".
            options: See `ExecuteOptions`.
        """
        results = await self.run_batch([(name, arguments)], timeout=timeout, **options)
        return results[0]

    async def run_batch(
        self,
        calls: "Sequence[ToolCallLike | _Pair]",
        *,
        timeout: Timeout | None = None,
        **options: Unpack["ExecuteOptions"],
    ) -> "BatchResults":
        """Runs a batch.

        With `request_id` the box remembers it as the service does. A call that needs
        approval runs when the same calls are given again with `approvals` and the
        `request_id` of the results.

        Args:
            calls: The calls: what a client takes, or pairs of name and arguments. A pair
                gets its position, from "1", as its id.
            timeout: Time for the whole batch, in seconds or as text such as "5s".
            options: See `ExecuteOptions`.

        Returns:
            One result per call, in call order.

        Raises:
            RuntimeError: The box is not open.
            SidecallError: The batch was not accepted.
            TypeError: Something is not a tool call.
            ValueError: An option or the timeout has no such value.
        """
        # Here, since run_tool needs no protobuf.
        from sidecall._requests import batch_request, batch_results  # noqa: PLC0415
        from sidecall._tool_calls import to_duration  # noqa: PLC0415

        if self._engine is None:
            raise RuntimeError("the ToolBox is not open; use `async with ToolBox(...) as box`")
        request = batch_request(
            (_call_like(call, number) for number, call in enumerate(calls, 1)), options
        )
        if timeout is not None:
            request.timeout.CopyFrom(to_duration(parse_duration(timeout)))
        return batch_results(request, await self._engine.execute_batch(request))


async def run_batch(
    tools: Sequence[Tool[..., Any]],
    calls: "Sequence[ToolCallLike | _Pair]",
    *,
    timeout: Timeout | None = None,
    **options: Unpack["ExecuteOptions"],
) -> "BatchResults":
    """Runs one batch on an engine of its own; see `ToolBox.run_batch`."""
    async with ToolBox(tools) as box:
        return await box.run_batch(calls, timeout=timeout, **options)


def _call_like(call: "ToolCallLike | _Pair", number: int) -> "ToolCallLike":
    if isinstance(call, tuple):
        name, arguments = call
        return {"id": str(number), "name": name, "arguments": arguments}
    return call


_OpenEngine = Callable[[Sequence[Tool[..., Any]]], AbstractAsyncContextManager[InProcessEngine]]


def _find_engine() -> _OpenEngine:
    for point in entry_points(group=_ENGINE_GROUP):
        return cast("_OpenEngine", point.load())
    raise RuntimeError(
        'no engine is installed; batches in tests need the service: pip install "sidecall[server]"'
    )
