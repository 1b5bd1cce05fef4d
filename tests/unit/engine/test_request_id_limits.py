"""What a request_id is bound to: its calls, its options, its caller, a drain, time and memory."""

from typing import Any

import pytest
from tests.support.clock import settle
from tests.support.engines import Bench, bench, bound, failure_of, reasons, text_of
from tests.support.works import Works, to

from sidecall_server.core.call import Mode, OnFailure, ToolCall
from sidecall_server.core.outcome import ExecutionState
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.core.tool import Effects

CALLS = [to("write", "a", "one"), to("write", "b", "two")]

OTHERS: dict[str, list[ToolCall]] = {
    "order": CALLS[::-1],
    "fewer": CALLS[:1],
    "more": [*CALLS, to("write", "c")],
    "none": [],
    "tool": [to("put", "a", "one"), CALLS[1]],
    "arguments": [to("write", "x", "one"), CALLS[1]],
    "id": [to("write", "a", "1"), CALLS[1]],
    "key": [to("write", "a", "one", idempotency_key="k"), CALLS[1]],
    "dependency": [CALLS[0], to("write", "b", "two", depends_on=("one",))],
}
OPTIONS: dict[str, dict[str, Any]] = {
    "mode": {"mode": Mode.SEQUENTIAL},
    "on_failure": {"on_failure": OnFailure.STOP},
    "context": {"context": {"tenant": "other"}},
    "references": {"references": False},
    "session": {"session_id": "s"},
}


async def refused(b: Bench, calls: list[ToolCall], **options: Any) -> Rejection:
    with pytest.raises(Rejection) as caught:
        await b.run(calls, **options)
    assert caught.value.reason is RejectionReason.REQUEST_ID_REUSED
    assert caught.value.field == "request_id"
    return caught.value


@pytest.mark.parametrize("calls", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("in_flight", [False, True])
async def test_other_calls_are_refused(calls: list[ToolCall], in_flight: bool) -> None:
    works = Works(*("" if in_flight else "ab"))
    async with bench(*works.tools()) as b:
        first = await b.start(CALLS, request_id="r")
        before = list(works.started)
        await refused(b, calls, request_id="r")

        assert works.started == before
        works.open("a", "b")
        await settle()
        assert reasons(first.calls()) == ["OK", "OK"]
        assert reasons(await b.run(CALLS, request_id="r")) == ["OK", "OK"], "the id is unharmed"
        assert works.started == before
        b.assert_idle()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_other_options_are_refused(options: dict[str, Any]) -> None:
    works = Works("a", "b")
    async with bench(*works.tools()) as b:
        await b.run(CALLS, request_id="r")
        await refused(b, CALLS, request_id="r", **options)

        assert reasons(await b.run(CALLS, request_id="r")) == ["OK", "OK"]
        assert works.started == ["a", "b"]
        b.assert_idle()


async def test_other_times_and_bounds_are_fine() -> None:
    works = Works("a", "b")
    async with bench(*works.tools()) as b:
        await b.run(CALLS, request_id="r")
        timed = [to("write", "a", "one", timeout_s=3.0), CALLS[1]]
        again = await b.run(
            timed, request_id="r", timeout_s=7.0, max_concurrency=1, caller="new address"
        )

        assert [call.replayed for call in again] == [True, True]


async def test_other_callers_have_ids_of_their_own() -> None:
    works = Works("a", "b")
    async with bench(*works.tools()) as b:
        await b.run(CALLS, request_id="r", identity="alice")
        others = await b.run(CALLS[:1], request_id="r", identity="bob")

        assert [call.replayed for call in others] == [False]
        assert works.counts == {"a": 2, "b": 1}


async def test_one_of_two_first_sends_with_other_calls_is_refused() -> None:
    """Both are compared at a time at which neither has been taken in."""
    works = Works(*"ab")
    one, two = [to("write", "a")] * 5000, [to("write", "b")] * 5000
    async with bench(*works.tools(max_concurrency=8)) as b:
        first = await b.start(one, request_id="r")
        second = await b.start(two, request_id="r")
        ends = [await _end(turn.task) for turn in (first, second)]

        assert sorted(ends) == ["OK", "REQUEST_ID_REUSED"]
        assert len(works.counts) == 1
        assert works.started == works.started[:1] * 5000


async def test_one_of_two_first_sends_with_other_options_is_refused() -> None:
    works = Works("a")
    calls = [to("write", "a")] * 5000
    async with bench(*works.tools()) as b:
        first = await b.start(calls, request_id="r")
        second = await b.start(calls, request_id="r", mode=Mode.SEQUENTIAL)
        ends = [await _end(turn.task) for turn in (first, second)]

        assert ends == ["OK", "REQUEST_ID_REUSED"]
        assert works.counts == {"a": 5000}


async def _end(task: Any) -> str:
    try:
        await task
    except Rejection as rejection:
        return rejection.reason.name
    return "OK"


async def test_known_ids_are_served_during_a_drain() -> None:
    works = Works("a")
    async with bench(*works.tools(timeout_s=1.0)) as b:
        done = await b.run(CALLS[:1], request_id="done")
        turn = await b.start([*CALLS, to("write", "c", depends_on=("two",))], request_id="r")
        b.engine.refuse_batches()
        second = await b.start([*CALLS, to("write", "c", depends_on=("two",))], request_id="r")
        again = await b.run(CALLS[:1], request_id="done")
        with pytest.raises(Rejection) as caught:
            await b.run(CALLS, request_id="new")
        works.open("b", "c")
        await settle()

        assert caught.value.reason is RejectionReason.DRAINING
        assert reasons(done) == reasons(again) == ["OK"]
        assert reasons(turn.calls()) == ["OK", "OK", "OK"], "batches that run go on"
        assert reasons(second.calls())[:2] == ["OK", "OK"]
        assert works.counts == {"a": 2, "b": 1, "c": 1}
        b.assert_idle()


async def test_what_never_started_does_not_during_a_drain() -> None:
    works = Works("b")
    async with bench(*works.tools(max_concurrency=1, timeout_s=9.0)) as b:
        turn = await b.start(CALLS, request_id="r", timeout_s=1.0)
        await b.clock.advance(2.0)
        assert works.started == ["a"]
        b.engine.refuse_batches()
        again = await b.run(CALLS, request_id="r")

        assert reasons(turn.calls()) == ["BATCH_DEADLINE", "BATCH_DEADLINE"]
        assert reasons(again) == ["OUTCOME_UNKNOWN", "DRAINING"]
        assert failure_of(again[1]).state is ExecutionState.NOT_STARTED
        assert works.started == ["a"]


async def test_a_resend_takes_nothing_over_during_a_drain() -> None:
    works = Works()
    async with bench(*works.tools(max_concurrency=1)) as b:
        first = await b.start(CALLS, request_id="r")
        b.engine.refuse_batches()
        second = await b.start(CALLS, request_id="r")
        first.task.cancel()
        works.open("a", "b")
        await settle()

        assert reasons(second.calls()) == ["OK", "DRAINING"]
        assert works.started == ["a"]
        b.assert_idle()


async def test_ids_are_forgotten_after_a_while() -> None:
    works = Works("a", "b")
    async with bench(*works.tools(), request_retention_s=100.0) as b:
        await b.run(CALLS, request_id="r")
        for _ in range(3):
            await b.clock.advance(90.0)
            again = await b.run(CALLS, request_id="r")
            assert [call.replayed for call in again] == [True, True], "use renews it"
        await b.clock.advance(101.0)
        assert reasons(await b.run(CALLS[:1], request_id="r")) == ["OK"]

        assert works.counts == {"a": 2, "b": 1}
        assert b.engine.statistics().remembered == 1


async def test_ids_in_use_are_not_forgotten() -> None:
    works = Works()
    async with bench(
        *works.tools(timeout_s=1000.0), request_retention_s=10.0, max_remembered_bytes=8_000
    ) as b:
        first = await b.start(CALLS, request_id="r")
        await b.clock.advance(50.0)
        assert await b.run([], request_id="other") == []
        first.task.cancel()
        await b.clock.advance(50.0)
        assert await b.run([], request_id="another") == []
        second = await b.start(CALLS, request_id="r")
        works.open("a", "b")
        await settle()

        assert [text_of(call) for call in second.calls()] == ["did a", "did b"]
        assert works.counts == {"a": 1, "b": 1}


async def test_calls_that_wait_for_approval_make_room_too() -> None:
    works = Works("a")
    async with bench(*works.tools(requires_approval=True), max_remembered_bytes=5_000) as b:
        for _ in range(50):
            calls = await b.run([to("write", "a")])
            assert reasons(calls) == ["APPROVAL_REQUIRED"]

        assert b.engine.statistics().remembered < 10
        assert b.engine.ledger.size_bytes <= 5_000
        await b.clock.advance(10_000.0)
        await b.run([], request_id="r")
        assert b.engine.statistics().remembered == 1


async def test_a_batch_that_is_refused_leaves_its_id_free_of_use() -> None:
    works = Works()
    async with bench(*works.tools(), max_open_batches=1, request_retention_s=10.0) as b:
        first = await b.start(CALLS, request_id="r")
        with pytest.raises(Rejection) as caught:
            await b.run(CALLS, request_id="other")
        works.open("a", "b")
        await settle()
        await b.clock.advance(20.0)
        await b.run([], request_id="last")

        assert caught.value.reason is RejectionReason.TOO_MANY_BATCHES
        assert reasons(first.calls()) == ["OK", "OK"]
        assert b.engine.statistics().remembered == 1


async def test_effects_that_a_reload_changed_are_those_in_force() -> None:
    works = Works()
    async with bench(*works.tools(timeout_s=1.0)) as b:
        turn = await b.start([to("write", "a")], request_id="r")
        await b.clock.advance(2.0)
        assert reasons(turn.calls()) == ["TOOL_TIMEOUT"]
        works.open("a")
        assert reasons(await b.run([to("write", "a")], request_id="r")) == ["OUTCOME_UNKNOWN"]
        b.engine.registry.swap([bound("write", works, effects=Effects.IDEMPOTENT)])

        assert reasons(await b.run([to("write", "a")], request_id="r")) == ["OK"]
