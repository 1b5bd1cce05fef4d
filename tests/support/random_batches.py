"""Random batches, and what must become of their calls."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from tests.support.recorded_tools import LIMITS, text_result

from sidecall.v1 import execution_pb2, tool_service_pb2

_MODES = {"PARALLEL": 1, "SEQUENTIAL": 2}
_POLICIES = {"CONTINUE": 1, "STOP": 2}
_FORMS = ("whole", "inside", "pointer", "missing pointer", "depends_on")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Link:
    """A reference from one call to another.

    Attributes:
        target: What it names.
        form: How it is written.
    """

    target: str
    form: str

    @property
    def text(self) -> str:
        """The reference as it stands in the arguments."""
        if self.form == "inside":
            return f"<${{ref:{self.target}}}>"
        path = {"pointer": "#/key", "missing pointer": "#/missing"}.get(self.form, "")
        return f"$ref:{self.target}{path}"


@dataclass(frozen=True)
class PlannedCall:
    """One call.

    Attributes:
        id: Its id; may be empty or repeated.
        tool: Name of its tool; may not exist.
        delay_ms: How long it takes.
        links: What it refers to.
        valid: Whether its arguments fit the schema.
    """

    id: str
    tool: str
    delay_ms: int = 0
    links: tuple[Link, ...] = ()
    valid: bool = True


@dataclass
class PlannedBatch:
    """One batch.

    Attributes:
        calls: Its calls.
        mode: "PARALLEL" or "SEQUENTIAL".
        on_failure: "CONTINUE" or "STOP".
        max_concurrency: Its limit; 0 for none.
        name: Begins the keys of its calls; differs from batch to batch.
    """

    calls: list[PlannedCall]
    mode: str = "PARALLEL"
    on_failure: str = "CONTINUE"
    max_concurrency: int = 0
    name: str = field(default_factory=lambda: f"batch{next(_numbers)}")

    def key(self, index: int) -> str:
        """What a call's starts are written down under."""
        return f"{self.name}.{index}"

    @property
    def keys(self) -> list[str]:
        """The keys of all calls."""
        return [self.key(index) for index in range(len(self.calls))]

    def message(self, index: int) -> execution_pb2.ToolCall:
        """A call as it is sent."""
        call = self.calls[index]
        values = [link.text for link in call.links if link.form != "depends_on"]
        arguments: dict[str, Any] = {"key": self.key(index), "delay_ms": call.delay_ms}
        arguments |= {"values": values} | ({} if call.valid else {"unknown field": 1})
        depends_on = [link.target for link in call.links if link.form == "depends_on"]
        return execution_pb2.ToolCall(
            id=call.id, name=call.tool, arguments=json.dumps(arguments), depends_on=depends_on
        )

    @property
    def options(self) -> dict[str, Any]:
        """The fields of a request beside its calls."""
        return {
            "mode": _MODES[self.mode],
            "on_failure": _POLICIES[self.on_failure],
            "max_concurrency": self.max_concurrency,
        }

    @property
    def request(self) -> tool_service_pb2.ExecuteBatchRequest:
        """The batch as it is sent."""
        calls = [self.message(index) for index in range(len(self.calls))]
        return tool_service_pb2.ExecuteBatchRequest(calls=calls, **self.options)


class Expectation:
    """What must become of a batch: written for clarity, without any regard to speed.

    Attributes:
        edges: Positions that each call waits for; of calls whose references all mean one.
        reasons: Reason of each call's failure, or OK; what holds under CONTINUE.
    """

    def __init__(self, batch: PlannedBatch) -> None:
        self._calls = batch.calls
        self._batch = batch
        self.edges: dict[int, list[int]] = {}
        self.reasons: dict[int, str] = {}
        for index, call in enumerate(batch.calls):
            targets = [self.target(link.target) for link in call.links]
            if None in targets:
                self.reasons[index] = "REFERENCE_UNRESOLVED"
            else:
                self.edges[index] = [target for target in targets if target is not None]
        for index in [i for i in self.edges if i in self._reached_from(i)]:
            self.reasons[index] = "REFERENCE_CYCLE"
        for index in range(len(batch.calls)):
            self._decide(index)

    def target(self, name: str) -> int | None:
        """Position of the call that a name means."""
        if name.startswith("@"):
            number = int(name[1:])
            return number - 1 if 1 <= number <= len(self._calls) else None
        by_id = [i for i, call in enumerate(self._calls) if call.id == name]
        by_tool = [i for i, call in enumerate(self._calls) if call.tool == name]
        found = by_id or by_tool
        return found[0] if len(found) == 1 else None

    def _reached_from(self, start: int) -> set[int]:
        seen: set[int] = set()
        todo = list(self.edges.get(start, ()))
        while todo:
            index = todo.pop()
            if index not in seen:
                seen.add(index)
                todo.extend(self.edges.get(index, ()))
        return seen

    def _decide(self, index: int) -> str:
        if index not in self.reasons:
            self.reasons[index] = self._reason(index)
        return self.reasons[index]

    def _reason(self, index: int) -> str:
        call = self._calls[index]
        if any(self._decide(dependency) != "OK" for dependency in self.edges[index]):
            return "DEPENDENCY_FAILED"
        if call.tool not in LIMITS:
            return "TOOL_NOT_FOUND"
        if not all(map(self._has_value, call.links)):
            return "REFERENCE_UNRESOLVED"
        if not call.valid:
            return "ARGUMENTS_INVALID"
        return {"fails": "TOOL_FAILED", "hangs": "TOOL_TIMEOUT"}.get(call.tool, "OK")

    def _has_value(self, link: Link) -> bool:
        target = self.target(link.target)
        if link.form == "pointer":
            return target is not None and self._calls[target].tool == "json"
        return link.form != "missing pointer"

    def allowed(self, index: int, *, streamed: bool) -> set[str]:
        """Reasons that a call may end with.

        In a stream, a call of a cycle whose other dependency has failed already ends before
        anybody can know of the cycle.
        """
        reason = self.reasons[index]
        if not streamed or reason != "REFERENCE_CYCLE":
            return {reason}
        members = {i for i in self._reached_from(index) if self.reasons[i] == reason}
        around = {self.reasons[d] for member in members for d in self.edges[member]}
        return {reason, "DEPENDENCY_FAILED"} if around - {"OK", reason} else {reason}

    def values(self, index: int) -> list[Any]:
        """What an OK call must have been given for its references."""
        return [self._value(link) for link in self._calls[index].links if link.form != "depends_on"]

    def _value(self, link: Link) -> Any:
        target = self.target(link.target)
        assert target is not None
        key = self._batch.key(target)
        if link.form == "pointer":
            return key
        if self._calls[target].tool != "json":
            text = text_result(key)
            return f"<{text}>" if link.form == "inside" else text
        return f'<{{"key":"{key}"}}>' if link.form == "inside" else {"key": key}


def _ids(draw: st.DrawFn, count: int, unique: bool) -> list[str]:
    names = st.sampled_from(["", "a", "b", "c", "json", "@1"])
    drawn = [draw(names) for _ in range(count)]
    if not unique:
        return drawn
    return [name if name not in drawn[:i] else f"{name}{i}" for i, name in enumerate(drawn)]


def _targets(ids: Sequence[str]) -> Iterator[str]:
    yield from (f"@{number}" for number in range(len(ids) + 2))
    yield from (name for name in ids if name)
    yield from ("nothing", "text", "json", "write")


@st.composite
def batches(draw: st.DrawFn, max_calls: int = 10, *, unique_ids: bool = False) -> PlannedBatch:
    """A random batch; the smaller, the simpler."""
    count = draw(st.integers(0, max_calls))
    ids = _ids(draw, count, unique_ids)
    return PlannedBatch(
        [draw(_calls(index, ids)) for index in range(count)],
        draw(st.sampled_from(["PARALLEL", "PARALLEL", "SEQUENTIAL"])),
        draw(st.sampled_from(["CONTINUE", "CONTINUE", "STOP"])),
        draw(st.integers(0, 3)),
    )


def _calls(index: int, ids: Sequence[str]) -> st.SearchStrategy[PlannedCall]:
    anything = st.builds(Link, st.sampled_from(list(_targets(ids))), st.sampled_from(_FORMS))
    links = st.just(()) | st.lists(anything, max_size=2).map(tuple)
    if index:
        # Most references point backward: else most calls would fail before they start.
        links = st.lists(_backward(index), max_size=2).map(tuple) | links
    return st.builds(
        PlannedCall,
        id=st.just(ids[index]),
        tool=st.sampled_from(["text", "json", "write", "thread", "fails", "hangs", "unknown"]),
        delay_ms=st.sampled_from([0, 0, 1, 3]),
        links=links,
        valid=st.sampled_from([True] * 9 + [False]),
    )


def _backward(index: int) -> st.SearchStrategy[Link]:
    return st.builds(
        Link,
        st.integers(1, index).map(lambda number: f"@{number}"),
        st.sampled_from(["whole", "inside", "pointer", "depends_on"]),
    )
