"""The waterfall of a batch: what each call waited for and when it ran.

Pure: results go in, lines come out. `Waterfall` is drawn by rich with colours and block
characters; `plain` gives the same lines in ASCII for files and pipes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from sidecall import is_ok
from sidecall.v1.execution_pb2 import CallTiming, ExecutionState, ToolResult
from sidecall_server.cli.causes import CAUSES, timing_field
from sidecall_server.cli.output import clip
from sidecall_server.cli.results import state_in_words, waits_for_approval

DEFAULT_WIDTH = 80
_LEAST_FACTOR = 0.95
_MAX_ROWS = 60
_MIN_BAR = 12
_ROOMY_BAR = 36
_MAX_BAR = 100
_MIN_NAME = 6
_MAX_NAME = 24
_MAX_ID = 12
_MAX_OUTCOME = 20
_OUTCOME = "outcome"
_WAITS_STYLE = "cyan"


@dataclass(frozen=True, slots=True)
class Phase:
    """Something that a call spends time with.

    Attributes:
        meaning: For the legend.
        letter: Its mark in plain text.
        block: Its mark in a terminal.
        style: Its colour in a terminal.
    """

    meaning: str
    letter: str
    block: str
    style: str


RUNNING = Phase("running", "=", "█", "green")
FAILED = Phase("running, failed", "!", "█", "red")
UNCERTAIN = Phase("running, end unknown", "?", "█", "magenta")
QUEUED = Phase("queued", ".", "·", "bright_black")
KEPT = Phase("kept from an earlier send", "k", "▒", "green")
BLOCKED = {
    timing_field(name): Phase(cause.waiting, cause.letter, cause.block, cause.style)
    for name, cause in CAUSES.items()
}
"""Fields of the contract's CallTiming, in the order in which they come to pass."""


@dataclass(frozen=True, slots=True)
class Row:
    """One call.

    Attributes:
        position: Its place in the turn, counted from 1.
        name: Its tool.
        call_id: Its id.
        outcome: `ok`, or why not.
        style: Colour of the outcome.
        spans: What it did from when to when, in nanoseconds of the whole picture.
        run_ns: How long its last attempt ran; None where none was started.
        end_ns: When it was final.
    """

    position: int
    name: str
    call_id: str
    outcome: str
    style: str
    spans: tuple[tuple[Phase, int, int], ...]
    run_ns: int | None
    end_ns: int


class Waterfall:
    """A batch as a picture.

    Args:
        results: The results of the batch, in call order.
    """

    def __init__(self, results: Sequence[ToolResult]) -> None:
        received = [result.timing.received_unix_nanos for result in results]
        self._start_ns = min(received, default=0)
        self._rows = [
            _row(position, result, at_ns - self._start_ns)
            for position, (result, at_ns) in enumerate(zip(results, received, strict=True), 1)
        ]

    @cached_property
    def total_ns(self) -> int:
        """Time from the first receipt to the last result."""
        return max((row.end_ns for row in self._rows), default=0)

    @cached_property
    def sequential_ns(self) -> int:
        """Time that the calls ran, added up."""
        return sum(row.run_ns or 0 for row in self._rows)

    def plain(self, width: int = DEFAULT_WIDTH) -> str:
        """The picture in ASCII marks; names keep their characters."""
        return "\n".join(line.plain.rstrip() for line in self._lines(width, colour=False))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draws it with colours."""
        for line in self._lines(options.max_width, colour=True):
            line.no_wrap = True
            yield line

    def _lines(self, width: int, *, colour: bool) -> Iterator[Text]:
        if not self._rows:
            yield Text("no calls")
            return
        columns = _Columns.fit(self._rows, width)
        scale = _Scale(max(1, self.total_ns), columns.bar, colour)
        yield columns.head(scale)
        for row in self._shown():
            yield columns.line(row, scale) if row else columns.gap(len(self._rows) - _MAX_ROWS)
        yield Text(self._summary(), style="bold" if colour else "")
        yield from self._legend(width, scale)

    def _shown(self) -> Iterator[Row | None]:
        if len(self._rows) <= _MAX_ROWS:
            yield from self._rows
            return
        yield from self._rows[: _MAX_ROWS // 2]
        yield None
        yield from self._rows[-_MAX_ROWS // 2 :]

    def _summary(self) -> str:
        total, apart = f"total {seconds(self.total_ns)}", seconds(self.sequential_ns)
        if not self.total_ns or not self.sequential_ns:
            return total
        factor = self.sequential_ns / self.total_ns
        summary = f"{total}; one after the other {apart}"
        # Batches whose calls were run in an earlier send are no faster for that.
        return summary if factor < _LEAST_FACTOR else f"{summary}; {factor:.1f} times as fast"

    def _legend(self, width: int, scale: "_Scale") -> Iterator[Text]:
        present = {phase for row in self._shown() if row for phase in scale.phases(row)}
        line = Text()
        for phase in (RUNNING, FAILED, UNCERTAIN, *BLOCKED.values(), QUEUED, KEPT):
            if phase not in present:
                continue
            mark = (phase.block * 2, phase.style) if scale.colour else phase.letter * 2
            entry = Text.assemble(mark, f" {phase.meaning}")
            if line and line.cell_len + 3 + entry.cell_len > width:
                yield line
                line = Text()
            line = Text.assemble(line, "   " if line else "", entry)
        if line:
            yield line


def _row(position: int, result: ToolResult, received_ns: int) -> Row:
    timing = result.timing
    started = timing.started_offset_ns if timing.HasField("started_offset_ns") else None
    end = timing.finished_offset_ns
    waited = end if started is None else started
    attempts = [
        (attempt.started_offset_ns, attempt.finished_offset_ns)
        for attempt in result.failed_attempts
        if attempt.HasField("started_offset_ns")
    ]
    spans = list(_waits(timing, waited, attempts))
    if waits_for_approval(result):
        # It stood in no queue: it is not to run before it is sent again.
        spans = [span for span in spans if span[0] is not QUEUED]
    elif result.replayed and started is None:
        spans = [(KEPT, 0, end)]
    spans.extend((FAILED, begin, max(begin + 1, stop)) for begin, stop in attempts)
    phase = RUNNING
    if not is_ok(result):
        unknown = result.execution_state == ExecutionState.EXECUTION_STATE_UNKNOWN
        phase = UNCERTAIN if unknown else FAILED
    if started is not None:
        spans.append((phase, started, max(started + 1, end)))
    return Row(
        position=position,
        name=result.name,
        call_id=result.call_id,
        outcome=state_in_words(result),
        style=_WAITS_STYLE if waits_for_approval(result) else phase.style,
        spans=tuple((phase, received_ns + a, received_ns + b) for phase, a, b in spans),
        run_ns=None if started is None else end - started,
        end_ns=received_ns + end,
    )


def _waits(
    timing: CallTiming, until_ns: int, attempts: Sequence[tuple[int, int]]
) -> Iterator[tuple[Phase, int, int]]:
    """What the call waited for before and between its attempts.

    The contract gives sums, which are laid end to end.
    """
    left = [(phase, getattr(timing, field)) for field, phase in BLOCKED.items()]
    begins = [0, *(stop for _, stop in attempts)]
    stops = [*(begin for begin, _ in attempts), until_ns]
    for begin, stop in zip(begins, stops, strict=True):
        at = begin
        while left and at < stop:
            phase, time_ns = left.pop(0)
            end = min(stop, at + time_ns)
            if end > at:
                yield phase, at, end
            if at + time_ns > stop:
                left.insert(0, (phase, at + time_ns - stop))
            at = end
        if stop > at:
            yield QUEUED, at, stop


@dataclass(frozen=True, slots=True)
class _Scale:
    """From time to cells."""

    total_ns: int
    cells: int
    colour: bool

    def bar(self, row: Row) -> Text:
        text = Text()
        for phase, cells in groupby(self.phases(row)):
            count = sum(1 for _ in cells)
            if phase is None:
                text.append(" " * count)
            elif self.colour:
                text.append(phase.block * count, phase.style)
            else:
                text.append(phase.letter * count)
        return text

    def phases(self, row: Row) -> list[Phase | None]:
        """What stands in each cell."""
        phases: list[Phase | None] = [None] * self.cells
        for phase, begin, end in row.spans:
            first = min(self.cells - 1, round(begin * self.cells / self.total_ns))
            # What ran shows, however short it was; a wait may vanish.
            least = 1 if phase in (RUNNING, FAILED, UNCERTAIN, KEPT) else 0
            last = max(first + least, round(end * self.cells / self.total_ns))
            phases[first:last] = [phase] * (min(last, self.cells) - first)
        return phases


@dataclass(frozen=True, slots=True)
class _Columns:
    """Widths in cells; 0 leaves a column out."""

    position: int
    name: int
    call_id: int
    bar: int
    outcome: int

    @classmethod
    def fit(cls, rows: Sequence[Row], width: int) -> "_Columns":
        """Shares the width out: the bar gets what the texts leave."""
        position = len(str(rows[-1].position)) + 1
        name = max(_MIN_NAME, *(cell_len(clip(row.name, _MAX_NAME)) for row in rows))
        call_id = max(len("id"), *(cell_len(clip(row.call_id, _MAX_ID)) for row in rows))
        ends = min(_MAX_OUTCOME, max(len(_OUTCOME), *(cell_len(row.outcome) for row in rows)))
        # Spaces between the columns, the bar's edges, and two times of eight cells.
        fixed = position + ends + 23
        call_id = call_id if any(row.call_id for row in rows) else 0
        if width - fixed - name - call_id - 1 < _ROOMY_BAR:
            call_id = 0
        name = min(name, max(_MIN_NAME, width - fixed - _MIN_BAR))
        rest = width - fixed - name - (call_id + 1 if call_id else 0)
        return cls(position, name, call_id, min(_MAX_BAR, max(_MIN_BAR, rest)), ends)

    def head(self, scale: _Scale) -> Text:
        left = " " * self.position + " " + "call".ljust(self.name)
        left += " " + "id".ljust(self.call_id) if self.call_id else ""
        axis = "0" + seconds(scale.total_ns).rjust(self.bar - 1)
        line = f"{left}  {axis}  {'start':>8} {'ran':>8} {_OUTCOME}"
        return Text(line, style="dim" if scale.colour else "")

    def line(self, row: Row, scale: _Scale) -> Text:
        run = "-" if row.run_ns is None else seconds(row.run_ns)
        start = "-" if row.run_ns is None else seconds(row.end_ns - row.run_ns)
        edge = ("|", "dim" if scale.colour else "")
        return Text.assemble(
            (f"@{row.position}".rjust(self.position), "dim" if scale.colour else ""),
            " ",
            _cell(row.name, self.name),
            *((" ", _cell(row.call_id, self.call_id)) if self.call_id else ()),
            " ",
            edge,
            scale.bar(row),
            edge,
            f" {start:>8} {run:>8} ",
            (_cell(row.outcome, self.outcome), row.style if scale.colour else ""),
        )

    def gap(self, hidden: int) -> Text:
        return Text(f"{'':{self.position}} ... {hidden} more calls ...")


def _cell(text: str, width: int) -> str:
    fitting = clip(text, width)
    return fitting + " " * max(0, width - cell_len(fitting))


def seconds(time_ns: int) -> str:
    """A time in the unit that suits it."""
    if time_ns < 1_000_000:
        return f"{time_ns / 1e3:.0f} us"
    if time_ns < 1_000_000_000:
        return f"{time_ns / 1e6:.0f} ms"
    return f"{time_ns / 1e9:.2f} s"


def draw(console: Console, results: Sequence[ToolResult]) -> None:
    """Prints the waterfall, in plain text where the console is no terminal."""
    waterfall = Waterfall(results)
    if console.is_terminal:
        console.print(waterfall)
    else:
        console.out(waterfall.plain(console.width), highlight=False)
