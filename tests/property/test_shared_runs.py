"""Random turns of identical calls, whose clients leave and whose runs end at any time."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clock import settle
from tests.support.engines import Bench, Turn, bench, raised
from tests.support.runs import Run, Runs, shared

from sidecall_server.core.call import Call, Mode, OnFailure, ToolCall
from sidecall_server.core.events import CallEvent, Finished
from sidecall_server.core.outcome import Code, ExecutionState, Failure, Outcome, Reason, Success
from sidecall_server.core.tool import Breaker, Lane, Retry, Sharing

S = 1_000_000_000
TIMEOUT_S, QUEUE_TIMEOUT_S = 6, 4
KEYS = 3

UNAVAILABLE = Failure(Reason.TOOL_UNAVAILABLE, "no", ExecutionState.NOT_STARTED)
OUTCOMES = {
    "ok": None,
    "fail": raised("failed"),
    "busy": Failure(Reason.TOOL_FAILED, "busy", ExecutionState.COMPLETED, Code.UNAVAILABLE),
    "unavailable": UNAVAILABLE,
}


@dataclass(frozen=True)
class Send:
    """A turn: the keys of its calls, and what holds for it."""

    keys: list[int]
    options: dict[str, Any]
    timeouts_s: list[float | None]


@dataclass(frozen=True)
class Leave:
    """The client of a turn goes."""

    turn: int


@dataclass(frozen=True)
class End:
    """A run that is under way ends."""

    run: int
    how: str


@dataclass(frozen=True)
class Wait:
    """Time passes."""

    seconds: float


Action = Send | Leave | End | Wait

SENDS = st.lists(st.integers(0, KEYS - 1), min_size=1, max_size=5).flatmap(
    lambda keys: st.builds(
        Send,
        st.just(keys),
        st.fixed_dictionaries(
            {"identity": st.sampled_from(["ann", "bob"])},
            optional={
                "timeout_s": st.integers(1, 9),
                "mode": st.sampled_from(Mode),
                "on_failure": st.sampled_from(OnFailure),
                "max_concurrency": st.integers(1, 2),
                "request_id": st.sampled_from(["r1", "r2"]),
            },
        ),
        st.lists(st.none() | st.integers(1, 9), min_size=len(keys), max_size=len(keys)),
    )
)
ACTIONS = st.lists(
    SENDS
    | st.builds(Leave, st.integers(0, 9))
    | st.builds(End, st.integers(0, 3), st.sampled_from(sorted(OUTCOMES)))
    | st.builds(Wait, st.sampled_from([0.5, 1, 2, 3])),
    max_size=25,
)
SPECS = st.fixed_dictionaries(
    {"max_concurrency": st.integers(1, 3)},
    optional={
        "max_queue": st.integers(0, 3),
        "retry": st.just(Retry(3, 1.0, 1.0, 1.0, frozenset({Code.UNAVAILABLE}))),
        "breaker": st.just(Breaker(0.5, 2, 10.0, 2.0, 1)),
        "lane": st.just(Lane("key:{key}")),
    },
)


@dataclass
class World(Runs):
    """A tool, and what is known of its calls.

    Attributes:
        turns: What was sent.
        finished: Events about calls that are final, by turn and position.
    """

    all: list[Run] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    sent: list[Send] = field(default_factory=list)
    left: set[int] = field(default_factory=set)
    finished: Counter[tuple[int, int]] = field(default_factory=Counter)

    def live(self) -> list[Run]:
        """The runs that are under way and that nobody has given up."""
        return [run for run in self.all if not run.is_over and not run.call.cancelled]

    async def __call__(self, call: Call) -> Outcome:
        """Runs an attempt; no identical one may be under way."""
        assert _key(call) not in [_key(run.call) for run in self.live()]
        return await super().__call__(call)

    async def act(self, b: Bench, action: Action) -> None:
        """Takes a step."""
        if isinstance(action, Send):
            await self._send(b, action)
        elif isinstance(action, Leave):
            if action.turn < len(self.turns) and not self.turns[action.turn].done:
                self.left.add(action.turn)
                self.turns[action.turn].task.cancel()
        elif isinstance(action, End):
            live = self.live()
            if action.run < len(live):
                run = live[action.run]
                await run.finish(OUTCOMES[action.how] or f"{self.all.index(run)}")
        else:
            await b.clock.advance(action.seconds)
        await settle()

    async def _send(self, b: Bench, send: Send) -> None:
        number = len(self.turns)

        def observe(event: CallEvent) -> None:
            if isinstance(event, Finished):
                self.finished[number, event.index] += 1

        calls = [
            ToolCall(f"c{index}", "read", f'{{"key": {key}}}', timeout_s=timeout_s)
            for index, (key, timeout_s) in enumerate(zip(send.keys, send.timeouts_s, strict=True))
        ]
        self.sent.append(send)
        self.turns.append(await b.start(calls, observe, **send.options))

    def check(self) -> None:
        """Checks what became of all calls."""
        for number, turn in enumerate(self.turns):
            if turn.task.done() and not turn.task.cancelled() and turn.task.exception() is not None:
                assert "request_id" in str(turn.task.exception())
                assert not self.finished[number, 0]
                continue
            if turn.task.cancelled():
                assert number in self.left
            else:
                for call in turn.calls():
                    self._check_call(call, self.sent[number])
            for index in range(len(self.sent[number].keys)):
                assert self.finished[number, index] == 1

    def _check_call(self, call: Call, send: Send) -> None:
        outcome = call.outcome
        own = [run for run in self.all if run.is_of(call)]
        started = call.finished_ns - call.received_ns
        if isinstance(outcome, Success):
            run = self.all[int(outcome.text)]
            assert _key(run.call) == _key(call)
            assert call.coalesced or call.replayed or run in own
            if call.coalesced and not call.replayed:
                assert run.call.started_ns <= call.finished_ns
            return
        assert isinstance(outcome, Failure)
        assert outcome.reason is not Reason.INTERNAL
        assert outcome.reason is not Reason.CANCELLED
        if outcome.state is ExecutionState.NOT_STARTED and not call.coalesced:
            assert all(run.outcome == UNAVAILABLE for run in own)
        if outcome.reason is Reason.BATCH_DEADLINE:
            assert started == send.options["timeout_s"] * S
        elif outcome.reason is Reason.CALL_DEADLINE:
            assert started == (call.request.timeout_s or 0) * S
        elif outcome.reason is Reason.QUEUE_TIMEOUT:
            assert call.finished_ns - call.ready_ns >= QUEUE_TIMEOUT_S * S


def _key(call: Call) -> tuple[str, int]:
    return call.options.identity, json.loads(call.request.arguments)["key"]


@given(
    actions=ACTIONS,
    spec=SPECS,
    cache_ttl_s=st.none() | st.just(3.0),
    all_callers=st.just(False),
)
@settings(max_examples=300)
def test_every_call_ends_once_and_as_it_was(
    actions: list[Action], spec: dict[str, Any], cache_ttl_s: float | None, all_callers: bool
) -> None:
    sharing = Sharing(
        coalesce=True, cache_ttl_s=cache_ttl_s, all_callers=all_callers, context_keys=()
    )
    world = World()
    tool = shared(
        world, sharing=sharing, timeout_s=TIMEOUT_S, queue_timeout_s=QUEUE_TIMEOUT_S, **spec
    )

    async def run() -> None:
        async with bench(tool) as b:
            for action in actions:
                await world.act(b, action)
            while any(not turn.done for turn in world.turns) or world.live():
                await b.clock.advance(1)
            await settle()
            world.check()
            b.assert_idle()

    asyncio.run(run())
