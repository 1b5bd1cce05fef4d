"""The promises, on random batches through a real channel."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.rpc import error_details_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.batches import COMPLETED, NOT_STARTED, UNKNOWN, call, detail, reason
from tests.support.gate import WAIT_S
from tests.support.serving import Serving, start_serving
from tests.support.turns import Turn

from sidecall import Tool, ToolError, tool
from sidecall.v1 import execution_pb2

SEQUENTIAL = execution_pb2.EXECUTION_MODE_SEQUENTIAL
PARALLEL = execution_pb2.EXECUTION_MODE_PARALLEL
STOP = execution_pb2.FAILURE_POLICY_STOP
CONTINUE = execution_pb2.FAILURE_POLICY_CONTINUE

LIMITS = {"free": 8, "narrow": 2, "single": 1, "threaded": 3}
"""Most calls of each tool that may run at a time; `free` is bounded by the sidecar alone."""


@dataclass
class Journal:
    """What tools did.

    Attributes:
        started: Keys of the calls that were started, in order.
        running: Calls of each tool that run.
        peaks: Most calls of each tool that ran at a time, "all" for all together.
        wrong: Calls that were started before one that they depend on had ended.
    """

    started: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    running: dict[str, int] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def begin(self, name: str, key: str, needs: list[str]) -> None:
        self.started.append(key)
        self.wrong += [f"{key} before {need}" for need in needs if need not in self.ended]
        for tool_name in (name, "all"):
            self.running[tool_name] = self.running.get(tool_name, 0) + 1
            self.peaks[tool_name] = max(self.peaks.get(tool_name, 0), self.running[tool_name])

    def end(self, name: str, key: str) -> None:
        for tool_name in (name, "all"):
            self.running[tool_name] -= 1
        self.ended.add(key)


def make_tools(journal: Journal) -> list[Tool[..., Any]]:
    """Tools that write a journal."""

    async def work(name: str, key: str, needs: list[str], steps: int, fails: bool) -> str:
        journal.begin(name, key, needs)
        try:
            for _ in range(steps):
                await asyncio.sleep(0)
            if fails:
                raise ToolError("failed as it was told")
            return key
        finally:
            journal.end(name, key)

    def make(name: str) -> Tool[..., Any]:
        async def run(
            key: str, needs: list[str], steps: int, fails: bool, values: list[Any]
        ) -> str:
            return await work(name, key, needs, steps, fails)

        bound = None if name == "free" else LIMITS[name]
        return tool(run, name=name, max_concurrency=bound, effects="read_only")

    return [make(name) for name in ("free", "narrow", "single")]


@dataclass(frozen=True)
class Planned:
    """One random call.

    Attributes:
        name: Its tool.
        refers_to: Positions of earlier calls whose results its arguments hold.
        depends_on: Positions of earlier calls that it depends on.
        steps: Times that it suspends.
        kind: "good", "fails", or how it is malformed.
    """

    name: str
    refers_to: tuple[int, ...]
    depends_on: tuple[int, ...]
    steps: int
    kind: str


KINDS = ("good", "good", "good", "good", "fails", "unknown tool", "not json", "missing field")


@st.composite
def plans(draw: st.DrawFn) -> list[Planned]:
    """Random batches; each edge points back, so there is no cycle."""
    made: list[Planned] = []
    for index in range(draw(st.integers(0, 24))):
        earlier = st.lists(st.integers(0, index - 1), max_size=2, unique=True)
        edges = earlier if index else st.just([])
        made.append(
            Planned(
                name=draw(st.sampled_from(("free", "narrow", "single"))),
                refers_to=tuple(draw(edges)),
                depends_on=tuple(draw(edges)),
                steps=draw(st.integers(0, 3)),
                kind=draw(st.sampled_from(KINDS)),
            )
        )
    return made


def to_calls(plan: list[Planned], prefix: str) -> list[execution_pb2.ToolCall]:
    """The calls of a plan; keys are unique in the sidecar."""
    calls = []
    for index, item in enumerate(plan):
        edges = {*item.refers_to, *item.depends_on}
        arguments = {
            "key": f"{prefix}{index}",
            "needs": [f"{prefix}{edge}" for edge in sorted(edges)],
            "steps": item.steps,
            "fails": item.kind == "fails",
            "values": [f"$ref:@{edge + 1}" for edge in item.refers_to],
        }
        if item.kind == "missing field":
            del arguments["key"]
        text = json.dumps(arguments)
        calls.append(
            call(
                "nobody" if item.kind == "unknown tool" else item.name,
                text[:-1] if item.kind == "not json" else text,
                id=f"{prefix}{index}",
                depends_on=[f"@{edge + 1}" for edge in item.depends_on],
            )
        )
    return calls


def wanted(plan: list[Planned]) -> list[str]:
    """Reasons of the results where nothing stops the batch."""
    own = {
        "good": "OK",
        "fails": "TOOL_FAILED",
        "unknown tool": "TOOL_NOT_FOUND",
        "not json": "ARGUMENTS_INVALID",
        "missing field": "ARGUMENTS_INVALID",
    }
    reasons: list[str] = []
    for item in plan:
        # References in text that is no JSON make no edges.
        edges = item.depends_on if item.kind == "not json" else item.refers_to + item.depends_on
        failed = any(reasons[edge] != "OK" for edge in edges)
        reasons.append("DEPENDENCY_FAILED" if failed else own[item.kind])
    return reasons


def check_each(
    plan: list[Planned], results: list[execution_pb2.ToolResult], journal: Journal, prefix: str
) -> None:
    """Checks what holds for every batch."""
    assert len(results) == len(plan)
    assert journal.wrong == []
    assert len(journal.started) == len(set(journal.started))
    for index, result in enumerate(results):
        key = f"{prefix}{index}"
        assert result.call_id == key
        assert result.content
        assert (key in journal.started) == (result.execution_state != NOT_STARTED)
        assert result.attempts == (key in journal.started)
        if result.status.code:
            info = detail(result.status, error_details_pb2.ErrorInfo)
            assert info is not None
            assert info.domain == "sidecall.dev"
        else:
            assert (result.content, result.execution_state) == (key, COMPLETED)
    for name, peak in journal.peaks.items():
        assert peak <= LIMITS.get(name, 16)


@asynccontextmanager
async def journaled() -> AsyncIterator[tuple[Serving, Journal]]:
    """A sidecar whose tools write a journal."""
    journal = Journal()
    options = {"listen": "127.0.0.1:0", "max_concurrency": 16}
    async with start_serving(options, make_tools(journal)) as serving:
        yield serving, journal


def on_one_sidecar(body: Callable[[Serving, Journal], Awaitable[None]]) -> None:
    """Runs a body in a loop of its own: hypothesis calls it many times per test."""

    async def run() -> None:
        async with asyncio.timeout(WAIT_S * 4), journaled() as (serving, journal):
            await body(serving, journal)

    asyncio.run(run())


EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)


@EXAMPLES
@given(st.lists(plans(), min_size=1, max_size=4))
def test_results_order_dependencies_limits_and_single_starts(batches: list[list[Planned]]) -> None:
    async def body(serving: Serving, journal: Journal) -> None:
        runs = [serving.run(*to_calls(plan, f"{number}-")) for number, plan in enumerate(batches)]
        for number, results in enumerate(await asyncio.gather(*runs)):
            plan = batches[number]
            check_each(plan, results, journal, f"{number}-")
            assert [reason(result.status) for result in results] == wanted(plan)

    on_one_sidecar(body)


@EXAMPLES
@given(plans(), st.sampled_from([SEQUENTIAL, PARALLEL]), st.integers(1, 3))
def test_stop_sequential_and_the_limit_of_a_batch(
    plan: list[Planned], mode: execution_pb2.ExecutionMode.ValueType, most: int
) -> None:
    async def body(serving: Serving, journal: Journal) -> None:
        results = await serving.run(
            *to_calls(plan, "0-"), mode=mode, on_failure=STOP, max_concurrency=most
        )
        check_each(plan, results, journal, "0-")
        assert journal.peaks.get("all", 0) <= (1 if mode == SEQUENTIAL else most)
        reasons = [reason(result.status) for result in results]
        for index, (got, free) in enumerate(zip(reasons, wanted(plan), strict=True)):
            assert got in (free, "STOPPED", "DEPENDENCY_FAILED"), index
        if all(item == "OK" for item in wanted(plan)):
            assert set(reasons) <= {"OK"}
        else:
            assert set(reasons) - {"OK", "STOPPED", "DEPENDENCY_FAILED"}

    on_one_sidecar(body)


@EXAMPLES
@given(plans(), st.randoms(use_true_random=False))
def test_a_stream_gives_what_a_batch_gives(plan: list[Planned], random: Any) -> None:
    async def body(serving: Serving, journal: Journal) -> None:
        turn = await Turn(serving.channel).start()
        calls = list(enumerate(to_calls(plan, "0-")))
        random.shuffle(calls)
        for index, item in calls:
            await turn.call(index, item)
        await turn.seal(len(plan))
        summary = await turn.finish()
        results = turn.results()
        check_each(plan, [results[index] for index in range(len(plan))], journal, "0-")
        assert [reason(results[index].status) for index in range(len(plan))] == wanted(plan)
        assert summary.call_count == len(plan)
        for index in range(len(plan)):
            kinds = turn.kinds(index)
            assert kinds.count("result") == 1
            assert kinds[-1] == "result"
            assert kinds.count("started") == results[index].attempts

    on_one_sidecar(body)


@EXAMPLES
@given(plans(), st.integers(0, 30), st.sampled_from(["cancel", "half-close", "abort"]))
def test_turns_that_end_early_leave_nothing_behind(
    plan: list[Planned], sent: int, how: str
) -> None:
    async def body(serving: Serving, journal: Journal) -> None:
        turn = await Turn(serving.channel).start()
        for index, item in enumerate(to_calls(plan, "0-")[:sent]):
            await turn.call(index, item)
            if how == "cancel" and index % 2:
                await turn.cancel(index // 2)
        if how == "abort":
            turn.rpc.cancel()
            return
        await (turn.close() if how == "half-close" else turn.seal(min(sent, len(plan))))
        await turn.finish()
        results = turn.results()
        assert sorted(results) == list(range(min(sent, len(plan))))
        assert journal.wrong == []
        assert len(journal.started) == len(set(journal.started))
        for result in results.values():
            assert result.content
            assert result.execution_state in (NOT_STARTED, COMPLETED, UNKNOWN)
            assert (result.call_id in journal.started) == (result.execution_state != NOT_STARTED)

    on_one_sidecar(body)


@EXAMPLES
@given(st.text(max_size=60), st.booleans())
def test_text_of_any_kind_is_data(text: str, references: bool) -> None:
    """Arguments of any text, as a tool's name and as arguments, cost at most their own call."""

    async def body(serving: Serving, journal: Journal) -> None:
        encodable = text.encode("utf-8", "ignore").decode()
        results = await serving.run(
            call(encodable, encodable, id=encodable),
            call("free", encodable),
            *to_calls([Planned("free", (), (), 0, "good")], "0-"),
            disable_references=not references,
        )
        assert results[2].content == "0-0"
        for result in results[:2]:
            assert result.execution_state == NOT_STARTED

    on_one_sidecar(body)


@pytest.mark.parametrize("count", [1, 2])
def test_the_journal_notices_what_it_is_for(count: int) -> None:
    journal = Journal()
    for index in range(count):
        journal.begin("single", f"0-{index}", ["never"] if index else [])
    assert journal.peaks["single"] == count
    assert len(journal.wrong) == count - 1
