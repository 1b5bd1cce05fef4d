"""What goes when memory is short: results, but never that a call was started."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.clock import settle
from tests.support.engines import Bench, bench, failure_of, reasons, text_of
from tests.support.works import DictStore, Works, to

from sidecall_server.core.call import Approval, ToolCall
from sidecall_server.core.outcome import (
    ExecutionState,
    Failure,
    LinkPart,
    Outcome,
    Reason,
    Success,
    Violation,
    not_started,
)
from sidecall_server.core.records import BATCH, PendingApproval, Record, Scope
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.engine.log import ENTRY_BYTES, Entry

BIG = Success("x" * 100_000)
ROOM: dict[str, Any] = {"max_remembered_bytes": 350_000}


async def test_results_go_the_oldest_first_and_nothing_runs_again() -> None:
    works = Works("a")
    works.outcomes["a"] = BIG
    async with bench(*works.tools(), **ROOM) as b:
        for name in ("r0", "r1", "r2"):
            await b.run([to("write", "a")], request_id=name)
        await b.run([to("write", "a")], request_id="r0")
        await b.run([to("write", "a")], request_id="r3")
        assert b.engine.ledger.size_bytes <= 350_000
        told = {
            name: reasons(await b.run([to("write", "a")], request_id=name))
            for name in ("r0", "r1", "r2", "r3")
        }

        assert told == {"r0": ["OK"], "r1": ["OUTCOME_UNKNOWN"], "r2": ["OK"], "r3": ["OK"]}
        (gone,) = await b.run([to("write", "a")], request_id="r1")
        assert "no longer" in failure_of(gone).message
        assert failure_of(gone).state is ExecutionState.UNKNOWN
        assert works.counts == {"a": 4}


@pytest.mark.parametrize("tool", ["read", "put"])
async def test_what_may_be_repeated_runs_again(tool: str) -> None:
    works = Works("a")
    works.outcomes["a"] = BIG
    async with bench(*works.tools(), **ROOM) as b:
        for number in range(5):
            await b.run([to(tool, "a")], request_id=f"r{number}")
        assert b.engine.statistics().remembered == 3, "not even marks are needed"
        (again,) = await b.run([to(tool, "a")], request_id="r0")

        assert (text_of(again), again.replayed) == (BIG.text, False)


async def test_keys_keep_their_marks_too() -> None:
    works = Works("a")
    works.outcomes["a"] = BIG
    async with bench(*works.tools(), **ROOM) as b:
        for number in range(5):
            await b.run([to("write", "a", idempotency_key=f"k{number}")])
        again = await b.run([to("write", "a", idempotency_key="k0")])

        assert reasons(again) == ["OUTCOME_UNKNOWN"]
        assert works.counts == {"a": 5}


async def test_who_holds_most_pays() -> None:
    works = Works("a", "b")
    works.outcomes["b"] = BIG
    async with bench(*works.tools(), **ROOM) as b:
        await b.run([to("write", "a")], request_id="r", identity="alice")
        for number in range(70):
            await b.run([to("write", "b")], request_id=f"r{number}", identity="bob")
        (again,) = await b.run([to("write", "a")], request_id="r", identity="alice")

        assert (text_of(again), again.replayed) == ("did a", True)


async def test_other_content_is_still_refused_when_the_result_is_gone() -> None:
    works = Works("a")
    works.outcomes["a"] = BIG
    async with bench(*works.tools(), max_remembered_bytes=50_000) as b:
        await b.run([to("write", "a")], request_id="r")
        with pytest.raises(Rejection) as caught:
            await b.run([to("write", "b")], request_id="r")

        assert caught.value.reason is RejectionReason.REQUEST_ID_REUSED


async def _fill(b: Bench, identity: str, batches: int) -> None:
    """Sends until a new id is refused."""
    calls = [ToolCall("", "write", '{"key": "a"}')] * 9
    for number in range(batches):
        assert reasons(await b.run(calls, request_id=f"r{number}", identity=identity)) == ["OK"] * 9
    with pytest.raises(Rejection) as caught:
        await b.run(calls, request_id="more", identity=identity)
    assert caught.value.reason is RejectionReason.REQUEST_MEMORY_FULL
    assert caught.value.retry_after_s == pytest.approx(600.0)


async def test_new_ids_are_refused_where_marks_take_all_the_room() -> None:
    works = Works("a")
    async with bench(*works.tools(), max_remembered_bytes=100 * ENTRY_BYTES) as b:
        await _fill(b, "alice", 5)
        await _fill(b, "bob", 2)  # nobody gets more than half of what the others leave
        started = len(works.started)
        calls = [ToolCall("", "write", '{"key": "a"}')] * 9
        again = await b.run(calls, request_id="r0", identity="alice")
        assert [call.replayed for call in again] == [True] * 9
        keyed = await b.run([to("write", "a", idempotency_key="k")], identity="alice")
        assert reasons(keyed) == ["TOOL_UNAVAILABLE"]
        assert failure_of(keyed[0]).state is ExecutionState.NOT_STARTED
        assert len(works.started) == started
        assert reasons(await b.run([to("write", "a")], identity="alice")) == ["OK"], "without id"
        await b.clock.advance(601.0)
        assert reasons(await b.run(calls, request_id="new", identity="alice")) == ["OK"] * 9


async def test_what_needs_no_mark_keeps_no_new_id_out() -> None:
    works = Works("a")
    async with bench(*works.tools(), max_remembered_bytes=20 * ENTRY_BYTES) as b:
        for number in range(50):
            assert reasons(await b.run([to("read", "a")], request_id=f"r{number}")) == ["OK"]
        assert b.engine.ledger.size_bytes <= 20 * ENTRY_BYTES


async def test_with_a_store_memory_is_only_a_cache() -> None:
    works, store = Works("a"), DictStore()
    async with bench(*works.tools(), store=store, max_remembered_bytes=1) as b:
        for number in range(5):
            await b.run([to("write", "a")], request_id=f"r{number}")
        assert b.engine.statistics().remembered == 0
        (again,) = await b.run([to("write", "a")], request_id="r0")

        assert (text_of(again), again.replayed) == ("did a", True)


@pytest.mark.parametrize("durable", [False, True])
async def test_a_batch_that_is_refused_leaves_nothing_under_its_id(durable: bool) -> None:
    works, store = Works(), DictStore()
    async with bench(*works.tools(), max_open_batches=1, store=store if durable else None) as b:
        busy = await b.start([to("write", "busy")])
        with pytest.raises(Rejection) as caught:
            await b.run([to("write", "a")], request_id="r")
        assert caught.value.reason is RejectionReason.TOO_MANY_BATCHES
        await store.flush()
        assert not store.committed
        works.open("busy", "b")
        await busy.task

        assert reasons(await b.run([to("write", "b")], request_id="r")) == ["OK"]


LONG = "ä" * 1000
ENTRIES = [
    Entry(b"", outcome=Success(LONG)),
    Entry(b"", outcome=Success("", parts=(LinkPart("", "", LONG),))),
    Entry(b"", outcome=not_started(Reason.TOOL_FAILED, LONG)),
    Entry(b"", outcome=not_started(Reason.TOOL_FAILED, "", key=LONG)),
    Entry(
        b"",
        outcome=Failure(
            Reason.ARGUMENTS_INVALID,
            "",
            ExecutionState.NOT_STARTED,
            violations=(Violation("", LONG),),
        ),
    ),
    Entry(b"", approval=PendingApproval("", b"", Approval(True, arguments=LONG))),
    Entry(b"", approval=PendingApproval("", b"", Approval(False, comment=LONG))),
]


@pytest.mark.parametrize("entry", ENTRIES)
def test_all_texts_count_with_their_bytes(entry: Entry) -> None:
    assert ENTRY_BYTES + 1000 <= entry.size <= ENTRY_BYTES + 3000


STALE: list[Outcome] = [
    not_started(Reason.APPROVAL_REQUIRED, ""),
    not_started(Reason.APPROVAL_REJECTED, ""),
    not_started(Reason.QUEUE_FULL, ""),
]


@pytest.mark.parametrize("stale", STALE)
def test_a_mark_beats_what_an_earlier_send_had_come_to(stale: Outcome) -> None:
    """So older versions stored it."""
    entry = Entry(b"", started=True, outcome=stale)
    settled = entry.settled("tool", repeatable=False)
    assert isinstance(settled, Failure)
    assert settled.reason is Reason.OUTCOME_UNKNOWN
    assert entry.settled("tool", repeatable=True) is None


class _SlowStore(DictStore):
    """Takes note of how many loads wait at a time."""

    waiting = peak = 0

    async def load(self, scope: Scope) -> Mapping[int, Record] | None:
        """See RecordStore."""
        self.waiting += 1
        self.peak = max(self.peak, self.waiting)
        await asyncio.sleep(0)
        self.waiting -= 1
        return await super().load(scope)


async def test_keys_are_loaded_together() -> None:
    works, store = Works("a"), _SlowStore()
    calls = [to("write", "a", idempotency_key=f"k{number}") for number in range(100)]
    async with bench(*works.tools(), store=store) as b:
        assert reasons(await b.run(calls)) == ["OK"] * 100
        assert store.peak == 64, "but not all of a large batch in one turn of the loop"
        store.is_readable = False
        with pytest.raises(Rejection) as caught:
            await b.run([to("write", "a", idempotency_key="new"), *calls])
        assert caught.value.reason is RejectionReason.STORE_UNAVAILABLE
        b.assert_idle()


async def test_a_request_that_lost_its_beginning_is_not_run() -> None:
    works, store = Works("a"), DictStore()
    async with bench(*works.tools(), store=store) as b:
        await b.run([to("write", "a"), to("write", "a")], request_id="r")
    (records,) = store.committed.values()
    del records[BATCH], records[0]
    async with bench(*works.tools(), store=store.survivor()) as b:
        with pytest.raises(Rejection) as caught:
            await b.run([to("write", "a"), to("write", "a")], request_id="r")

        assert caught.value.reason is RejectionReason.STORE_UNAVAILABLE
        assert works.counts == {"a": 2}


async def test_a_store_hears_what_is_in_use() -> None:
    works, store = Works(), DictStore()
    async with bench(*works.tools(timeout_s=3600.0), store=store) as b:
        turn = await b.start([to("write", "a", idempotency_key="k")], request_id="r")
        assert {scope.id for scope in store.in_use()} == {"r", "k"}
        turn.task.cancel()
        await b.clock.advance(1000.0)
        assert {scope.id for scope in store.in_use()} == {"r", "k"}, "its attempt goes on"
        works.open("a")
        await settle()
        assert list(store.in_use()) == []
        store.touched.clear()
        await b.run([to("write", "a", idempotency_key="k")], request_id="r")
        assert {scope.id for scope in store.touched} == {"r", "k"}
