from collections.abc import Mapping, Sequence

import pytest

from sidecall_server.core.call import BatchOptions, BlockCause, Call, FailedAttempt, Mode, ToolCall
from sidecall_server.core.critical_path import (
    MAX_STEPS,
    CriticalStep,
    Happened,
    Schedule,
    explain,
)
from sidecall_server.core.outcome import Reason, Success, not_started

RECEIVED = 1_000
OPTIONS = BatchOptions()
NO_EDGES: Mapping[int, Sequence[int]] = {}
C = BlockCause


def call(
    tool: str,
    started: int | None,
    finished: int,
    ready: int | None = None,
    received: int = 0,
    **blocked: int,
) -> Call:
    """A call by points in time after the receipt; ready when it started where not said."""
    made = Call(0, ToolCall("", tool), OPTIONS, None, RECEIVED + received)
    if ready is None:
        ready = started
    made.ready_ns = 0 if ready is None else RECEIVED + ready
    made.started_ns = 0 if started is None else RECEIVED + started
    made.finished_ns = RECEIVED + finished
    made.outcome = Success("done")
    if blocked:
        made.blocked_ns = {BlockCause[name.upper()]: time for name, time in blocked.items()}
    return made


def failed(made: Call, reason: Reason) -> Call:
    made.outcome = not_started(reason, "Not run.")
    return made


def of(
    *calls: Call,
    mode: Mode = Mode.PARALLEL,
    depends_on: Mapping[int, Sequence[int]] = NO_EDGES,
    after: Mapping[int, Sequence[int]] = NO_EDGES,
) -> Schedule:
    for index, made in enumerate(calls):
        made.index = index
    return explain(Happened(dict(enumerate(calls)), RECEIVED, mode, depends_on, after))


def path(schedule: Schedule) -> list[tuple[int, BlockCause]]:
    return [(step.index, step.cause) for step in schedule.critical_path]


def test_no_calls() -> None:
    assert of() == Schedule()
    assert of().speed_up == 0


def test_independent_calls_take_as_long_as_the_longest() -> None:
    schedule = of(call("a", 0, 100), call("a", 10, 310), call("b", 0, 200))
    assert schedule == Schedule(310, 600, (CriticalStep(1, C.NONE, 10, 300),))
    assert schedule.speed_up == pytest.approx(600 / 310)


def test_a_call_waits_for_the_dependency_that_ended_last() -> None:
    schedule = of(
        call("a", 0, 100),
        call("b", 0, 300),
        call("c", 310, 400, ready=300, reference=300),
        call("d", 0, 350),
        depends_on={2: [0, 1]},
    )
    assert schedule.critical_path == (
        CriticalStep(1, C.NONE, 0, 300),
        CriticalStep(2, C.REFERENCE, 10, 90),
    )


def test_a_call_waits_for_a_permit_of_its_tool() -> None:
    schedule = of(
        call("a", 0, 100),
        call("a", 100, 200, ready=0, tool_limit=100),
        call("b", 0, 150),
        call("a", 205, 300, ready=0, tool_limit=205),
    )
    assert path(schedule) == [(0, C.NONE), (1, C.TOOL_LIMIT), (3, C.TOOL_LIMIT)]
    assert schedule.critical_path[2] == CriticalStep(3, C.TOOL_LIMIT, 5, 95)


@pytest.mark.parametrize("cause", [C.GROUP_LIMIT, C.BATCH_LIMIT, C.GLOBAL_LIMIT])
def test_other_permits_may_come_from_any_tool(cause: BlockCause) -> None:
    waits = call("b", 200, 300, ready=0, **{cause.name: 200})
    assert path(of(call("a", 0, 200), call("b", 0, 90), waits)) == [(0, C.NONE), (2, cause)]


@pytest.mark.parametrize("cause", [C.RATE, C.LANE, C.SAME_CALL])
def test_these_come_from_calls_of_the_tool(cause: BlockCause) -> None:
    waits = call("b", 200, 300, ready=0, **{cause.name: 110})
    assert path(of(call("a", 0, 200), call("b", 0, 90), waits)) == [(1, C.NONE), (2, cause)]


def test_a_permit_that_other_batches_had_begins_the_path() -> None:
    schedule = of(call("a", 0, 90), call("b", 200, 300, ready=100, tool_limit=100))
    assert schedule.critical_path == (CriticalStep(1, C.NONE, 200, 100),)


def test_it_goes_on_to_the_dependency_where_nobody_here_had_the_permit() -> None:
    schedule = of(
        call("a", 0, 100),
        call("b", 0, 90),
        call("b", 200, 300, ready=100, reference=100, tool_limit=100),
        depends_on={2: [0]},
    )
    assert path(schedule) == [(0, C.NONE), (2, C.REFERENCE)]
    assert schedule.critical_path[1].waiting_ns == 100


def test_the_longest_wait_in_a_queue_counts() -> None:
    schedule = of(
        call("a", 0, 200),
        call("b", 0, 150),
        call("b", 200, 300, ready=0, tool_limit=50, batch_limit=150),
    )
    assert path(schedule) == [(0, C.NONE), (2, C.BATCH_LIMIT)]


def test_calls_in_a_row() -> None:
    schedule = of(
        call("a", 0, 100),
        call("b", 100, 180, order=100),
        call("c", 190, 200, order=180),
        mode=Mode.SEQUENTIAL,
    )
    assert schedule.critical_path == (
        CriticalStep(0, C.NONE, 0, 100),
        CriticalStep(1, C.ORDER, 0, 80),
        CriticalStep(2, C.ORDER, 10, 10),
    )
    assert schedule.speed_up == pytest.approx(190 / 200)


def test_in_a_row_what_a_call_refers_to_comes_before_its_turn() -> None:
    schedule = of(call("a", 0, 100), call("b", 100, 180), mode=Mode.SEQUENTIAL, depends_on={1: [0]})
    assert path(schedule) == [(0, C.NONE), (1, C.REFERENCE)]


def test_in_a_row_a_call_that_was_refused_took_no_turn() -> None:
    refused = failed(call("b", None, 100, ready=100), Reason.ARGUMENTS_INVALID)
    calls = call("a", 0, 100), refused, call("c", 100, 180)
    assert path(of(*calls, mode=Mode.SEQUENTIAL)) == [(0, C.NONE), (2, C.ORDER)]


def test_lanes() -> None:
    schedule = of(call("a", 0, 100), call("a", 100, 200, lane=100), after={1: [0]})
    assert path(schedule) == [(0, C.NONE), (1, C.LANE)]


def test_a_call_that_the_model_made_late_waits_for_nobody() -> None:
    schedule = of(
        call("a", 0, 100),
        call("b", 300, 400, received=300),
        depends_on={1: [0]},
    )
    assert schedule.critical_path == (CriticalStep(1, C.NONE, 300, 100),)


def test_a_call_that_was_held_waits_for_the_seal_alone() -> None:
    schedule = of(
        call("a", 0, 100),
        call("b", 300, 400, reference=100, seal=300),
        depends_on={1: [0]},
    )
    assert path(schedule) == [(1, C.NONE)]


def test_attempts_that_failed_belong_to_the_wait() -> None:
    retried = call("b", 500, 600, ready=100, reference=100, backoff=200)
    retried.failed_attempts = (
        FailedAttempt(not_started(Reason.TOOL_CRASHED, ""), RECEIVED + 100, RECEIVED + 300),
    )
    schedule = of(call("a", 0, 100), call("b", 0, 450), retried, depends_on={2: [0]})
    assert schedule.critical_path == (
        CriticalStep(0, C.NONE, 0, 100),
        CriticalStep(2, C.REFERENCE, 400, 100),
    )


def test_a_call_without_a_start_takes_no_time() -> None:
    waited = failed(call("a", None, 300, ready=0, tool_limit=300), Reason.QUEUE_TIMEOUT)
    schedule = of(call("a", 0, 100), waited)
    assert schedule == Schedule(
        300, 100, (CriticalStep(0, C.NONE, 0, 100), CriticalStep(1, C.TOOL_LIMIT, 200, 0))
    )


@pytest.mark.parametrize("reason", [Reason.STOPPED, Reason.DEPENDENCY_FAILED])
def test_what_a_failure_took_with_it_decided_nothing(reason: Reason) -> None:
    taken = failed(call("b", None, 101), reason)
    schedule = of(call("a", 0, 100), taken)
    assert schedule == Schedule(101, 100, (CriticalStep(0, C.NONE, 0, 100),))
    assert path(of(failed(call("a", None, 5), reason))) == [(0, C.NONE)]


def test_a_long_path_shows_what_decided_last() -> None:
    calls = [call("a", 10 * number, 10 * number + 10) for number in range(MAX_STEPS + 5)]
    schedule = of(*calls, mode=Mode.SEQUENTIAL)
    steps = schedule.critical_path
    assert len(steps) == MAX_STEPS
    assert steps[0] == CriticalStep(5, C.NONE, 50, 10)
    assert steps[-1].index == MAX_STEPS + 4
