"""What a conversation needs from outside."""

from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from sidecall._batch_results import BatchResults
from sidecall._requests import ExecuteOptions
from sidecall.v1.execution_pb2 import ToolCall
from sidecall.v1.tool_pb2 import Tool


class Services(Protocol):
    """The sidecar, the model, and a way to do several things at once."""

    async def list_tools(self) -> list[Tool]:
        """Returns the tools of the sidecar."""
        ...

    async def execute(
        self, calls: Sequence[ToolCall], options: ExecuteOptions, timeout_s: float | None
    ) -> BatchResults:
        """Runs one turn's calls.

        Args:
            calls: The calls.
            options: What is said about this batch, beside what holds for all of them.
            timeout_s: Seconds for the batch; None for no bound.

        Raises:
            SidecallError: The RPC failed.
        """
        ...

    async def create(self, request: dict[str, Any]) -> Any:
        """Asks the model; a streamed answer is an async iterable with `close()`."""
        ...

    async def wait_for_all(self, waiting: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Runs coroutines to their ends, concurrently where that is possible."""
        ...
