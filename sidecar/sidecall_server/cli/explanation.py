"""Why a batch took as long as it did, in words and as JSON.

Pure: results and their schedule go in, lines come out.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from sidecall import BatchResults
from sidecall.v1.execution_pb2 import CriticalStep, Schedule, ToolResult
from sidecall_server.cli import results as shown
from sidecall_server.cli.causes import CAUSES, cause_name, timing_field
from sidecall_server.cli.output import clip, counted
from sidecall_server.cli.waterfall import seconds

_MAX_ROWS = 60
_MAX_NAME = 24
_NOTABLE = 1.05
"""Speed-ups below it are not worth a number."""

_LANE_AND_REFERENCE = (
    "a key of {tool} that comes from a reference may be any key until it is known: put the key "
    "itself into the arguments; else a lane with more keys lets more calls run side by side"
)

_CRITICAL = "bold"


def blocked_ns(result: ToolResult) -> dict[str, int]:
    """Time in nanoseconds that a call was blocked, for the causes that occurred."""
    times = {name: getattr(result.timing, timing_field(name)) for name in CAUSES}
    return {name: time_ns for name, time_ns in times.items() if time_ns}


def as_json(done: BatchResults, instance_id: str) -> dict[str, Any]:
    """Results and schedule as a JSON value, and what sending the batch again needs."""
    return {
        "request_id": done.request_id,
        "sent_to_instance": instance_id,
        "results": [
            {**value, "blocked_s": {name: ns / 1e9 for name, ns in blocked_ns(result).items()}}
            for value, result in zip(shown.batch_as_json(done), done, strict=True)
        ],
        "schedule": _schedule_json(done.schedule),
    }


def _schedule_json(schedule: Schedule) -> dict[str, Any]:
    return {
        "duration_s": schedule.duration_ns / 1e9,
        "sequential_s": schedule.sequential_ns / 1e9,
        "speed_up": schedule.speed_up,
        "critical_path": [
            {
                "index": step.index,
                "cause": cause_name(step.cause),
                "waiting_s": step.waiting_ns / 1e9,
                "running_s": step.running_ns / 1e9,
            }
            for step in schedule.critical_path
        ],
    }


def explain(done: BatchResults) -> Iterator[Text]:
    """The explanation in lines."""
    if not done:
        return
    labels = _Labels(done)
    critical = {step.index for step in done.schedule.critical_path}
    blocked = [blocked_ns(result) for result in done]
    yield Text("blocked on (* decided when the batch ended)")
    asked = {index for index, result in enumerate(done) if shown.waits_for_approval(result)}
    yield from _calls(labels, blocked, critical, asked)
    if critical:
        yield Text()
        yield Text("critical path")
        yield from _path(labels, done.schedule.critical_path)
    if any(blocked):
        yield Text()
        yield Text("longest waits")
        yield from _longest(labels, done, blocked)
    yield Text()
    yield Text(_summary(done), style=_CRITICAL)


class _Labels:
    """Calls as they are named in lines, of one width."""

    def __init__(self, done: Sequence[ToolResult]) -> None:
        self._names = [clip(result.name, _MAX_NAME) for result in done]
        self._name_width = max(map(cell_len, self._names))
        self._width = len(str(len(done))) + 1

    def __getitem__(self, index: int) -> str:
        name = set_cell_size(self._names[index], self._name_width)
        return f"{f'@{index + 1}':>{self._width}} {name}"

    def __len__(self) -> int:
        return len(self._names)


def _calls(
    labels: _Labels, blocked: Sequence[Mapping[str, int]], critical: set[int], asked: set[int]
) -> Iterator[Text]:
    """What each call was blocked on; of many, those on the path and the longest waits."""
    indexes: Sequence[int] = range(len(labels))
    if len(labels) > _MAX_ROWS:
        weights = [(i not in critical, -sum(blocked[i].values()), i) for i in indexes]
        indexes = sorted(i for *_, i in sorted(weights)[:_MAX_ROWS])
    for index in indexes:
        waits = ", ".join(
            f"{CAUSES[name].meaning} {seconds(ns)}" for name, ns in blocked[index].items()
        )
        if index in asked:
            waits += ("; " if waits else "") + "not run, a person has to approve it"
        mark = "*" if index in critical else " "
        style = _CRITICAL if index in critical else ""
        yield Text(f"{mark} {labels[index]}  {waits or 'nothing'}", style=style)
    if len(indexes) < len(labels):
        yield Text(f"  ... {counted(len(labels) - len(indexes), 'more call')} ...")


def _path(labels: _Labels, steps: Sequence[CriticalStep]) -> Iterator[Text]:
    hidden = max(0, len(steps) - _MAX_ROWS)
    if hidden:
        yield Text(f"  ... {counted(hidden, 'earlier step')} ...")
    for number, step in enumerate(steps[hidden:], hidden):
        line = f"  {labels[step.index]}  ran {seconds(step.running_ns)}"
        if number:
            name = cause_name(step.cause) or "no known cause"
            why = CAUSES[name].meaning if name in CAUSES else name
            before = steps[number - 1].index + 1
            line += f", {seconds(step.waiting_ns)} after @{before} ended ({why})"
        else:
            line += f", {seconds(step.waiting_ns)} after the receipt"
        yield Text(line)


def _longest(
    labels: _Labels, done: Sequence[ToolResult], blocked: Sequence[Mapping[str, int]]
) -> Iterator[Text]:
    """The longest wait for each cause, the longest one first, and what would help."""
    longest: dict[str, tuple[int, int]] = {}
    for index, waits in enumerate(blocked):
        for name, time_ns in waits.items():
            longest[name] = max(longest.get(name, (0, 0)), (time_ns, -index))
    for name, (time_ns, negative) in sorted(longest.items(), key=lambda item: -item[1][0]):
        index = -negative
        cause, tool = CAUSES[name], done[index].name
        remedy = cause.remedy
        if name == "lane" and any(
            result.name == tool and "reference" in waits
            for result, waits in zip(done, blocked, strict=True)
        ):
            remedy = _LANE_AND_REFERENCE
        remedy = remedy.format(tool=clip(tool, _MAX_NAME))
        yield Text(
            f"  {seconds(time_ns):>7}  {cause.meaning} ({labels[index].split()[0]}): {remedy}"
        )


def _summary(done: BatchResults) -> str:
    schedule = done.schedule
    calls = counted(len(done), "call")
    if not schedule.duration_ns:
        return f"{calls}: the sidecar gave no schedule"
    took = f"{calls} took {seconds(schedule.duration_ns)}"
    if not schedule.sequential_ns:
        return f"{took}; nothing ran"
    apart = f"{took}; one after the other they would have taken {seconds(schedule.sequential_ns)}"
    if schedule.speed_up < _NOTABLE:
        return apart
    return f"{apart}: {schedule.speed_up:.1f} times faster"


def draw(console: Console, done: BatchResults) -> None:
    """Prints the explanation, in plain text where the console is no terminal."""
    for line in explain(done):
        if console.is_terminal:
            console.print(line, soft_wrap=True)
        else:
            console.out(line.plain, highlight=False)
