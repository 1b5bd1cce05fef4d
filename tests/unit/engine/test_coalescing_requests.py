"""Shared runs of requests that may be sent again, and of calls with idempotency keys."""

from tests.support.clock import settle
from tests.support.engines import bench, bound, failure_of, reasons, text_of
from tests.support.runs import CACHE, Runs, read, shared

from sidecall_server.core.call import ToolCall
from sidecall_server.core.outcome import ExecutionState
from sidecall_server.core.tool import Breaker


async def test_a_run_goes_on_for_a_request_that_may_be_sent_again() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        leader = await b.start([read()], request_id="r")
        follower = await b.start([read()])
        for turn in (leader, follower):
            turn.task.cancel()
            await settle()
        assert not runs[0].cancelled
        again = await b.start([read()], request_id="r")
        await runs[0].finish("kept")

        (call,) = again.calls()
        assert (text_of(call), call.replayed, call.attempt) == ("kept", True, 1)
        assert len(runs) == 1
        b.assert_idle()


async def test_a_follower_that_may_be_sent_again_joins_anew() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        leader = await b.start([read()])
        follower = await b.start([read()], request_id="r")
        follower.task.cancel()
        await settle()
        again = await b.start([read()], request_id="r")
        await runs[0].finish("one")

        assert [text_of(c) for c in leader.calls() + again.calls()] == ["one"] * 2
        assert again.calls()[0].coalesced
        b.assert_idle()


async def test_what_was_shared_is_replayed() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        await b.start([read()])
        follower = await b.start([read()], request_id="r")
        await runs[0].finish("one")
        (again,) = await b.run([read()], request_id="r")

        assert text_of(follower.calls()[0]) == text_of(again) == "one"
        assert again.replayed
        assert len(runs) == 1
        b.assert_idle()


async def test_a_send_hands_its_part_in_a_shared_run_to_the_next_send() -> None:
    """A send that waits for another call's run, and that is waited for by its own resend."""
    runs = Runs()
    async with bench(shared(runs)) as b:
        await b.start([read()])
        first = await b.start([read()], request_id="r")
        second = await b.start([read()], request_id="r")
        first.task.cancel()
        await settle()
        await runs[0].finish("one")

        assert text_of(second.calls()[0]) == "one"
        b.assert_idle()


async def test_identical_calls_with_different_keys_share_a_run() -> None:
    runs = Runs()
    async with bench(shared(runs)) as b:
        calls = [read(idempotency_key="a"), read(idempotency_key="b"), read()]
        turn = await b.start(calls)
        assert len(runs) == 1
        await runs[0].finish("one")
        again = await b.run(calls[:2])

        assert [text_of(call) for call in turn.calls()] == ["one"] * 3
        assert [(text_of(call), call.replayed) for call in again] == [("one", True)] * 2
        b.assert_idle()


async def test_a_call_that_waits_for_one_with_its_key_may_have_run() -> None:
    runs = Runs()
    async with bench(bound("write", runs)) as b:
        write = ToolCall("", "write", idempotency_key="k")
        first = await b.start([write])
        second = await b.start([write], timeout_s=1)
        await b.clock.advance(1)

        failure = failure_of(second.calls()[0])
        assert (failure.reason.name, failure.state) == ("BATCH_DEADLINE", ExecutionState.UNKNOWN)
        await runs[0].finish()
        assert reasons(first.calls()) == ["OK"]
        b.assert_idle()


async def test_a_run_whose_client_had_gone_shows_nothing_at_its_deadline() -> None:
    """Breakers count what tools do, not what clients do."""
    runs = Runs()
    breaker = Breaker(0.5, 1, 60.0, 5.0, 1)
    async with bench(shared(runs, timeout_s=30, breaker=breaker)) as b:
        turn = await b.start([read()], request_id="r", timeout_s=5)
        turn.task.cancel()
        await b.clock.advance(4)
        assert not runs[0].cancelled
        await b.clock.advance(1)
        assert runs[0].cancelled
        assert b.engine.statistics().breakers["read"].failures == 0
        again = await b.start([read()], request_id="r")
        await runs[1].finish("two")

        assert text_of(again.calls()[0]) == "two"
        b.assert_idle()


async def test_who_joins_a_run_whose_client_had_gone_gives_it_the_time_of_its_tool() -> None:
    runs = Runs()
    async with bench(shared(runs, timeout_s=30)) as b:
        turn = await b.start([read()], request_id="r", timeout_s=5)
        turn.task.cancel()
        await b.clock.advance(4)
        other = await b.start([read()])
        await b.clock.advance(20)
        await runs[0].finish("one")

        assert text_of(other.calls()[0]) == "one"
        assert len(runs) == 1
        b.assert_idle()


async def test_a_cached_result_is_remembered_as_the_requests_own() -> None:
    runs = Runs()
    async with bench(shared(runs, sharing=CACHE)) as b:
        await b.start([read()])
        await runs[0].finish("one")
        (hit,) = await b.run([read()], request_id="r")
        await b.clock.advance(61)
        (again,) = await b.run([read()], request_id="r")

        assert (hit.coalesced, again.replayed) == (True, True)
        assert text_of(again) == "one"
        assert len(runs) == 1
