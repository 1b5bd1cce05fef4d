"""Rates: who waits, for how long, and who is refused at once."""

from functools import partial

import pytest
from tests.support.clock import FakeClock, settle
from tests.support.engines import (
    Bench,
    Gate,
    bench,
    bound,
    calls_of,
    echo,
    failure_of,
    reasons,
)
from tests.support.policies import SECOND_NS, Starts, Watch, every, per_second

from sidecall_server.core.call import BlockCause, OnFailure, ToolCall
from sidecall_server.core.outcome import ExecutionState
from sidecall_server.core.tool import Group, Rate


def rate_of(b: Bench, name: str = "tool") -> tuple[int, int]:
    """Permits that are spent, and flows that wait."""
    statistics = b.engine.statistics().rates[f"{name} rate"]
    return statistics.active, statistics.waiting


async def test_a_burst_then_the_steady_rate() -> None:
    clock = FakeClock()
    starts = Starts(clock)
    async with bench(bound("tool", starts, rate=per_second(2, burst=3)), clock=clock) as b:
        turn = await b.start(calls_of("tool", 7))
        assert starts.at_s == [0, 0, 0]
        await clock.advance(10)

        assert starts.at_s == [0, 0, 0, 0.5, 1, 1.5, 2]
        assert reasons(turn.calls()) == ["OK"] * 7
        assert [call.blocked_ns for call in turn.calls()] == [
            *[None] * 3,
            *[{BlockCause.RATE: n * SECOND_NS // 2} for n in (1, 2, 3, 4)],
        ]
        b.assert_idle()
        await b.start(calls_of("tool", 4))
        assert starts.at_s[7:] == [10, 10, 10]


async def test_what_does_not_divide_evenly_is_neither_lost_nor_given_away() -> None:
    clock = FakeClock()
    starts = Starts(clock)
    async with bench(
        bound("tool", starts, rate=Rate(3, SECOND_NS, 1), queue_timeout_s=1e6), clock=clock
    ) as b:
        turn = await b.start(calls_of("tool", 301))
        await clock.advance(100.000_001)

        assert turn.done
        assert starts.at_s[-1] == pytest.approx(100, abs=1e-6)
        assert all(at_s >= n / 3 for n, at_s in enumerate(starts.at_s))


async def test_rate_and_max_concurrency_both_hold() -> None:
    gate = Gate()
    async with bench(bound("tool", gate, rate=per_second(1, burst=2), max_concurrency=1)) as b:
        turn = await b.start(calls_of("tool", 3))
        assert gate.started == [0]
        await b.clock.advance(0.5)
        gate.open(0, 1)
        await settle()
        assert gate.started == [0, 1]  # the burst allows it, and there is room again
        await b.clock.advance(0.4)
        assert gate.started == [0, 1]  # there is room, but the burst is spent
        await b.clock.advance(0.1)
        assert gate.started == [0, 1, 2]
        gate.open(2)
        await settle()

        half_ns = SECOND_NS // 2
        assert [call.blocked_ns for call in turn.calls()] == [
            None,
            {BlockCause.TOOL_LIMIT: half_ns},
            {BlockCause.TOOL_LIMIT: half_ns, BlockCause.RATE: half_ns},
        ]
        b.assert_idle()


async def test_a_permit_of_a_rate_that_comes_back_waits_for_room() -> None:
    gate = Gate()
    async with bench(bound("tool", gate, rate=per_second(), max_concurrency=1)) as b:
        turn = await b.start(calls_of("tool", 2))
        await b.clock.advance(3)
        assert gate.started == [0]
        gate.open(0, 1)
        await settle()

        assert reasons(turn.calls()) == ["OK", "OK"]
        b.assert_idle()


async def test_a_shared_rate_is_shared_fairly() -> None:
    clock = FakeClock()
    first, second = Starts(clock), Starts(clock)
    async with bench(
        bound("first", first, groups=("api",)),
        bound("second", second, groups=("api",)),
        clock=clock,
        groups={"api": Group(rate=per_second())},
    ) as b:
        await b.start([*calls_of("first", 3), *calls_of("second", 3)])
        await clock.advance(5)

        assert sorted(first.at_s + second.at_s) == [0, 1, 2, 3, 4, 5]
        assert max(first.at_s) >= 4
        assert max(second.at_s) >= 4
        b.assert_idle()


@pytest.mark.parametrize(("own", "shared"), [(1, 2), (2, 1)])
async def test_the_slower_of_two_rates_decides(own: int, shared: int) -> None:
    clock = FakeClock()
    starts = Starts(clock)
    async with bench(
        bound("tool", starts, rate=per_second(own), groups=("api",)),
        clock=clock,
        groups={"api": Group(rate=per_second(shared))},
    ) as b:
        turns = [await b.start(calls_of("tool", 2), caller=f"c{n}") for n in range(3)]
        await clock.advance(5)

        assert starts.at_s == [0, 1, 2, 3, 4, 5]
        assert all(turn.done for turn in turns)
        assert all(
            sum((call.blocked_ns or {}).values()) == call.started_ns - call.ready_ns
            for turn in turns
            for call in turn.calls()
        )
        b.assert_idle()


async def test_turns_go_round_callers_and_their_batches() -> None:
    clock = FakeClock()
    starts = Starts(clock)
    async with bench(
        bound("tool", starts, rate=per_second(), queue_timeout_s=100), clock=clock
    ) as b:
        await b.start(calls_of("tool", 20), caller="busy")
        await b.start(calls_of("tool", 20), caller="busy")
        await b.start(calls_of("tool", 3), caller="quiet")
        await clock.advance(8)

        callers = [caller for caller, _ in starts.who]
        assert callers.count("quiet") == 3
        assert len(callers) == 9
        await clock.advance(50)
        b.assert_idle()


async def test_newcomers_do_not_overtake_when_the_timer_is_late() -> None:
    clock = FakeClock()
    starts = Starts(clock)
    async with bench(bound("tool", starts, rate=per_second()), clock=clock) as b:
        await b.start(calls_of("tool", 2), caller="first")
        clock._now_ns += 2 * SECOND_NS  # and nobody was called back yet
        await b.start(calls_of("tool", 1), caller="late")
        assert starts.who == [("first", 0)]
        await clock.advance(3)

        assert starts.who == [("first", 0), ("first", 1), ("late", 0)]
        b.assert_idle()


async def test_who_cannot_start_in_time_is_refused_at_once() -> None:
    starts = Starts(clock := FakeClock())
    async with bench(bound("tool", starts, rate=per_second()), clock=clock) as b:
        turn = await b.start(calls_of("tool", 5), timeout_s=3)
        await clock.advance(3)
        calls = turn.calls()

        assert reasons(calls) == ["OK", "OK", "OK", "RATE_LIMITED", "RATE_LIMITED"]
        for call in calls[3:]:
            assert call.finished_ns == call.received_ns
            assert failure_of(call).retry_after_s == 3
            assert failure_of(call).state is ExecutionState.NOT_STARTED
            assert call.attempt == 0
        assert starts.at_s == [0, 1, 2]
        b.assert_idle()


async def test_the_queue_timeout_bounds_the_wait_as_well() -> None:
    starts = Starts(clock := FakeClock())
    tool = bound("tool", starts, rate=per_second(1, burst=2), queue_timeout_s=2.5)
    async with bench(tool, clock=clock) as b:
        turn = await b.start(calls_of("tool", 6))
        await clock.advance(3)

        assert reasons(turn.calls()) == [*["OK"] * 4, "RATE_LIMITED", "RATE_LIMITED"]
        assert failure_of(turn.calls()[5]).retry_after_s == 3


async def test_a_calls_own_time_bounds_the_wait_as_well() -> None:
    starts = Starts(clock := FakeClock())
    async with bench(bound("tool", starts, rate=per_second()), clock=clock) as b:
        turn = await b.start([ToolCall("", "tool", timeout_s=t) for t in (9, 1, 1.5, 9)])
        await clock.advance(3)

        assert reasons(turn.calls()) == ["OK", "RATE_LIMITED", "OK", "OK"]
        assert failure_of(turn.calls()[1]).retry_after_s == 1
        assert starts.at_s == [0, 1, 2]


async def test_the_backlog_of_others_counts_only_as_far_as_it_comes_first() -> None:
    starts = Starts(clock := FakeClock())
    tool = bound("tool", starts, rate=per_second(), queue_timeout_s=1_000)
    async with bench(tool, clock=clock) as b:
        await b.start(calls_of("tool", 101), caller="large")
        await b.start(calls_of("tool", 1), caller="small")
        # Behind it: one call of the small one, and as many of the large one as have a turn.
        turn = await b.start(calls_of("tool", 9), caller="third", timeout_s=13.5)
        await clock.advance(14)

        assert reasons(turn.calls()) == [*["OK"] * 6, *["RATE_LIMITED"] * 3]
        assert [who for who in starts.who if who[0] == "third"] == [("third", n) for n in range(6)]


async def test_what_gives_up_waiting_spends_nothing() -> None:
    starts = Starts(clock := FakeClock())
    async with bench(bound("tool", starts, rate=per_second()), clock=clock) as b:
        await b.start(calls_of("tool", 1))
        cancelled = await b.start(calls_of("tool", 5), caller="cancelled")
        waits = await b.start(calls_of("tool", 2), caller="waits")
        cancelled.task.cancel()
        await settle()
        assert rate_of(b) == (1, 1)
        await clock.advance(2)

        assert starts.at_s == [0, 1, 2]
        assert reasons(waits.calls()) == ["OK", "OK"]
        b.assert_idle()


async def test_nothing_is_armed_when_nobody_waits_any_more() -> None:
    async with bench(bound("tool", echo, rate=every(3_600), queue_timeout_s=1e5)) as b:
        await b.run(calls_of("tool", 1))
        turn = await b.start(calls_of("tool", 3))
        (rate,) = b.engine.registry.rates()
        assert rate.timer is not None
        turn.task.cancel()
        await settle()

        b.assert_idle()


@pytest.mark.parametrize("reason", ["BATCH_DEADLINE", "CALL_DEADLINE", "QUEUE_TIMEOUT"])
async def test_a_time_that_is_over_while_waiting_ends_the_wait(reason: str) -> None:
    gate = Gate()
    tool = bound(
        "tool", gate, rate=per_second(), max_concurrency=1, queue_timeout_s=5, timeout_s=99
    )
    async with bench(tool) as b:
        own_s = 5.0 if reason == "CALL_DEADLINE" else None
        batch_ns = b.clock.now_ns() + 5 * SECOND_NS if reason == "BATCH_DEADLINE" else None
        turn = await b.start(
            [ToolCall("", "tool"), ToolCall("", "tool", timeout_s=own_s)], deadline_ns=batch_ns
        )
        await b.clock.advance(5)  # the rate would have let it start, the first call did not
        assert b.engine.statistics().queued == 0
        gate.open(0)
        await settle()

        assert reasons(turn.calls())[1] == reason
        assert turn.calls()[1].attempt == 0
        b.assert_idle()


async def test_a_rate_that_is_added_and_taken_away_holds_for_new_batches() -> None:
    starts = Starts(clock := FakeClock())
    tool = partial(bound, "tool", starts, queue_timeout_s=1e5)
    async with bench(tool(), clock=clock) as b:
        await b.run(calls_of("tool", 3))
        b.engine.swap([tool(rate=every(100))], {})
        limited = await b.start(calls_of("tool", 2))
        b.engine.swap([tool()], {})
        free = await b.run(calls_of("tool", 3))
        assert reasons(free) == ["OK"] * 3
        assert not limited.done
        await clock.advance(100)

        assert starts.at_s == [0, 0, 0, 0, 0, 0, 0, 100]
        assert limited.done
        b.assert_idle()


async def test_a_lowered_rate_asks_for_no_more_than_its_burst_back() -> None:
    starts = Starts(clock := FakeClock())
    tool = partial(bound, "tool", starts, queue_timeout_s=1e5)
    async with bench(tool(rate=per_second(1, burst=10)), clock=clock) as b:
        await b.run(calls_of("tool", 10))
        b.engine.swap([tool(rate=every(20))], {})
        await b.start(calls_of("tool", 2))
        await clock.advance(40)

        assert starts.at_s[10:] == [20, 40]


@pytest.mark.parametrize(("seconds", "starts_at_s"), [(2, 6), (20, 15), (10, 10)])
async def test_a_permit_on_its_way_stays_as_far_when_the_rate_changes(
    seconds: int, starts_at_s: float
) -> None:
    starts = Starts(clock := FakeClock())
    tool = partial(bound, "tool", starts, queue_timeout_s=1e5)
    async with bench(tool(rate=every(10)), clock=clock) as b:
        await b.start(calls_of("tool", 2))
        await clock.advance(5)  # half of it
        b.engine.swap([tool(rate=every(seconds))], {})
        await clock.advance(20)

        assert starts.at_s == [0, starts_at_s]


async def test_a_shared_rate_that_is_raised_wakes_who_waits() -> None:
    starts = Starts(clock := FakeClock())
    tool = bound("tool", starts, groups=("api",), queue_timeout_s=1e5)
    async with bench(tool, clock=clock, groups={"api": Group(rate=every(1_000))}) as b:
        turn = await b.start(calls_of("tool", 5))
        b.engine.swap([tool], {"api": Group(rate=every(1_000, burst=5))})
        await settle()

        assert starts.at_s == [0] * 5
        assert turn.done
        b.assert_idle()


async def test_who_waits_for_a_rate_is_told_so() -> None:
    watch = Watch()
    async with bench(bound("tool", echo, rate=per_second())) as b:
        await b.start(calls_of("tool", 2), watch)
        assert watch.queued == [(1, BlockCause.RATE)]


async def test_a_refused_call_stops_its_batch() -> None:
    async with bench(bound("tool", echo, rate=per_second(1, burst=2))) as b:
        turn = await b.start(calls_of("tool", 5), timeout_s=1, on_failure=OnFailure.STOP)
        await b.clock.advance(1)

        assert reasons(turn.calls()) == ["OK", "OK", "RATE_LIMITED", "STOPPED", "STOPPED"]
        b.assert_idle()
