"""A chat in a terminal while it goes on."""

import re
import time

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from sidecall import is_ok
from sidecall.chat import (
    ApprovalDecided,
    ApprovalRequested,
    CallFinished,
    CallProgress,
    CallQueued,
    CallReady,
    CallStarted,
    ChatEvent,
    EarlyStartAbandoned,
    RefusalDelta,
    TextDelta,
    TurnFinished,
    TurnStarted,
)
from sidecall.v1.execution_pb2 import DECISION_APPROVE, ToolResult
from sidecall_server.cli.arguments import laid_out
from sidecall_server.cli.output import clip, printable
from sidecall_server.cli.results import outcome
from sidecall_server.cli.waterfall import draw

_HEAD_CELLS = 9
_BREAKS = re.compile(r"(\s+)")


class ChatView:
    """Prints the events of a chat as they come, each with the time since the question.

    Args:
        console: Where to print.
        waterfalls: Whether the waterfall of each turn's calls follows them.
    """

    def __init__(self, console: Console, *, waterfalls: bool) -> None:
        self._console = console
        self._waterfalls = waterfalls
        self._asked_at = time.monotonic()
        self._in_text = False
        self._word = ""
        self._column = 0
        self._queued: set[int] = set()
        self._results: dict[int, ToolResult] = {}

    def ask(self) -> None:
        """A question begins: times count from here."""
        self._asked_at = time.monotonic()

    def __call__(self, event: ChatEvent) -> None:
        """Prints an event; a hook for the chat loop."""
        match event:
            case TurnStarted():
                self._queued.clear()
                self._results.clear()
            case TextDelta() | RefusalDelta():
                self._text(event.text)
            case CallReady():
                call = event.call
                self._line("→", event.index, f"{call.name} {call.arguments}", "bold")
            case CallQueued():
                self._queue(event)
            case CallStarted():
                self._line("▸", event.index, "started", "yellow")
            case CallProgress():
                self._line("…", event.index, f"{event.progress:g} {event.message}", "dim")
            case CallFinished():
                self._finish(event)
            case EarlyStartAbandoned():
                self._line("↺", None, f"calls are sent again: {event.reason}", "yellow")
            case ApprovalRequested() | ApprovalDecided():
                self._approval(event)
            case TurnFinished():
                self._end_text()
                if self._waterfalls and self._results:
                    self._console.print()
                    draw(self._console, [self._results[key] for key in sorted(self._results)])
                    self._console.print()

    def _queue(self, event: CallQueued) -> None:
        if event.index in self._queued:
            return
        self._queued.add(event.index)
        if event.waiting_for:
            others = " and ".join(f"@{index + 1}" for index in event.waiting_for)
            self._line("◦", event.index, f"waits for {others}", "cyan")
        elif event.cause == "BLOCK_CAUSE_SEAL":
            self._line("◦", event.index, "has effects, so it waits for the model's end", "cyan")

    def _approval(self, event: ApprovalRequested | ApprovalDecided) -> None:
        if isinstance(event, ApprovalRequested):
            self._line("?", event.index, f"{event.tool_name} needs approval to run with", "cyan")
            # Whole, since this is what somebody decides on.
            for line in laid_out(event.arguments, self._console.width - _HEAD_CELLS):
                self._console.print(Text(" " * _HEAD_CELLS + line), soft_wrap=True)
            return
        approval = event.approval
        if approval is None:
            self._line("·", event.index, "left open", "cyan")
        elif approval.decision == DECISION_APPROVE:
            edited = f"approved with {approval.arguments}" if approval.arguments else "approved"
            self._line("✓", event.index, edited, "green")
        else:
            comment = f": {approval.comment}" if approval.comment else ""
            self._line("✗", event.index, f"rejected{comment}", "red")

    def _finish(self, event: CallFinished) -> None:
        result = event.result
        self._results[event.index] = result
        if is_ok(result):
            self._line("✓", event.index, result.content, "green")
        else:
            self._line("✗", event.index, f"{outcome(result)}: {result.content}", "red")

    def _text(self, text: str) -> None:
        if not self._in_text:
            self._console.print(self._elapsed(), end="  ")
            self._column = _HEAD_CELLS
        self._in_text = True
        *whole, self._word = _BREAKS.split(self._word + text)
        for part in whole:
            self._write(part)

    def _write(self, part: str) -> None:
        """Writes a word, or what stands between two; lines are folded between words."""
        shown = "" if part.isspace() and "\n" in part else printable(part)
        fits = self._column + cell_len(shown) <= self._console.width
        if "\n" in part or not fits:
            self._console.print()
            self._console.print(" " * _HEAD_CELLS, end="")
            self._column = _HEAD_CELLS
            shown = shown.lstrip()
        self._console.print(Text(shown), end="", soft_wrap=True)
        self._column += cell_len(shown)

    def _end_text(self) -> None:
        if self._in_text:
            self._write(self._word)
            self._console.print()
        self._word = ""
        self._in_text = False

    def _line(self, mark: str, index: int | None, text: str, style: str) -> None:
        self._end_text()
        where = "" if index is None else f"@{index + 1} "
        room = self._console.width - _HEAD_CELLS - 2 - len(where)
        head = Text.assemble(self._elapsed(), "  ", (f"{mark} ", style), where)
        self._console.print(Text.assemble(head, (clip(text, room), style)), soft_wrap=True)

    def _elapsed(self) -> Text:
        return Text(f"{time.monotonic() - self._asked_at:6.2f}s", style="dim")
