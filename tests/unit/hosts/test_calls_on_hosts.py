"""An engine whose tools run on hosts: what was sent, what was not, and for how long it waits."""

from collections.abc import AsyncIterator, Sequence

import pytest
from tests.support.clock import settle
from tests.support.engines import failure_of
from tests.support.hosted import HostedWorld, hosted_world

from sidecall_server.core.call import Call
from sidecall_server.core.outcome import (
    Code,
    ExecutionState,
    Failure,
    Reason,
    Success,
)


@pytest.fixture
async def world() -> AsyncIterator[HostedWorld]:
    async with hosted_world() as world:
        yield world


def states(calls: Sequence[Call]) -> list[ExecutionState]:
    return [failure_of(call).state for call in calls]


async def test_what_is_given_up_before_it_is_sent_is_never_sent(world: HostedWorld) -> None:
    host = world.attach("pay")
    turn = await world.call("pay")
    assert len(host.outbox) == 1
    world.bench.engine.cancel_open()
    # Its stream may have room before anything else happens on the loop.
    assert world.send(host) == []
    await settle()
    assert states(turn.calls()) == [ExecutionState.NOT_STARTED]


async def test_what_is_given_up_while_it_waits_is_never_sent(world: HostedWorld) -> None:
    host = world.attach("pay", "other")
    world.attach("other")  # has the slot that lets a call wait for the other one
    first = await world.call("other")
    assert world.send(host) == ["other"]
    second = await world.call("pay")
    world.bench.engine.cancel_open()
    world.answer(host, Success("late"))
    assert world.send(host) == []
    await settle()
    assert states([*first.calls(), *second.calls()]) == [
        ExecutionState.UNKNOWN,
        ExecutionState.NOT_STARTED,
    ]


async def test_a_call_waits_for_a_slot_as_long_as_for_a_permit(world: HostedWorld) -> None:
    host = world.attach("slow", "next")
    world.attach("slow")  # has the slot that lets a call wait for the other one
    first = await world.call("slow")
    assert world.send(host) == ["slow"]
    second = await world.call("next")
    await world.bench.clock.advance(1.1)
    await settle()
    (late,) = second.calls()
    assert failure_of(late).reason is Reason.QUEUE_TIMEOUT
    assert failure_of(late).state is ExecutionState.NOT_STARTED
    world.answer(host, Success("done"))
    assert world.send(host) == []
    await settle()
    assert isinstance(first.calls()[0].outcome, Success)


async def test_a_host_that_refuses_what_another_one_had_does_not_know_that_it_never_ran(
    world: HostedWorld,
) -> None:
    one, other = (world.attach("read", effects="idempotent") for _ in range(2))
    turn = await world.call("read")
    had, has_not = (one, other) if one.in_hand else (other, one)
    assert world.send(had) == ["read"]
    world.pool.detach(had)
    assert world.send(has_not) == ["read"]
    refusal = Failure(
        Reason.TOOL_UNAVAILABLE, "Busy.", ExecutionState.NOT_STARTED, code=Code.UNAVAILABLE
    )
    world.answer(has_not, refusal)
    await settle()
    (call,) = turn.calls()
    assert failure_of(call).state is ExecutionState.UNKNOWN
    assert call.attempt == 1


async def test_what_was_sent_as_unrepeatable_is_not_run_again_by_a_later_description(
    world: HostedWorld,
) -> None:
    old = world.attach("pay")
    turn = await world.call("pay")
    assert world.send(old) == ["pay"]
    new = world.attach("pay", effects="idempotent")
    world.pool.detach(old)
    assert world.send(new) == []
    await settle()
    (call,) = turn.calls()
    assert failure_of(call).reason is Reason.HOST_DETACHED
    assert failure_of(call).state is ExecutionState.UNKNOWN
