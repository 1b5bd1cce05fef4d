"""Time blocked per cause, at a constant cost per call."""

from hypothesis import given
from hypothesis import strategies as st

from sidecall_server.core.call import BatchOptions, BlockCause, Call, ToolCall
from sidecall_server.engine.blocking import UNBLOCKED, Mark, account

causes = st.sampled_from([BlockCause.NONE, BlockCause.TOOL_LIMIT, BlockCause.GLOBAL_LIMIT])


def ready_call(ready_ns: int, mark: Mark) -> Call:
    call = Call(0, ToolCall("", "t"), BatchOptions(), None, 0)
    call.ready_ns = ready_ns
    call.mark = mark
    return call


def test_a_call_that_did_not_wait_has_no_entry() -> None:
    call = ready_call(10, UNBLOCKED)
    account(call, UNBLOCKED, 50)

    assert call.blocked_ns is None


def test_a_call_that_became_ready_in_the_middle_of_a_wait_is_booked_its_own_part() -> None:
    mark = UNBLOCKED.switch(BlockCause.TOOL_LIMIT, 100)
    call = ready_call(130, mark)
    account(call, mark, 150)

    assert call.blocked_ns == {BlockCause.TOOL_LIMIT: 20}


def test_the_same_cause_again_is_no_switch() -> None:
    mark = UNBLOCKED.switch(BlockCause.TOOL_LIMIT, 100)

    assert mark.switch(BlockCause.TOOL_LIMIT, 200) is mark


@given(st.lists(st.tuples(causes, st.integers(1, 50)), max_size=12), st.integers(0, 300), st.data())
def test_the_booked_times_are_those_of_a_naive_stopwatch(
    periods: list[tuple[BlockCause, int]], ready_ns: int, data: st.DataObject
) -> None:
    """`periods` are causes and how long each lasted; the call was ready from some point on."""
    changes: list[tuple[int, BlockCause]] = []
    now_ns = 1
    for cause, length_ns in periods:
        changes.append((now_ns, cause))
        now_ns += length_ns
    ready_ns = min(ready_ns, now_ns)
    start_ns = data.draw(st.integers(ready_ns, now_ns))

    mark, call = UNBLOCKED, None
    expected: dict[BlockCause, int] = {}
    current = BlockCause.NONE
    pending = list(changes)
    for tick in range(1, start_ns + 1):
        while pending and pending[0][0] <= tick:
            _, current = pending.pop(0)
            mark = mark.switch(current, tick)
        if tick == max(ready_ns, 1):
            call = ready_call(tick, mark)
        if call is not None and tick < start_ns and current is not BlockCause.NONE:
            expected[current] = expected.get(current, 0) + 1
    if call is None:
        return
    account(call, mark, start_ns)

    booked = {cause: time_ns for cause, time_ns in (call.blocked_ns or {}).items() if time_ns}
    assert booked == expected
