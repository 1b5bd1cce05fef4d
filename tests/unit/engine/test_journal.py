"""Starts that are durable before they happen, and what a store does when it fails."""

import asyncio
from typing import Any

import pytest
from tests.support.clock import settle
from tests.support.engines import bench, bound, failure_of, reasons, text_of
from tests.support.works import DictStore, Works, to

from sidecall_server.core.call import Approval, Call, ToolCall
from sidecall_server.core.outcome import ExecutionState, Outcome, Reason, Success, not_started
from sidecall_server.core.records import BATCH, Record, ScopeKind
from sidecall_server.core.rejection import Rejection, RejectionReason

REQUEST: dict[str, Any] = {"request_id": "r"}


def held() -> DictStore:
    """A store whose flushes wait."""
    store = DictStore()
    store.gate.clear()
    return store


def committed(store: DictStore, kind: ScopeKind = ScopeKind.REQUEST) -> dict[int, Record]:
    """The records of the only scope of a kind that survive, without that of the batch."""
    found = [records for scope, records in store.committed.items() if scope.kind is kind]
    assert len(found) <= 1
    return {index: r for index, r in (found[0] if found else {}).items() if index != BATCH}


@pytest.mark.parametrize("call", [to("write", "a"), to("write", "a", idempotency_key="k")])
async def test_a_start_is_durable_before_it_happens(call: ToolCall) -> None:
    works, store = Works("a"), held()
    options: dict[str, Any] = {} if call.idempotency_key else REQUEST
    async with bench(*works.tools(), store=store) as b:
        turn = await b.start([call], **options)
        assert works.started == []
        assert not store.committed
        store.gate.set()
        await settle()

        assert works.started == ["a"]
        assert reasons(turn.calls()) == ["OK"]
        assert turn.calls()[0].attempt == 1
        b.assert_idle()


async def test_the_mark_says_that_it_has_started_and_how_often() -> None:
    works, store = Works(), DictStore()
    async with bench(*works.tools(), store=store) as b:
        await b.start([to("write", "a")], **REQUEST)
        (mark,) = committed(store).values()

        assert works.started == ["a"]
        assert (mark.started, mark.outcome, mark.attempts) == (True, None, 1)


@pytest.mark.parametrize("tool", ["put", "read"])
async def test_what_may_be_repeated_needs_no_mark(tool: str) -> None:
    works, store = Works("a"), held()
    async with bench(*works.tools(), store=store) as b:
        await b.start([to(tool, "a", idempotency_key="k")], **REQUEST)

        assert works.started == ["a"]


async def test_calls_without_an_id_have_nothing_to_do_with_the_store() -> None:
    works, store = Works("a"), held()
    async with bench(*works.tools(), store=store) as b:
        calls = await b.run([to(tool, "a") for tool in ("write", "put", "read")])

        assert reasons(calls) == ["OK", "OK", "OK"]
        assert (store.puts, store.flushes) == ([], 0)


async def test_starts_of_one_batch_share_their_flushes() -> None:
    works, store = Works("a"), held()
    async with bench(*works.tools(), store=store) as b:
        turn = await b.start([to("write", "a")] * 100, **REQUEST)
        assert works.started == []
        store.gate.set()
        await settle()

        assert reasons(turn.calls()) == ["OK"] * 100


@pytest.mark.parametrize("call", [to("write", "a"), to("write", "a", idempotency_key="k")])
async def test_a_store_that_cannot_be_written(call: ToolCall) -> None:
    works, store = Works("a"), DictStore()
    store.is_writable = False
    async with bench(*works.tools(), store=store) as b:
        first = await b.run([call, to("read", "a")], **REQUEST)

        assert reasons(first) == ["TOOL_UNAVAILABLE", "OK"]
        assert failure_of(first[0]).state is ExecutionState.NOT_STARTED
        assert first[0].attempt == 0
        assert works.started == ["a"], "the read-only one"
        store.is_writable = True
        again = await b.run([call, to("read", "a")], **REQUEST)
        assert reasons(again) == ["OK", "OK"]
        b.assert_idle()


@pytest.mark.parametrize("how", ["deadline", "call", "client", "drain"])
async def test_a_call_that_ends_while_its_mark_is_written_was_not_started(how: str) -> None:
    works, store = Works("a"), held()
    calls = [to("write", "a", timeout_s=1.0 if how == "call" else None)]
    async with bench(*works.tools(), store=store) as b:
        turn = await b.start(calls, timeout_s=1.0 if how == "deadline" else None, **REQUEST)
        if how == "client":
            turn.task.cancel()
        elif how == "drain":
            b.engine.cancel_open()
        else:
            await b.clock.advance(2.0)
        await settle()
        store.gate.set()
        await settle()

        assert works.started == []
        if how != "client":
            (call,) = turn.calls()
            assert failure_of(call).state is ExecutionState.NOT_STARTED
            assert call.attempt == 0
        await store.flush()
        (record,) = committed(store).values()
        assert not record.started, "the mark was taken back"
        b.assert_idle()
        again = await b.run([to("write", "a")], **REQUEST)
        assert [text_of(call) for call in again] == ["did a"]


async def test_time_for_the_mark_is_not_time_of_the_tool() -> None:
    works, store = Works(), held()
    async with bench(*works.tools(timeout_s=10.0), store=store) as b:
        turn = await b.start([to("write", "a")], **REQUEST)
        await b.clock.advance(30.0)
        store.gate.set()
        await settle()
        await b.clock.advance(9.0)
        works.open("a")
        await settle()

        assert reasons(turn.calls()) == ["OK"]


async def test_tools_that_wait_for_a_process_are_not_started_before_they_have_one() -> None:
    """What they do: `prepare` until there is one."""
    process = asyncio.Event()
    started: list[str] = []

    async def in_process(call: Call) -> Outcome:
        call.prepare()
        await process.wait()
        call.restart_clock()
        started.append("run")
        return Success("done")

    store = DictStore()
    async with bench(bound("tool", in_process), store=store) as b:
        turn = await b.start([ToolCall("", "tool")], timeout_s=1.0, **REQUEST)
        assert committed(store)[0].started
        await b.clock.advance(2.0)
        assert failure_of(turn.calls()[0]).state is ExecutionState.NOT_STARTED
        assert not committed(store)[0].started
        process.set()

        again = await b.run([ToolCall("", "tool")], **REQUEST)

        assert reasons(again) == ["OK"]
        assert started == ["run"]
        b.assert_idle()


async def test_an_attempt_that_finds_no_process_takes_its_mark_back() -> None:
    async def unavailable(call: Call) -> Outcome:
        call.take_back()
        return not_started(Reason.TOOL_UNAVAILABLE, "no process")

    store = DictStore()
    async with bench(bound("tool", unavailable), store=store) as b:
        (call,) = await b.run([ToolCall("", "tool")], **REQUEST)

        assert call.attempt == 0
        assert not committed(store)[0].started


async def test_results_are_durable_before_the_answer() -> None:
    works, store = Works(), DictStore()
    async with bench(*works.tools(), store=store) as b:
        turn = await b.start([to("write", "a"), to("read", "b")], **REQUEST)
        store.gate.clear()
        works.open("a", "b")
        await settle()
        assert not turn.done
        store.gate.set()
        await settle()

        assert reasons(turn.calls()) == ["OK", "OK"]
        outcomes = [record.outcome for record in committed(store).values()]
        assert [getattr(outcome, "text", None) for outcome in outcomes] == ["did a", "did b"]


async def test_results_that_cannot_be_stored_are_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    works, store = Works(), DictStore()
    async with bench(*works.tools(), store=store) as b:
        turn = await b.start([to("write", "a")], **REQUEST)
        store.is_writable = False
        works.open("a")
        await settle()

        assert reasons(turn.calls()) == ["OK"]
        assert "could not be stored" in caplog.text


@pytest.mark.parametrize(
    ("options", "key"), [(REQUEST, ""), ({}, "k"), (REQUEST, "k")], ids=["request", "key", "both"]
)
async def test_a_store_that_cannot_be_read(options: dict[str, Any], key: str) -> None:
    works, store = Works("a"), DictStore()
    async with bench(*works.tools(), store=store) as b:
        store.is_readable = False
        with pytest.raises(Rejection) as caught:
            await b.run([to("write", "a", idempotency_key=key)], **options)

        assert caught.value.reason is RejectionReason.STORE_UNAVAILABLE
        assert caught.value.retry_after_s is not None
        assert works.started == []
        assert reasons(await b.run([to("write", "a")])) == ["OK"]
        store.is_readable = True
        again = await b.run([to("write", "a", idempotency_key=key)], **options)
        assert reasons(again) == ["OK"]
        b.assert_idle()


async def test_a_second_send_joins_a_run_that_is_marked() -> None:
    works, store = Works(), DictStore()
    async with bench(*works.tools(), store=store) as b:
        first = await b.start([to("write", "a", idempotency_key="k")], **REQUEST)
        second = await b.start([to("write", "a", idempotency_key="k")], **REQUEST)
        third = await b.start([to("write", "a", idempotency_key="k")])
        works.open("a")
        await settle()

        for turn in (first, second, third):
            assert [text_of(call) for call in turn.calls()] == ["did a"]
        assert works.counts == {"a": 1}
        b.assert_idle()


async def test_a_restart_knows_what_was_stored() -> None:
    works, store = Works("a", "b"), DictStore()
    works.failing.add("b")
    calls = [to("write", key) for key in "abd"] + [to("put", "e"), to("read", "f")]
    calls.append(to("write", "c", depends_on=("d",)))
    async with bench(*works.tools(), store=store) as b:
        await b.start(calls, **REQUEST)
        await store.flush()
        survivor = store.survivor()
    works.open("d", "e", "f")
    works.started.clear()
    async with bench(*works.tools(), store=survivor) as b:
        again = await b.run(calls, **REQUEST)

        assert reasons(again) == [
            "OK",
            "TOOL_FAILED",
            "OUTCOME_UNKNOWN",
            "OK",
            "OK",
            "DEPENDENCY_FAILED",
        ]
        assert [call.replayed for call in again] == [True, True, True, False, False, False]
        assert again[2].attempt == 1
        assert set(works.started) == {"e", "f"}


@pytest.mark.parametrize("call", [to("write", "a"), to("write", "a", idempotency_key="k")])
async def test_a_mark_replaces_that_an_earlier_send_had_not_started_it(call: ToolCall) -> None:
    works, store = Works("busy"), DictStore()
    works.shut("busy")
    options = {} if call.idempotency_key else REQUEST
    async with bench(*works.tools(max_concurrency=1), store=store) as b:
        other = await b.start([to("write", "busy")])
        first = await b.start([call], timeout_s=1.0, **options)
        await b.clock.advance(2.0)
        assert failure_of(first.calls()[0]).state is ExecutionState.NOT_STARTED
        works.open("busy")
        await settle()
        assert reasons(other.calls()) == ["OK"]
        await b.start([call], **options)
        assert works.started == ["busy", "a"]
        survivor = store.survivor()
    works.open("a")
    async with bench(*works.tools(), store=survivor) as b:
        again = await b.run([call], **options)

        assert reasons(again) == ["OUTCOME_UNKNOWN"]
        assert works.started == ["busy", "a"]


async def test_a_restart_knows_what_was_answered() -> None:
    works, store = Works("a", "b"), DictStore()
    works.failing.add("b")
    calls = [to("write", "a", idempotency_key="k"), to("write", "b"), to("put", "a", "p")]
    async with bench(*works.tools(), store=store) as b:
        first = await b.run(calls, **REQUEST)
    works.started.clear()
    async with bench(*works.tools(), store=store.survivor()) as b:
        again = await b.run(calls, **REQUEST)
        by_key = await b.run(calls[:1])
        with pytest.raises(Rejection) as other:
            await b.run(calls[:2], **REQUEST)
        changed = await b.run([to("write", "b", idempotency_key="k")])

        assert reasons(first) == reasons(again) == ["OK", "TOOL_FAILED", "OK"]
        assert [call.replayed for call in (*again, *by_key)] == [True] * 4
        assert other.value.reason is RejectionReason.REQUEST_ID_REUSED
        assert reasons(changed) == ["IDEMPOTENCY_KEY_REUSED"]
        assert works.started == []


async def test_a_key_that_the_store_knows_is_at_hand_when_its_turn_comes() -> None:
    """However long that takes, and however little room there is."""
    works, store = Works("a"), DictStore()
    async with bench(*works.tools(), store=store) as b:
        await b.run([to("write", "a", idempotency_key="k")])
    works.started.clear()
    calls = [to("read", "wait"), to("write", "a", idempotency_key="k", depends_on=("wait",))]
    limits: dict[str, Any] = {"max_remembered_bytes": 1, "request_retention_s": 5.0}
    async with bench(*works.tools(), store=store.survivor(), **limits) as b:
        turn = await b.start(calls)
        await b.clock.advance(20.0)
        await b.run([to("read", "a", idempotency_key="other")])
        works.open("wait")
        await settle()

        assert [call.replayed for call in turn.calls()] == [False, True]
        assert works.started == ["wait", "a"]
        b.assert_idle()


async def test_a_key_that_waits_for_its_turn_is_one_with_that_of_other_batches() -> None:
    works, store = Works("a"), DictStore()
    keyed = to("write", "a", idempotency_key="k")
    late = to("write", "a", "late", idempotency_key="k", depends_on=("wait",))
    limits: dict[str, Any] = {"max_remembered_bytes": 1, "request_retention_s": 5.0}
    async with bench(*works.tools(), store=store, **limits) as b:
        turn = await b.start([to("read", "wait"), late])
        await b.clock.advance(20.0)
        await b.run([to("read", "a", idempotency_key="other")])
        assert [call.replayed for call in await b.run([keyed])] == [False]
        works.open("wait")
        await settle()

        assert [call.replayed for call in turn.calls()] == [False, True]
        assert works.counts["a"] == 2, "the read-only one, and one write"
        b.assert_idle()


async def test_a_decision_survives_and_runs_once() -> None:
    works, store = Works("a"), DictStore()
    tools = works.tools(requires_approval=True)
    async with bench(*tools, store=store) as b:
        turn = await b.start([to("write", "a")])
        (call,) = turn.calls()
        assert call.asked is not None
        request_id = turn.task.result().request_id
    approvals = {call.asked.approval_id: Approval(True, "someone")}
    survivor = store.survivor()
    async with bench(*tools, store=survivor) as b:
        for _ in range(2):
            again = await b.run([to("write", "a")], request_id=request_id, approvals=approvals)
            assert [text_of(call) for call in again] == ["did a"]
    async with bench(*tools, store=survivor.survivor()) as b:
        again = await b.run([to("write", "a")], request_id=request_id, approvals=approvals)
        assert [call.replayed for call in again] == [True]
    async with bench(*tools, store=DictStore()) as b:
        with pytest.raises(Rejection) as caught:
            await b.run([to("write", "a")], request_id=request_id, approvals=approvals)

    assert caught.value.reason is RejectionReason.APPROVAL_UNKNOWN
    assert works.counts == {"a": 1}
