"""A critical path is a chain in time, whatever happened."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sidecall_server.core.call import BatchOptions, BlockCause, Call, Mode, ToolCall
from sidecall_server.core.critical_path import Happened, explain
from sidecall_server.core.outcome import Failure, Reason, Success, not_started

OPTIONS = BatchOptions()
RECEIVED = 50
TIMES = st.integers(0, 30)
CAUSES: list[BlockCause] = [cause for cause in BlockCause if cause is not BlockCause.NONE]
OUTCOMES = st.just(Success("x")) | st.sampled_from(Reason).map(lambda r: not_started(r, ""))


@st.composite
def calls(draw: st.DrawFn, index: int) -> Call:
    """Any call whose points in time come one after the other."""
    received, ready, started, finished = sorted(draw(TIMES) for _ in range(4))
    call = Call(index, ToolCall("", draw(st.sampled_from("ab"))), OPTIONS, None, 0)
    call.received_ns = RECEIVED + received
    how_far = draw(st.integers(0, 3))
    call.ready_ns = RECEIVED + ready if how_far else 0
    call.started_ns = RECEIVED + started if how_far > 1 else 0
    call.finished_ns = RECEIVED + finished
    call.outcome = draw(OUTCOMES)
    if draw(st.booleans()):
        waits = st.dictionaries(st.sampled_from(CAUSES), st.integers(1, 30), max_size=3)
        call.blocked_ns = dict(draw(waits))
    return call


@st.composite
def batches(draw: st.DrawFn) -> Happened:
    count = draw(st.integers(0, 8))
    indexes = st.integers(0, max(0, count - 1))
    edges = st.dictionaries(indexes, st.lists(indexes, max_size=3), max_size=count)
    made = {index: draw(calls(index)) for index in range(count)}
    mode = draw(st.sampled_from(Mode))
    return Happened(made, RECEIVED, mode, draw(edges), draw(edges))


def is_consequence(call: Call) -> bool:
    reasons = (Reason.DEPENDENCY_FAILED, Reason.STOPPED)
    return isinstance(call.outcome, Failure) and call.outcome.reason in reasons


@given(batches())
def test_a_path_is_a_chain_that_takes_as_long_as_the_batch(happened: Happened) -> None:
    schedule = explain(happened)
    of, path = happened.calls, schedule.critical_path
    ends = [call.finished_ns for call in of.values()]
    ran = [call.finished_ns - call.started_ns for call in of.values() if call.started_ns]
    assert schedule.duration_ns == max(ends, default=RECEIVED) - RECEIVED
    assert schedule.sequential_ns == sum(ran)
    assert schedule.speed_up * schedule.duration_ns == schedule.sequential_ns or path
    assert bool(path) == (schedule.duration_ns > 0)
    assert len({step.index for step in path}) == len(path)
    before_ns = RECEIVED
    for number, step in enumerate(path):
        call = of[step.index]
        start_ns = call.started_ns or call.finished_ns
        assert step.waiting_ns == start_ns - before_ns >= 0
        assert step.running_ns == call.finished_ns - start_ns
        assert (step.cause is BlockCause.NONE) == (number == 0)
        before_ns = call.finished_ns
    if path:
        spent = sum(step.waiting_ns + step.running_ns for step in path)
        gap = schedule.duration_ns - spent
        assert gap >= 0
        if gap:
            # What ended later was a consequence of a failure.
            late = [call for call in of.values() if call.finished_ns > before_ns]
            assert all(is_consequence(call) for call in late)


@given(batches())
def test_each_step_names_a_cause_that_it_can_have(happened: Happened) -> None:
    path = explain(happened).critical_path
    for before, step in pairwise(path):
        call, cause = happened.calls[step.index], step.cause
        if cause is BlockCause.REFERENCE:
            assert before.index in happened.depends_on[step.index]
        elif cause is BlockCause.ORDER:
            assert happened.mode is Mode.SEQUENTIAL
        elif cause is BlockCause.LANE and before.index in happened.after.get(step.index, ()):
            continue
        else:
            assert call.blocked_ns is not None
            assert cause in call.blocked_ns
