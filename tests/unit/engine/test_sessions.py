"""What sessions remember, for how long, and for whom."""

import asyncio
from typing import Any

from tests.support.clock import FakeClock

from sidecall_server.core.call import BatchOptions, Call, ToolCall
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import BlobPart, ExecutionState, Failure, Reason, Success
from sidecall_server.engine.sessions import Sessions
from sidecall_server.policy.memory import memory_of

MINE = ("alice", "s1")
FAILED = Failure(Reason.TOOL_FAILED, "It failed.", ExecutionState.COMPLETED)


def sessions(clock: FakeClock | None = None, **limits: Any) -> Sessions:
    return Sessions(Limits(**{"session_retention_s": 60.0, **limits}), clock or FakeClock())


def text(made: Sessions, identity: str, session_id: str, call_id: str) -> str | None:
    found = made.find(identity, session_id, call_id)
    return found.text if isinstance(found, Success) else found and found.name


def finished(index: int, call_id: str, answer: str, replayed: bool = False) -> Call:
    call = Call(index, ToolCall(call_id, "search"), BatchOptions(), None, 0)
    call.outcome = Success(answer)
    call.replayed = replayed
    return call


def test_results_are_found_by_whom_they_belong_to() -> None:
    made = sessions()
    made.add(*MINE, [("a", Success("mine")), ("b", FAILED)])
    made.add("bob", "s1", [("a", Success("bob's"))])

    assert text(made, *MINE, "a") == "mine"
    assert text(made, *MINE, "b") == "TOOL_FAILED"
    assert text(made, *MINE, "c") is None
    assert text(made, "bob", "s1", "a") == "bob's"
    assert text(made, "bob", "s1", "b") is None
    assert text(made, "", "s1", "a") is None
    assert text(made, "alice", "s2", "a") is None


def test_the_latest_call_with_an_id_counts_also_where_it_failed() -> None:
    made = sessions()
    made.add(*MINE, [("a", Success("first"))])
    made.add(*MINE, [("a", Success("second")), ("a", Success("third"))])
    assert text(made, *MINE, "a") == "third"

    made.add(*MINE, [("a", FAILED)])
    assert text(made, *MINE, "a") == "TOOL_FAILED"
    assert made.statistics().results == 1


def test_parts_are_not_kept() -> None:
    made = sessions()
    made.add(*MINE, [("a", Success("seen", parts=(BlobPart("image/png", bytes(10**6)),)))])

    found = made.find(*MINE, "a")
    assert isinstance(found, Success)
    assert (found.text, found.parts) == ("seen", ())
    assert made.statistics().bytes < 10_000


async def test_a_session_is_forgotten_some_time_after_its_last_use() -> None:
    clock = FakeClock()
    made = sessions(clock)
    made.add(*MINE, [("a", Success("x"))])
    made.add("alice", "s2", [("a", Success("x"))])

    await clock.advance(40)
    assert text(made, *MINE, "a") == "x"
    await clock.advance(40)
    assert text(made, "alice", "s2", "a") is None
    assert text(made, *MINE, "a") == "x"
    made.add(*MINE, [])
    await clock.advance(59)
    assert text(made, *MINE, "a") == "x"
    await clock.advance(60)
    assert text(made, *MINE, "a") is None


async def test_what_expired_is_freed_without_being_asked_for() -> None:
    clock = FakeClock()
    made = sessions(clock)
    for number in range(50):
        made.add(f"user {number % 7}", f"s{number}", [("a", Success("x"))])
        await clock.advance(1)

    await clock.advance(30)
    assert 0 < made.statistics().sessions < 50
    await clock.advance(31)
    statistics = made.statistics()
    assert (statistics.sessions, statistics.results, statistics.bytes) == (0, 0, 0)
    assert clock.armed == 0


def test_the_oldest_results_of_a_full_session_go_first() -> None:
    made = sessions(max_session_bytes=40_000)
    for number in range(10):
        made.add(*MINE, [(f"c{number}", Success("x" * 4_000))])

    found = [number for number in range(10) if made.find(*MINE, f"c{number}") is not None]
    assert found == [6, 7, 8, 9]
    assert made.statistics().evicted == 6


def test_a_result_that_no_session_can_hold_is_named_and_hides_older_ones() -> None:
    made = sessions(max_session_bytes=40_000)
    made.add(*MINE, [("a", Success("small")), ("b", Success("small"))])
    made.add(*MINE, [("a", Success("x" * 20_000))])

    assert text(made, *MINE, "a") == "RESULT_TOO_LARGE"
    assert text(made, *MINE, "b") == "small"


def test_whoever_takes_most_memory_makes_room() -> None:
    made = sessions(max_session_bytes=50_000)
    made.add("bob", "quiet", [("a", Success("x" * 4_000))])
    for number in range(40):
        made.add("alice", f"s{number}", [("a", Success("x" * 4_000))])
        assert made.statistics().bytes <= 50_000

    assert text(made, "bob", "quiet", "a") == "x" * 4_000
    assert made.find("alice", "s0", "a") is None
    assert made.find("alice", "s39", "a") is not None


def test_a_bound_that_holds_nothing_keeps_nothing() -> None:
    made = sessions(max_session_bytes=1)
    made.add(*MINE, [("a", Success("x")), ("b", FAILED)])

    assert made.find(*MINE, "a") is None
    assert made.statistics().sessions == 0


def test_memory_is_that_of_what_is_kept() -> None:
    made = sessions(max_session_bytes=120_000)
    for number in range(300):
        results = [(f"c{number % 11}", Success("x" * number * 31))]
        made.add(f"u{number % 3}", f"s{number % 13}", results)
        total = sum(
            memory_of(kept) + len(call_id)
            for owner in made._owners.values()
            for session in owner.sessions.values()
            for call_id, kept in session.results.items()
            if isinstance(kept, Success)
        )
        assert made.statistics().bytes == total <= 120_000


def test_what_was_replayed_is_older_than_what_is_known() -> None:
    made = sessions()
    options = BatchOptions(identity="alice", session_id="s1")
    made.add_calls(options, [finished(0, "a", "new")])
    replayed = [finished(0, "a", "old", replayed=True), finished(1, "b", "kept", replayed=True)]
    made.add_calls(options, replayed)

    assert text(made, *MINE, "a") == "new"
    assert text(made, *MINE, "b") == "kept"


def test_calls_without_an_id_cannot_be_meant() -> None:
    made = sessions()
    options = BatchOptions(identity="alice", session_id="s1")
    made.add_calls(options, [finished(0, "a", "earlier"), finished(1, "a", "later")])
    made.add_calls(options, [finished(0, "", "nameless")])

    assert text(made, *MINE, "a") == "later"
    assert made.statistics().results == 1


def test_no_more_is_dropped_than_must_be() -> None:
    made = sessions(max_session_bytes=100_000)
    for number in range(100):
        made.add(f"user {number}", "s1", [("a", Success("x"))])
    before = made.statistics().bytes

    made.add(*MINE, [(f"c{number}", Success("x" * 4_000)) for number in range(11)])

    assert before > 50_000
    assert 95_000 < made.statistics().bytes <= 100_000
    assert made.find(*MINE, "c0") is None
    assert text(made, *MINE, "c10") == "x" * 4_000
    assert text(made, "user 0", "s1", "a") == "x"


async def test_stopping_forgets_and_leaves_no_timer() -> None:
    clock = FakeClock()
    made = sessions(clock)
    made.add(*MINE, [("a", Success("x"))])
    made.stop()

    assert clock.armed == 0
    assert made.statistics().bytes == 0
    await asyncio.sleep(0)
