"""Random sends, disconnects, deadlines and deaths of the process: no effect happens twice."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clock import FakeClock, settle
from tests.support.engines import Turn, bench
from tests.support.works import DictStore, Works, to

from sidecall_server.core.call import Call, Mode, OnFailure, ToolCall
from sidecall_server.core.outcome import ExecutionState, Failure, Reason, Success

TOOLS = ("read", "put", "write", "write")
COUNT = 4


@dataclass
class Plan:
    """A batch, and what happens to it.

    Attributes:
        calls: Its calls; `x` of call i is the key of its run.
        mode: Order of the calls.
        on_failure: What a failed call means.
        failing: Keys of the calls whose tool raises.
        steps: What happens.
    """

    calls: list[ToolCall]
    mode: Mode
    on_failure: OnFailure
    failing: set[str]
    steps: list[tuple[str, int]]

    @property
    def options(self) -> dict[str, Any]:
        """What every send of it says."""
        return {"mode": self.mode, "on_failure": self.on_failure}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans of small batches."""
    calls = []
    for index in range(draw(st.integers(1, COUNT))):
        tool = draw(st.sampled_from(TOOLS))
        after = draw(st.sets(st.integers(0, index - 1), max_size=2)) if index else set()
        key = draw(st.sampled_from(["", "", f"k{index}"]))
        depends_on = tuple(f"@{i + 1}" for i in sorted(after))
        calls.append(
            to(tool, f"{tool}{index}", f"c{index}", depends_on=depends_on, idempotency_key=key)
        )
    names = [
        "send",
        "send",
        "limit",
        "vanish",
        "open",
        "open",
        "flush",
        "stall",
        "die",
        "pass",
        "alone",
    ]
    return Plan(
        calls,
        draw(st.sampled_from(Mode)),
        draw(st.sampled_from(OnFailure)),
        draw(
            st.sets(st.sampled_from([f"{t}{i}" for t in TOOLS for i in range(COUNT)]), max_size=2)
        ),
        draw(st.lists(st.tuples(st.sampled_from(names), st.integers(0, COUNT)), max_size=14)),
    )


@dataclass
class World:
    """What outlives an engine.

    Attributes:
        plan: The plan.
        works: What the tools do; it counts their starts.
        clock: The time.
        store: What the next process will find.
        ended: Keys of the runs that ended, with what they gave, as some answer said it.
        turns: Sends that were not answered yet, each with the keys that had ended before.
    """

    plan: Plan
    works: Works = field(default_factory=Works)
    clock: FakeClock = field(default_factory=FakeClock)
    store: DictStore = field(default_factory=DictStore)
    ended: dict[str, Success | Failure] = field(default_factory=dict)
    turns: list[tuple[Turn, set[str]]] = field(default_factory=list)


def _key(call: ToolCall) -> str:
    return f"{call.name}{call.id[1:]}"


def _is_write(call: ToolCall) -> bool:
    return call.name == "write"


async def play(plan: Plan) -> None:
    """Plays a plan to its end, then sends the batch until nothing is left to run."""
    world = World(plan)
    world.works.failing = plan.failing
    steps = iter([*plan.steps, ("die", 0)])
    lives = True
    while lives:
        lives = await _live(world, steps)
        world.store = world.store.survivor()
        world.turns.clear()
    world.works.open(*[_key(call) for call in plan.calls])
    await _finish(world)


async def _live(world: World, steps: Iterator[tuple[str, int]]) -> bool:
    """One process, until it dies; returns whether there are more steps."""
    works, plan = world.works, world.plan
    tools = works.tools(timeout_s=50.0, max_concurrency=2)
    async with bench(*tools, clock=world.clock, store=world.store) as b:
        for name, number in steps:
            call = plan.calls[number % len(plan.calls)]
            match name:
                case "send" | "limit":
                    timeout_s = 10.0 if name == "limit" else None
                    turn = await b.start(
                        plan.calls, request_id="r", timeout_s=timeout_s, **plan.options
                    )
                    world.turns.append((turn, set(world.ended)))
                case "alone" if call.idempotency_key and not call.depends_on:
                    world.turns.append((await b.start([call]), set(world.ended)))
                case "vanish" if world.turns:
                    world.turns.pop(number % len(world.turns))[0].task.cancel()
                    await settle()
                case "open":
                    works.open(_key(call))
                    await settle()
                case "flush":
                    world.store.gate.set()
                    await world.store.flush()
                    await settle()
                case "stall":
                    world.store.gate.clear()
                case "pass":
                    await world.clock.advance(6.0)
                case "die":
                    _check_answers(world)
                    return True
            _check_answers(world)
            _check_starts(world)
    return False


async def _finish(world: World) -> None:
    """The last sends, in a process that lives: what is left runs, and then nothing more."""
    plan, works = world.plan, world.works
    async with bench(*works.tools(), store=world.store, clock=world.clock) as b:
        first = await b.run(plan.calls, request_id="r", **plan.options)
        _check_results(world, first, set(world.ended), alone=True)
        before = list(works.started)
        again = await b.run(plan.calls, request_id="r", **plan.options)
        _check_results(world, again, set(world.ended), alone=True)
        if plan.on_failure is OnFailure.CONTINUE:
            # After a STOP, replays may let calls pass that had not come to their turn.
            assert works.started == before, "a batch that is over runs nothing"
            assert [_said(call) for call in again] == [_said(call) for call in first]
        _check_starts(world)
        b.assert_idle()


def _check_answers(world: World) -> None:
    """Takes note of what was answered."""
    for turn, ended in list(world.turns):
        if turn.done:
            world.turns.remove((turn, ended))
            _check_results(world, turn.calls(), ended)


def _check_results(
    world: World, calls: Sequence[Call], ended: set[str], *, alone: bool = False
) -> None:
    """Results are honest, and those that were told before a send are told again.

    NOT_STARTED speaks of one send: where it is not alone, another one may start the call.
    """
    for call in calls:
        key, outcome = _key(call.request), call.outcome
        assert outcome is not None
        started = world.works.counts[key]
        if isinstance(outcome, Success) or outcome.state is ExecutionState.COMPLETED:
            assert started, f"{key} completed and was never started"
            told = world.ended.setdefault(key, outcome)
            assert _text(told) == _text(outcome)
        elif call.request.idempotency_key and outcome.state is ExecutionState.NOT_STARTED:
            continue  # this send of it; its key was not come to
        elif key in ended:
            raise AssertionError(f"{key} had completed, and now: {outcome}")
        elif outcome.state is ExecutionState.NOT_STARTED and _is_write(call.request):
            assert outcome.reason is not Reason.OUTCOME_UNKNOWN
            assert not (alone and started), f"{key} was started, and now: {outcome}"
        elif outcome.reason is Reason.OUTCOME_UNKNOWN:
            assert _is_write(call.request)


def _check_starts(world: World) -> None:
    for call in world.plan.calls:
        if _is_write(call):
            assert world.works.counts[_key(call)] <= 1, f"{_key(call)} ran twice"


def _text(outcome: Success | Failure) -> str:
    return outcome.text if isinstance(outcome, Success) else outcome.message


def _said(call: Call) -> str:
    assert call.outcome is not None
    return _text(call.outcome)


@settings(max_examples=400)
@given(plans())
def test_no_effect_happens_twice(plan: Plan) -> None:
    asyncio.run(play(plan))
