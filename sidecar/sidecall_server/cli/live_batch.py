"""A batch in a terminal while it runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sidecall import AsyncClient, BatchResults, ToolCall, ToolResult, is_ok
from sidecall._requests import ExecuteOptions
from sidecall.v1.execution_pb2 import BlockCause
from sidecall.v1.tool_service_pb2 import BatchEvent, CallProgress, CallQueued
from sidecall_server.cli.causes import CAUSES, cause_name
from sidecall_server.cli.output import clip, plain_table
from sidecall_server.cli.results import state_in_words, waits_for_approval

_MAX_ROWS = 30
_REDRAWS_PER_S = 12.0


@dataclass(slots=True)
class CallView:
    """What is known of one call.

    Attributes:
        name: Its tool.
        state: What it does at present.
        style: Colour of the state.
        started_at: When it was started, on `clock`; None before.
        took_s: Seconds that it ran; None before the end.
        note: Progress, output or result in a line.
    """

    name: str
    state: str = "sent"
    style: str = "bright_black"
    started_at: float | None = None
    took_s: float | None = None
    note: str = ""


@dataclass(slots=True)
class BatchView:
    """The state of a batch, made of its events.

    Attributes:
        calls: The calls in order.
        clock: Tells the time in seconds.
        results: What is final, by the index of its call.
    """

    calls: list[CallView]
    clock: Callable[[], float] = field(default=time.monotonic)
    results: dict[int, ToolResult] = field(default_factory=dict)

    def take(self, event: BatchEvent) -> None:
        """Takes note of an event; unknown ones are ignored."""
        match event.WhichOneof("event"):
            case "queued":
                queued = event.queued
                view = self.calls[queued.index]
                view.state, view.style = _waiting(queued), "cyan"
            case "started":
                view = self.calls[event.started.index]
                attempt = event.started.attempt
                view.state = "running" if attempt == 1 else f"running, attempt {attempt}"
                view.style, view.started_at = "yellow", self.clock()
            case "progress":
                self.calls[event.progress.index].note = _progress(event.progress)
            case "partial_output":
                view = self.calls[event.partial_output.index]
                view.note = event.partial_output.text.rstrip().rpartition("\n")[2]
            case "result":
                self.results[event.result.index] = event.result.result
                self._finish(self.calls[event.result.index], event.result.result)

    def _finish(self, view: CallView, result: ToolResult) -> None:
        view.state, view.style = state_in_words(result), "green" if is_ok(result) else "red"
        if waits_for_approval(result):
            view.style = "cyan"
        elif result.replayed:
            view.state += ", kept"
        view.note = result.content
        timing = result.timing
        if timing.HasField("started_offset_ns"):
            view.took_s = (timing.finished_offset_ns - timing.started_offset_ns) / 1e9

    def elapsed_s(self, view: CallView) -> float | None:
        """Seconds that a call has run; None where it was not started."""
        if view.took_s is not None or view.started_at is None:
            return view.took_s
        return self.clock() - view.started_at

    def __rich__(self) -> Group:
        """Draws the calls; of many, those that are under way."""
        done = len(self.results)
        shown = [*enumerate(self.calls, 1)]
        if len(shown) > _MAX_ROWS:
            busy = [item for item in shown if item[1].style == "yellow"]
            shown = [*busy, *(item for item in shown if item not in busy)][:_MAX_ROWS]
        return Group(self._table(sorted(shown, key=_position)), f"{done} of {len(self.calls)} done")

    def _table(self, shown: Sequence[tuple[int, CallView]]) -> Table:
        rows = [
            (
                f"@{position}",
                clip(view.name, 24),
                Text(view.state, style=view.style),
                "" if (elapsed := self.elapsed_s(view)) is None else f"{elapsed:.1f}s",
                clip(view.note, 40),
            )
            for position, view in shown
        ]
        return plain_table(("", "call", "state", "ran", ""), rows)


def _waiting(queued: CallQueued) -> str:
    others = ", ".join(f"@{index + 1}" for index in queued.waiting_for)
    if others and queued.cause == BlockCause.BLOCK_CAUSE_REFERENCE:
        return f"waits for {others}"
    cause = CAUSES.get(cause_name(queued.cause) or "")
    return f"{cause.waiting if cause else 'waits'} {others}".rstrip()


def _position(item: tuple[int, CallView]) -> int:
    return item[0]


def _progress(report: CallProgress) -> str:
    share = f"{report.progress:g}"
    if report.HasField("total"):
        share += f"/{report.total:g}"
    return f"{share} {report.message}".rstrip()


@dataclass(frozen=True, slots=True)
class Request:
    """A batch to run.

    Attributes:
        calls: The calls in order.
        timeout_s: Seconds for all of them; None for no bound.
        options: What else is said about it.
    """

    calls: Sequence[ToolCall]
    timeout_s: float | None
    options: ExecuteOptions


async def run_live(
    client: AsyncClient, request: Request, view: BatchView, console: Console
) -> BatchResults:
    """Runs a batch over StreamBatch and shows it while it runs.

    Raises:
        SidecallError: The RPC failed.
    """
    with Live(view, console=console, refresh_per_second=_REDRAWS_PER_S, transient=True):
        async with client.stream_batch(timeout=request.timeout_s, **request.options) as stream:
            for index, call in enumerate(request.calls):
                await stream.send(index, call)
            await stream.seal()
            async for event in stream:
                view.take(event)
            return await stream.results()
