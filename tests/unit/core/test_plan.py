"""The order of a batch: events in, steps out."""

from sidecall_server.core.call import Mode, OnFailure
from sidecall_server.core.plan import Plan, Step

SEQUENTIAL, STOP = Mode.SEQUENTIAL, OnFailure.STOP


def finish(plan: Plan, index: int, ok: bool = True) -> Step:
    """What follows; an empty step where nothing does."""
    return plan.finish(index, ok) or Step()


def test_calls_without_edges_are_ready_at_once_and_in_order() -> None:
    assert Plan().add_all(4, {}).ready == [0, 1, 2, 3]


def test_a_call_is_ready_the_moment_its_own_dependencies_are_done() -> None:
    plan = Plan()
    assert plan.add_all(5, {2: [0], 3: [0, 1], 4: [2]}).ready == [0, 1]

    assert finish(plan, 0).ready == [2]
    assert finish(plan, 2).ready == [4]
    assert finish(plan, 1).ready == [3]
    assert finish(plan, 3).ready == []


def test_an_edge_that_is_named_twice_counts_once() -> None:
    plan = Plan()
    plan.add_all(2, {1: [0, 0, 0]})

    assert finish(plan, 0).ready == [1]


def test_a_failure_fails_all_that_depends_on_it_once() -> None:
    plan = Plan()
    plan.add_all(6, {1: [0], 2: [0, 1], 3: [2], 4: [5]})
    step = finish(plan, 0, ok=False)

    assert sorted(step.failed_dependency) == [(1, 0), (2, 0), (3, 2)]
    assert step.ready == []
    assert finish(plan, 5).ready == [4]


def test_an_end_that_is_told_twice_counts_once() -> None:
    plan = Plan()
    plan.add_all(3, {1: [0], 2: [0, 1]})

    assert finish(plan, 0).ready == [1]
    assert finish(plan, 0).ready == []
    assert finish(plan, 0, ok=False).failed_dependency == []
    assert finish(plan, 1).ready == [2]


def test_sequential_gives_one_turn_at_a_time_to_the_first_that_can() -> None:
    plan = Plan(SEQUENTIAL)
    assert plan.add_all(4, {0: [2]}).ready == [1]

    assert finish(plan, 1).ready == [2]
    assert finish(plan, 2).ready == [0]
    assert finish(plan, 0).ready == [3]


def test_sequential_goes_on_after_a_failure() -> None:
    plan = Plan(SEQUENTIAL)
    plan.add_all(4, {1: [0], 2: [1]})
    step = finish(plan, 0, ok=False)

    assert step.failed_dependency == [(1, 0), (2, 1)]
    assert step.ready == [3]


def test_stop_names_what_was_not_made_ready() -> None:
    plan = Plan(on_failure=STOP)
    plan.add_all(5, {2: [0], 3: [1], 4: [3]})
    step = finish(plan, 1, ok=False)

    assert plan.stopped
    assert sorted(step.failed_dependency) == [(3, 1), (4, 3)]  # it beats STOPPED
    assert step.stopped == [2]
    assert finish(plan, 0).ready == []


def test_stop_in_a_sequential_batch_leaves_nothing_to_run() -> None:
    plan = Plan(SEQUENTIAL, STOP)
    plan.add_all(4, {2: [0]})
    step = finish(plan, 0, ok=False)

    assert step == Step([], [(2, 0)], [1, 3])


def test_what_comes_after_the_stop_is_stopped() -> None:
    plan = Plan(on_failure=STOP)
    plan.add(0)
    finish(plan, 0, ok=False)

    assert plan.add(1).stopped == [1]
    assert plan.seal() == Step()


def test_a_streamed_call_may_wait_for_one_that_comes_later() -> None:
    plan = Plan()
    assert plan.add(0, [2]).ready == []
    assert plan.add(1).ready == [1]
    assert plan.add(2).ready == [2]

    assert finish(plan, 2).ready == [0]


def test_a_streamed_call_may_depend_on_a_final_one() -> None:
    plan = Plan()
    plan.add(0)
    plan.add(1)
    finish(plan, 0)
    finish(plan, 1, ok=False)

    assert plan.add(2, [0]).ready == [2]
    assert plan.add(3, [0, 1]).failed_dependency == [(3, 1)]


def test_a_late_failure_reaches_those_that_waited_for_a_call_that_then_came() -> None:
    plan = Plan()
    plan.add(0)
    finish(plan, 0, ok=False)
    plan.add(2, [1])
    step = plan.add(1, [0])

    assert step.failed_dependency == [(1, 0), (2, 1)]


def test_what_is_held_is_ready_at_the_seal() -> None:
    plan = Plan()
    plan.add(0, hold=True)
    plan.add(1, [0], hold=True)
    plan.add(2)
    plan.add(3, [2], hold=True)
    assert finish(plan, 2).ready == []

    assert plan.seal().ready == [0, 3]
    assert finish(plan, 0).ready == [1]


def test_what_is_held_can_fail_before_the_seal() -> None:
    plan = Plan()
    plan.add(0)
    plan.add(1, [0], hold=True)

    assert finish(plan, 0, ok=False).failed_dependency == [(1, 0)]
    assert plan.seal().ready == []


def test_a_sequential_stream_waits_for_earlier_calls_until_the_seal() -> None:
    plan = Plan(SEQUENTIAL)
    assert plan.add(1).ready == []
    assert plan.add(0).ready == [0]
    assert finish(plan, 0).ready == [1]
    assert plan.add(2, hold=True).ready == []
    assert plan.add(3).ready == []
    assert finish(plan, 1).ready == []

    assert plan.seal().ready == [2]
    assert finish(plan, 2).ready == [3]


def test_a_sequential_stream_passes_over_what_is_blocked_only_after_the_seal() -> None:
    plan = Plan(SEQUENTIAL)
    plan.add(0, [2])
    plan.add(1)
    plan.add(2)

    assert plan.seal().ready == [1]
    assert finish(plan, 1).ready == [2]
    assert finish(plan, 2).ready == [0]


def test_an_unlinked_call_waits_for_the_seal_alone() -> None:
    plan = Plan()
    plan.add(0, [1])
    plan.add(1, [0])
    plan.add(2, [0])
    plan.unlink(0, [1])
    plan.unlink(1, [0])

    assert plan.seal().ready == [0, 1]
    assert finish(plan, 1, ok=False).failed_dependency == []
    assert finish(plan, 0, ok=False).failed_dependency == [(2, 0)]


def test_a_failure_before_its_turn_stops_a_sequence_at_its_turn() -> None:
    plan = Plan(Mode.SEQUENTIAL, OnFailure.STOP)
    assert plan.add_all(5, {}).ready == [0]

    early = plan.finish(3, ok=False)
    assert early is not None
    assert not early.stopped
    second = plan.finish(0, ok=True)
    assert second is not None
    assert second.ready == [1]
    third = plan.finish(1, ok=True)
    assert third is not None
    assert third.ready == [2]
    last = plan.finish(2, ok=True)
    assert last is not None
    assert (last.ready, last.stopped) == ([], [4])


def test_a_call_that_fails_early_lets_no_later_one_pass() -> None:
    plan = Plan()
    # 3 comes after 0, which waits for 1 and 2; so 3 comes after 2 as well.
    step = plan.add_all(4, {0: [1, 2]}, {2: [1], 3: [0]})
    assert step.ready == [1]
    failed = plan.finish(1, ok=False)
    assert failed is not None
    assert failed.failed_dependency == [(0, 1)]
    assert failed.ready == [2]
    last = plan.finish(2, ok=True)
    assert last is not None
    assert last.ready == [3]


def test_a_call_that_is_given_up_early_lets_no_later_one_pass() -> None:
    plan = Plan()
    plan.add_all(3, {}, {1: [0], 2: [1]})
    given_up = plan.finish(1, ok=False)
    assert given_up is None or not given_up.ready
    last = plan.finish(0, ok=True)
    assert last is not None
    assert last.ready == [2]
