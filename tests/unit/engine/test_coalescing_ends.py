"""Shared runs whose leader or whose followers go away."""

import asyncio
from collections.abc import Callable

import pytest
from tests.support.clock import settle
from tests.support.engines import Bench, bench, bound, calls_of, failure_of, reasons, text_of
from tests.support.runs import Runs, read, shared

from sidecall_server.core.call import BatchOptions, OnFailure, ToolCall
from sidecall_server.core.outcome import Code, ExecutionState
from sidecall_server.core.tool import Breaker, Retry
from sidecall_server.engine.stream import StreamIntake

RETRY = Retry(3, 10.0, 10.0, 1.0, frozenset({Code.UNKNOWN}))


async def test_the_run_goes_on_for_others_when_the_leaders_client_leaves() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        leader, follower = await b.start([read()]), await b.start([read()])
        leader.task.cancel()
        await settle()
        assert not runs[0].cancelled
        assert not runs[0].call.cancelled
        await runs[0].finish("for you")

        assert text_of(follower.calls()[0]) == "for you"
        assert len(runs) == 1
        b.assert_idle()


async def test_the_run_goes_on_for_others_beyond_the_leaders_deadline() -> None:
    runs = Runs()
    async with bench(shared(runs, timeout_s=10)) as b:
        leader = await b.start([read(), read('{"a": 1}')], timeout_s=2)
        follower = await b.start([read()], timeout_s=20)
        await b.clock.advance(9)

        assert reasons(leader.calls()) == ["BATCH_DEADLINE"] * 2
        assert failure_of(leader.calls()[0]).state is ExecutionState.UNKNOWN
        assert [run.cancelled for run in runs.all] == [False, True]
        assert runs[0].call.deadline_ns == runs[0].call.started_ns + 10_000_000_000
        await runs[0].finish("for you")
        assert text_of(follower.calls()[0]) == "for you"
        b.assert_idle()


async def test_a_run_without_its_leader_is_bounded_by_the_timeout_of_its_tool() -> None:
    runs = Runs()
    async with bench(shared(runs, timeout_s=10)) as b:
        leader = await b.start([read(timeout_s=2.0)])
        follower = await b.start([read()])
        await b.clock.advance(9.5)
        assert not follower.done
        await b.clock.advance(0.5)

        assert reasons(leader.calls() + follower.calls()) == ["CALL_DEADLINE", "TOOL_TIMEOUT"]
        assert runs[0].cancelled
        b.assert_idle()


async def test_the_run_goes_on_for_others_when_the_leader_is_cancelled_alone() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        batch = b.engine.open(BatchOptions())
        intake = StreamIntake(b.engine, batch)
        await intake.add(0, read())
        await intake.add(1, read())
        await settle()
        intake.cancel(0)
        await intake.seal(2)
        await runs[0].finish("for the other")

        assert reasons(list(batch.calls.values())) == ["CANCELLED", "OK"]
        assert batch.done.done()
        b.engine.close(batch)
        b.assert_idle()


async def test_the_run_is_cancelled_when_nobody_waits_any_more() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        turns = [await b.start([read()]) for _ in range(3)]
        for turn in turns[:2]:
            turn.task.cancel()
            await settle()
        assert not runs[0].cancelled
        turns[2].task.cancel()
        await settle()

        assert runs[0].cancelled
        b.assert_idle()


async def test_a_follower_leaves_without_harm() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        leader, follower = await b.start([read()]), await b.start([read()])
        follower.task.cancel()
        await settle()
        assert not runs[0].cancelled
        await runs[0].finish("one")

        assert text_of(leader.calls()[0]) == "one"
        b.assert_idle()


async def test_a_call_joins_a_run_that_its_leader_has_left() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        leader, follower = await b.start([read()]), await b.start([read()])
        leader.task.cancel()
        await settle()
        late = await b.start([read()])
        follower.task.cancel()
        await settle()
        await runs[0].finish("for the late")

        assert text_of(late.calls()[0]) == "for the late"
        b.assert_idle()


async def test_a_run_that_was_given_up_answers_no_later_call() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        leader, follower = await b.start([read()]), await b.start([read()])
        leader.task.cancel()
        await settle()
        follower.task.cancel()
        await settle()
        late = await b.start([read()])
        await runs[1].finish("two")

        assert text_of(late.calls()[0]) == "two"
        b.assert_idle()


async def test_a_follower_has_a_deadline_of_its_own() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        leader = await b.start([read()])
        by_call = await b.start([read(timeout_s=1.0)])
        by_batch = await b.start([read()], timeout_s=2)
        await b.clock.advance(3)

        calls = by_call.calls() + by_batch.calls()
        assert reasons(calls) == ["CALL_DEADLINE", "BATCH_DEADLINE"]
        assert [failure_of(call).state for call in calls] == [ExecutionState.NOT_STARTED] * 2
        assert not leader.done
        assert not runs[0].cancelled


async def test_a_leader_whose_attempt_outlives_it_frees_the_bound_of_its_batch() -> None:
    runs = Runs()
    async with bench(shared(runs), bound("write", runs), max_concurrency=2) as b:
        turn = await b.start([read(timeout_s=1.0), ToolCall("", "write")], max_concurrency=1)
        follower = await b.start([read()])
        await b.clock.advance(1)

        assert [run.call.request.name for run in runs.all] == ["read", "write"]
        limiters = b.engine.statistics().limiters
        assert (limiters["read"].active, limiters["sidecar"].active) == (1, 1)
        await runs[0].finish("for you")
        await runs[1].finish()
        assert reasons(turn.calls() + follower.calls()) == ["CALL_DEADLINE", "OK", "OK"]
        b.assert_idle()


async def test_a_leader_that_waited_too_long_hands_over() -> None:
    runs = Runs()
    async with bench(shared(runs, max_concurrency=1, queue_timeout_s=5)) as b:
        await b.start([read('{"a": 1}')])
        leader = await b.start([read()])
        await b.clock.advance(3)
        follower = await b.start([read()])
        await b.clock.advance(3)
        assert reasons(leader.calls()) == ["QUEUE_TIMEOUT"]
        assert not follower.done
        await runs[0].finish()
        await runs[1].finish("two")

        assert text_of(follower.calls()[0]) == "two"
        assert not follower.calls()[0].coalesced
        b.assert_idle()


@pytest.mark.parametrize("count", [1, 3])
async def test_a_leader_that_waits_in_line_hands_over_when_its_client_leaves(count: int) -> None:
    """The other identical calls of its batch leave with it, and no trace of them is left."""
    runs = Runs()
    async with bench(shared(runs, max_concurrency=1)) as b:
        first = await b.start([read('{"a": 1}')])
        leader = await b.start([read()] * count)
        follower = await b.start([read()])
        leader.task.cancel()
        await settle()
        assert b.engine.statistics().queued == 1
        await runs[0].finish()
        await runs[1].finish("two")

        assert len(runs) == 2
        assert text_of(follower.calls()[0]) == "two"
        assert first.done
        b.assert_idle()


async def test_identical_calls_that_wait_in_line_all_leave_with_their_client() -> None:
    runs = Runs()
    async with bench(shared(runs, max_concurrency=1)) as b:
        first = await b.start([read('{"a": 1}')])
        turn = await b.start(calls_of("read", 50))
        turn.task.cancel()
        await settle()
        assert b.engine.statistics().queued == 0
        assert b.engine.statistics().shared_runs == 1
        await runs[0].finish()

        assert len(runs) == 1
        assert first.done
        b.assert_idle()


async def test_identical_calls_that_wait_in_line_are_all_stopped() -> None:
    runs, others = Runs(), Runs()
    tools = (shared(runs, max_concurrency=1), bound("write", others))
    async with bench(*tools) as b:
        await b.start([read('{"a": 1}')])
        calls = [ToolCall("", "write"), *calls_of("read", 3)]
        turn = await b.start(calls, on_failure=OnFailure.STOP)
        other = await b.start([read()])
        await others[0].fail()

        assert reasons(turn.calls()) == ["TOOL_FAILED", *["STOPPED"] * 3]
        assert b.engine.statistics().queued == 1
        await runs[0].finish()
        await runs[1].finish("two")
        assert text_of(other.calls()[0]) == "two"
        b.assert_idle()


async def test_a_leader_that_finds_no_place_hands_over() -> None:
    runs = Runs()
    tool = shared(runs, max_concurrency=1, max_queue=1, queue_timeout_s=5)
    async with bench(tool) as b:
        await b.start([read('{"a": 1}')])
        leader, follower = await b.start([read()]), await b.start([read()])
        full = await b.start([read('{"b": 1}')])
        assert reasons(full.calls()) == ["QUEUE_FULL"]
        leader.task.cancel()
        await settle()
        assert not follower.done
        await runs[0].finish()
        await runs[1].finish("two")

        assert text_of(follower.calls()[0]) == "two"
        b.assert_idle()


async def test_a_leader_that_is_given_up_between_attempts_hands_over() -> None:
    runs = Runs()
    async with bench(shared(runs, retry=RETRY)) as b:
        leader, follower = await b.start([read()]), await b.start([read()])
        await runs[0].fail()
        assert not leader.done
        leader.task.cancel()
        await settle()
        assert not follower.done
        await runs[1].finish("two")

        assert text_of(follower.calls()[0]) == "two"
        b.assert_idle()


async def test_a_probe_that_nobody_waits_for_gives_its_place_back() -> None:
    runs = Runs()
    breaker = Breaker(0.5, 1, 60.0, 5.0, 1)
    async with bench(shared(runs, breaker=breaker)) as b:
        await b.start([read()])
        await runs[0].fail()
        await b.clock.advance(6)
        leader, follower = await b.start([read()]), await b.start([read()])
        assert len(runs) == 2
        leader.task.cancel()
        await settle()
        follower.task.cancel()
        await settle()
        assert runs[1].cancelled

        probe = await b.start([read()])
        await runs[2].finish("works")
        assert text_of(probe.calls()[0]) == "works"
        b.assert_idle()


async def test_thousands_of_followers_get_one_outcome() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        turns = [await b.start(calls_of("read", 5_000)) for _ in range(2)]
        assert len(runs) == 1
        await runs[0].finish("one")
        await asyncio.wait([turn.task for turn in turns])

        assert all(text_of(call) == "one" for turn in turns for call in turn.calls())
        b.assert_idle()


async def test_thousands_of_followers_can_all_find_no_place() -> None:
    """Each takes over from the one before it, and ends at once as well."""
    runs = Runs()
    async with bench(shared(runs, max_concurrency=1, queue_timeout_s=5)) as b:
        await b.start([read('{"a": 1}')])
        turn = await b.start(calls_of("read", 5_000))
        await b.clock.advance(5)

        assert reasons(turn.calls()) == ["QUEUE_TIMEOUT"] * 5_000
        assert all(not call.coalesced for call in turn.calls())
        assert b.engine.statistics().queued == 0
        await runs[0].finish()
        b.assert_idle()


async def test_thousands_of_followers_can_be_refused_in_one_moment() -> None:
    """Each takes over from the one before it within the end of that one."""
    runs = Runs()
    breaker = Breaker(0.5, 1, 60.0, 5.0, 1)
    async with bench(shared(runs, max_concurrency=1, breaker=breaker)) as b:
        await b.start([read('{"a": 1}')])
        turn = await b.start(calls_of("read", 5_000))
        await runs[0].fail()

        assert reasons(turn.calls()) == ["CIRCUIT_OPEN"] * 5_000
        b.assert_idle()


async def test_thousands_of_followers_can_leave_one_by_one() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        leader = await b.start([read()])
        turn = await b.start(calls_of("read", 5_000))
        leader.task.cancel()
        await settle()
        assert not runs[0].cancelled
        turn.task.cancel()
        await settle()

        assert runs[0].cancelled
        b.assert_idle()


async def test_a_drain_ends_all_that_wait() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        first, second = await b.start([read()]), await b.start([read()] * 2)
        b.engine.refuse_batches()
        b.engine.cancel_open()
        await settle()

        assert reasons(first.calls() + second.calls()) == ["DRAINING"] * 3
        assert runs[0].cancelled
        assert len(runs) == 1
        b.assert_idle()


async def test_a_run_that_goes_on_for_others_is_waited_for_when_it_drains() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        leader, follower = await b.start([read()]), await b.start([read()])
        leader.task.cancel()
        b.engine.refuse_batches()
        await settle()
        assert b.engine.statistics().open_batches == 1
        await runs[0].finish("in time")

        assert text_of(follower.calls()[0]) == "in time"
        b.assert_idle()


@pytest.mark.parametrize("first", ["leader", "follower"])
async def test_leaving_and_ending_in_one_moment(first: str) -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        leader, follower = await b.start([read()]), await b.start([read()])
        steps: list[Callable[[], object]] = [leader.task.cancel, follower.task.cancel]
        for step in steps if first == "leader" else reversed(steps):
            step()
        await runs[0].finish("too late, or not")
        await settle()

        assert_all_ended(b, runs)


def assert_all_ended(b: Bench, runs: Runs) -> None:
    assert len(runs) == 1
    b.assert_idle()
