"""Rates: never more than they allow, never less, and turns as they are foretold."""

import asyncio
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clock import FakeClock, settle
from tests.support.engines import Bench, bench, bound, calls_of, reasons
from tests.support.policies import SECOND_NS

from sidecall_server.core.call import Call, ToolCall
from sidecall_server.core.tool import Group, Rate
from sidecall_server.policy.concurrency import Rotation

STEP_S = 0.05

RATES = st.builds(
    Rate,
    st.integers(1, 7),
    st.sampled_from([SECOND_NS // 3, SECOND_NS, 3 * SECOND_NS, 1_000_003]),
    st.integers(1, 5),
)
ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 3 * SECOND_NS),  # when, after the one before
        st.sampled_from(["a", "b", "c"]),  # caller
        st.integers(1, 6),  # calls
    ),
    min_size=1,
    max_size=6,
)


def ideal_starts(arrivals_ns: list[int], rate: Rate) -> list[Fraction]:
    """When calls start at the soonest, whoever's turn it is: a token bucket without rounding."""
    level, now_ns = Fraction(rate.burst), Fraction(0)
    starts_ns: list[Fraction] = []
    for arrival_ns in arrivals_ns:
        before_ns, now_ns = now_ns, max(now_ns, Fraction(arrival_ns))
        level += (now_ns - before_ns) * rate.count / rate.period_ns
        level = min(level, Fraction(rate.burst))
        if level < 1:
            now_ns += (1 - level) * rate.period_ns / rate.count
            level = Fraction(1)
        level -= 1
        starts_ns.append(now_ns)
    return starts_ns


async def run_at(rate: Rate, arrivals: list[tuple[int, str, int]]) -> tuple[list[int], list[int]]:
    """Runs calls of a tool with a rate: when they came, and when they started."""
    clock = FakeClock()
    arrivals_ns: list[int] = []
    starts_ns: list[int] = []

    async def note(_: Call) -> str:
        starts_ns.append(clock.now_ns())
        return "done"

    async with bench(bound("tool", note, rate=rate, queue_timeout_s=1e6), clock=clock) as b:
        turns = []
        for after_ns, caller, count in arrivals:
            await clock.advance(after_ns / 1e9)
            arrivals_ns += [clock.now_ns()] * count
            turns.append(await b.start(calls_of("tool", count), caller=caller))
        await clock.advance(200)
        assert all(set(reasons(turn.calls())) == {"OK"} for turn in turns)
        b.assert_idle()
    return arrivals_ns, starts_ns


@given(rate=RATES, arrivals=ARRIVALS)
@settings(max_examples=100)
def test_a_rate_is_kept_in_every_window_and_used(
    rate: Rate, arrivals: list[tuple[int, str, int]]
) -> None:
    arrivals_ns, starts_ns = asyncio.run(run_at(rate, arrivals))
    for first, begin_ns in enumerate(starts_ns):
        for last in range(first + rate.burst, len(starts_ns)):
            beyond_the_burst = last - first + 1 - rate.burst
            earned = (starts_ns[last] - begin_ns) * rate.count
            assert beyond_the_burst * rate.period_ns <= earned
    for number, (start_ns, ideal_ns) in enumerate(
        zip(starts_ns, ideal_starts(arrivals_ns, rate), strict=True)
    ):
        # Each permit comes back at a whole nanosecond.
        assert 0 <= start_ns - ideal_ns <= number


@dataclass(frozen=True)
class Sent:
    """A batch: when it is sent and what becomes of it."""

    steps: int
    caller: str
    calls: list[tuple[int, int]]
    max_concurrency: int
    cancels: bool


SENT = st.builds(
    Sent,
    st.integers(0, 10),
    st.sampled_from(["a", "b"]),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=8),
    st.integers(1, 4),
    st.booleans(),
)
TOOL = st.fixed_dictionaries(
    {
        "rate": st.none() | RATES,
        "max_concurrency": st.sampled_from([1, 2, 99]),
        "groups": st.sampled_from([(), ("api",), ("api", "few")]),
    }
)


def assert_nobody_waits_in_vain(b: Bench) -> None:
    """Asserts that something keeps each flow that waits from starting a call."""
    now_ns = b.clock.now_ns()
    for flow in (flow for batch in b.engine._open for flow in batch.flows.values()):
        full = [
            limiter
            for limiter in flow.limiters
            if limiter.active >= limiter.limit and not limiter.refill(now_ns)
        ]
        assert full or not flow.waiting, flow


@given(
    tools=st.lists(TOOL, min_size=3, max_size=3),
    shared=RATES,
    batches=st.lists(SENT, min_size=1, max_size=5),
    most=st.integers(1, 4),
)
@settings(max_examples=100)
def test_rates_and_limits_lose_no_wake_up(
    tools: list[dict[str, Any]], shared: Rate, batches: list[Sent], most: int
) -> None:
    clock = FakeClock()

    async def work(call: Call) -> str:
        done = asyncio.Event()
        clock.call_at(clock.now_ns() + int(call.request.id) * SECOND_NS // 20, done.set)
        await done.wait()
        return "done"

    async def run() -> None:
        groups = {"api": Group(rate=shared), "few": Group(max_concurrency=1)}
        served = [bound(f"t{n}", work, queue_timeout_s=1e6, **spec) for n, spec in enumerate(tools)]
        async with bench(*served, clock=clock, groups=groups, max_concurrency=most) as b:
            turns = []
            for sent in batches:
                for _ in range(sent.steps):
                    await clock.advance(STEP_S)
                    assert_nobody_waits_in_vain(b)
                calls = [ToolCall(str(steps), f"t{tool}") for tool, steps in sent.calls]
                turn = await b.start(
                    calls, caller=sent.caller, max_concurrency=sent.max_concurrency
                )
                turns.append(turn)
                if sent.cancels:
                    turns[len(turns) // 2].task.cancel()
                    await settle()
                assert_nobody_waits_in_vain(b)
            await clock.advance(500)
            assert all(turn.done for turn in turns)
            b.assert_idle()

    asyncio.run(run())


class Waiting:
    """A party with calls."""

    def __init__(self, caller: str, batch: int, calls: int) -> None:
        self.turn_key = (caller, batch)
        self.calls = calls


def calls_left(party: Waiting) -> int:
    return party.calls


PARTIES = st.lists(
    st.builds(Waiting, st.sampled_from("abc"), st.integers(0, 2), st.integers(1, 5)), max_size=8
)


@given(
    parties=PARTIES, own=st.integers(0, 8), caller=st.sampled_from("abc"), turns=st.integers(0, 9)
)
def test_turns_are_foretold(parties: list[Waiting], own: int, caller: str, turns: int) -> None:
    ring: Rotation[Waiting] = Rotation()
    for party in parties:
        ring.push(party)
    asks = parties[own] if own < len(parties) else Waiting(caller, 0, 0)
    for _ in range(turns if len(parties) > 1 else 0):
        ring.push(ring.pop())  # each is somewhere on its way
    foretold = ring.turns_until(asks, asks.calls + 1, calls_left)
    if asks not in parties:
        ring.push(asks)
    asks.calls += 1

    taken = 0
    while asks.calls:
        party = ring.pop()
        party.calls -= 1
        taken += 1
        if party.calls:
            ring.push(party)
    assert taken == foretold
