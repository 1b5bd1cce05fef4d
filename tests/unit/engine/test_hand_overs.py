"""Calls that lead a shared run after another one: what they inherit, and what they do not."""

import asyncio
from dataclasses import replace

from tests.support.clock import settle
from tests.support.engines import bench, bound, failure_of, reasons, text_of
from tests.support.runs import CACHE, Runs, read, shared

from sidecall_server.core.call import BatchOptions, BlockCause
from sidecall_server.core.outcome import Code, ExecutionState, Failure, Reason
from sidecall_server.core.tool import Retry

RETRY = Retry(
    max_attempts=2,
    backoff_s=100.0,
    max_backoff_s=100.0,
    budget=1.0,
    codes=frozenset({Code.UNAVAILABLE}),
)
BUSY = Failure(Reason.TOOL_FAILED, "busy", ExecutionState.COMPLETED, code=Code.UNAVAILABLE)


async def test_the_time_that_another_call_ran_is_no_time_in_the_queue() -> None:
    runs = Runs()
    tool = shared(runs, retry=RETRY, queue_timeout_s=60.0, timeout_s=100.0)
    async with bench(tool) as b:
        leader, follower = await b.start([read()]), await b.start([read()])
        await b.clock.advance(61)
        await runs[0].finish(BUSY)
        leader.task.cancel()  # it waits for its second attempt
        await settle()
        await runs[1].finish("mine")

        assert text_of(follower.calls()[0]) == "mine"
        blocked = follower.calls()[0].blocked_ns or {}
        assert blocked == {BlockCause.SAME_CALL: 61_000_000_000}
        b.assert_idle()


async def test_the_time_that_another_call_stood_in_line_counts() -> None:
    runs = Runs()
    tool = shared(runs, max_concurrency=1, queue_timeout_s=60.0, timeout_s=100.0)
    async with bench(tool) as b:
        running = await b.start([read('{"q": "another"}')])
        turns = [await b.start([read()]) for _ in range(3)]
        await b.clock.advance(60)

        assert [reasons(turn.calls()) for turn in turns] == [["QUEUE_TIMEOUT"]] * 3
        await runs[0].finish()
        assert reasons(running.calls()) == ["OK"]
        b.assert_idle()


async def test_an_attempt_that_lost_its_client_is_repeated_for_those_who_wait() -> None:
    runs = Runs()
    async with bench(shared(runs, retry=RETRY)) as b:
        leader, follower = await b.start([read()]), await b.start([read()])
        leader.task.cancel()
        await settle()
        await runs[0].finish(BUSY)
        await runs[1].finish("after all")

        assert text_of(follower.calls()[0]) == "after all"
        b.assert_idle()


async def test_a_failure_that_is_not_repeated_is_shared() -> None:
    runs = Runs()
    async with bench(shared(runs, retry=RETRY)) as b:
        leader, follower = await b.start([read()]), await b.start([read()])
        leader.task.cancel()
        await settle()
        await runs[0].finish(replace(BUSY, code=Code.NOT_FOUND))

        assert failure_of(follower.calls()[0]).code is Code.NOT_FOUND
        assert len(runs) == 1
        b.assert_idle()


async def test_without_named_keys_the_whole_context_makes_results_differ() -> None:
    runs = Runs()
    everything = replace(CACHE, context_keys=None)
    async with bench(shared(runs, sharing=everything)) as b:
        await b.start([read()], context={"user": "ann"})
        await runs[0].finish("of ann")
        (hit,) = await b.run([read()], context={"user": "ann"})
        other = await b.start([read()], context={"user": "bob"})
        await runs[1].finish("of bob")

        assert text_of(hit) == "of ann"
        assert text_of(other.calls()[0]) == "of bob"
        b.assert_idle()


async def test_a_drain_waits_for_attempts_whose_client_is_gone() -> None:
    runs = Runs()
    async with bench(bound("read", runs)) as b:
        turn = await b.start([read()], request_id="r")
        turn.task.cancel()
        await settle()
        b.engine.refuse_batches()
        drained = asyncio.ensure_future(b.engine.wait_detached())
        await settle()
        assert not drained.done()
        await runs[0].finish("done")
        await settle()

        assert drained.done()
        again = await b.run([read()], request_id="r")
        assert text_of(again[0]) == "done"
        b.assert_idle()


async def test_what_still_runs_at_the_stop_is_remembered_as_unknown() -> None:
    runs = Runs()
    async with bench(bound("read", runs)) as b:
        turn = await b.start([read()], request_id="r")
        turn.task.cancel()
        await settle()
        await b.engine.stop(1.0)

        assert runs[0].cancelled
        log = (await b.engine.ledger.look_up(BatchOptions(request_id="r"), [read()])).log
        assert log is not None
        outcome = log.entries[0].outcome
        assert isinstance(outcome, Failure)
        assert (outcome.reason, outcome.state) == (Reason.DRAINING, ExecutionState.UNKNOWN)
