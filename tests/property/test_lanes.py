"""Lanes on an engine: exclusion at every instant, emitted order, and an end for every batch."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.test_lane_order import Member, closure, every_pair, share_a_lane
from tests.support.clock import FakeClock
from tests.support.engines import bench, bound, reasons
from tests.support.policies import READ_ONLY, SECOND_NS, broken, retry, unavailable

from sidecall_server.core.call import Call, Mode, OnFailure, ToolCall
from sidecall_server.core.outcome import Outcome, Success
from sidecall_server.core.tool import Lane

LIMITS = (1, 2, 99)
TEMPLATES = ("s:{key}", "t:{key}")


@dataclass(frozen=True)
class Laned:
    """One call.

    Attributes:
        tool: Number of its template; None for a tool without lanes.
        key: Its key; None where it is the result of the first call it depends on.
        waits_for: Positions of the calls it depends on.
        steps: How long an attempt takes.
        ends: How its attempts end: "ok", "fails", "again" (fails once), "late" (too late).
    """

    tool: int | None
    key: str | None
    waits_for: tuple[int, ...]
    steps: int
    ends: str


@dataclass(frozen=True)
class Sent:
    """A batch."""

    calls: list[Laned]
    mode: Mode
    on_failure: OnFailure
    max_concurrency: int
    caller: str
    cancels: bool

    def requests(self, number: int) -> list[ToolCall]:
        return [self._request(number, index) for index in range(len(self.calls))]

    def _request(self, number: int, index: int) -> ToolCall:
        call = self.calls[index]
        names = [f"{number}.{target}" for target in call.waits_for]
        key = call.key if call.key is not None else f"$ref:{names[0]}#/key"
        name = "plain" if call.tool is None else f"tool{call.tool}"
        arguments = json.dumps({"key": key, "steps": call.steps, "ends": call.ends})
        return ToolCall(f"{number}.{index}", name, arguments, tuple(names))

    @property
    def edges(self) -> dict[int, list[int]]:
        """What calls depend on."""
        return {i: list(call.waits_for) for i, call in enumerate(self.calls) if call.waits_for}

    @property
    def lanes(self) -> list[Member | None]:
        """Template and key of each call."""
        return [None if c.tool is None else (TEMPLATES[c.tool], c.key) for c in self.calls]


@st.composite
def sent(draw: st.DrawFn) -> Sent:
    count = draw(st.integers(1, 7))
    rank = draw(st.permutations(range(count)))
    calls = []
    for index in range(count):
        before = [other for other in range(count) if rank[other] < rank[index]]
        waits_for = (
            draw(st.lists(st.sampled_from(before), max_size=2, unique=True)) if before else []
        )
        keys = ["a", "b", None] if waits_for else ["a", "b"]
        calls.append(
            Laned(
                draw(st.sampled_from([0, 0, 1, None])),
                draw(st.sampled_from(keys)),
                tuple(waits_for),
                draw(st.integers(0, 3)),
                draw(st.sampled_from(["ok", "ok", "ok", "fails", "again", "late"])),
            )
        )
    return Sent(
        calls,
        draw(st.sampled_from([Mode.PARALLEL, Mode.PARALLEL, Mode.SEQUENTIAL])),
        draw(st.sampled_from([OnFailure.CONTINUE, OnFailure.CONTINUE, OnFailure.STOP])),
        draw(st.sampled_from(LIMITS)),
        draw(st.sampled_from(["x", "y"])),
        draw(st.sampled_from([False, False, True])),
    )


class Stage:
    """The tools: in which order attempts started, and whether two ever ran in one lane."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.running: Counter[str] = Counter()
        self.started: list[str] = []
        self.crowded = False

    async def __call__(self, call: Call) -> Outcome:
        template = {"tool0": "s", "tool1": "t"}.get(call.request.name)
        lane = f"{template}:{call.arguments['key']}"
        if template is not None:
            self.running[lane] += 1
            self.crowded |= self.running[lane] > 1
        self.started.append(call.request.id)
        try:
            return await self._run(call)
        finally:
            self.running[lane] -= 1

    async def _run(self, call: Call) -> Outcome:
        ends = call.arguments["ends"]
        late = ends == "late" and call.attempt == 1
        done = asyncio.Event()
        steps = 30 if late else call.arguments["steps"]
        self._clock.call_at(self._clock.now_ns() + steps * SECOND_NS // 10, done.set)
        while not done.is_set():
            try:
                await done.wait()
            except asyncio.CancelledError:
                if not late:  # it cannot be stopped
                    raise
        if ends == "fails":
            return broken()
        if ends == "again" and call.attempt == 1:
            return unavailable()
        return Success('{"key": "a"}', is_json=True)


async def run(batches: list[Sent], limits: tuple[int, int, int]) -> Stage:
    clock = FakeClock()
    stage = Stage(clock)
    most, first, skips = limits
    tools = [
        bound("tool0", stage, lane=Lane(TEMPLATES[0], skip_rest=bool(skips)), timeout_s=2.0,
              retry=retry(2), max_concurrency=first, queue_timeout_s=1e6, **READ_ONLY),
        bound("tool1", stage, lane=Lane(TEMPLATES[1]), timeout_s=2.0, queue_timeout_s=1e6),
        bound("plain", stage, timeout_s=2.0, queue_timeout_s=1e6),
    ]  # fmt: skip
    async with bench(*tools, clock=clock, max_concurrency=most, random=lambda: 0.25) as b:
        turns = []
        for number, batch in enumerate(batches):
            turn = await b.start(
                batch.requests(number),
                mode=batch.mode,
                on_failure=batch.on_failure,
                max_concurrency=batch.max_concurrency,
                caller=batch.caller,
            )
            turns.append(turn)
            await clock.advance(0.1)
            if batch.cancels:
                turns[number // 2].task.cancel()
        await clock.advance(200)
        assert all(turn.done for turn in turns)
        b.assert_idle()
        answered = [turn for turn in turns if not turn.task.cancelled()]
        assert not any("INTERNAL" in reasons(turn.calls()) for turn in answered)
    return stage


@given(
    batches=st.lists(sent(), min_size=1, max_size=4),
    limits=st.tuples(st.sampled_from([2, 4, 99]), st.sampled_from(LIMITS), st.integers(0, 1)),
)
@settings(max_examples=200)
def test_lanes_exclude_order_and_end(batches: list[Sent], limits: tuple[int, int, int]) -> None:
    stage = asyncio.run(run(batches, limits))
    assert not stage.crowded
    for number, batch in enumerate(batches):
        lanes, count = batch.lanes, len(batch.calls)
        reached = closure(count, batch.edges, every_pair(batch.edges, lanes))
        for later in range(count):
            for earlier in range(later):
                if not share_a_lane(lanes[earlier], lanes[later]) or earlier not in reached[later]:
                    continue
                first, second = f"{number}.{earlier}", f"{number}.{later}"
                if first in stage.started and second in stage.started:
                    last = len(stage.started) - 1 - stage.started[::-1].index(first)
                    assert last < stage.started.index(second)
