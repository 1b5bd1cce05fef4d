"""An engine whose tools run on hosts: what was sent, what was not, and for how long it waits."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from tests.support.clock import settle
from tests.support.engines import Bench, Turn, bench, failure_of

from sidecall_server.config import Settings
from sidecall_server.core.call import Call, ToolCall
from sidecall_server.core.outcome import (
    Code,
    ExecutionState,
    Failure,
    Outcome,
    Reason,
    Success,
)
from sidecall_server.hosts.host import Host, HostedTool
from sidecall_server.hosts.pool import HostPool
from sidecall_server.reload.served import ServedTools

HOUR_S = 3600.0


@dataclass
class World:
    """A sidecar without transport."""

    bench: Bench
    pool: HostPool
    served: ServedTools
    hosts: list[Host] = field(default_factory=list)

    def attach(self, *names: str, slots: int = 1, effects: str = "non_idempotent") -> Host:
        """Attaches a host with some tools."""
        tools = [
            HostedTool(
                "a test",
                name=name,
                description="",
                input_schema={"type": "object"},
                effects=effects,
                queue_timeout=1.0,
            )
            for name in names
        ]
        host = Host(str(len(self.hosts)), "a test", tools, slots, lambda: None)
        self.pool.attach(host)
        self.hosts.append(host)
        return host

    def send(self, host: Host) -> list[str]:
        """Sends what a host is to be given; returns the names of the tools."""
        names = []
        while host.outbox:
            attempt = host.outbox.popleft()
            self.pool.sent(attempt)
            names.append(attempt.call.request.name)
        return names

    def answer(self, host: Host, outcome: Outcome) -> None:
        """Has a host answer what it was given first."""
        attempt = next(a for a in host.in_hand.values() if a.is_sent)
        self.pool.returned(host, attempt, outcome)

    async def call(self, *names: str) -> Turn:
        """Sends a batch."""
        return await self.bench.start([ToolCall("", name) for name in names])


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with bench() as made:
        pool = HostPool(made.clock, HOUR_S)
        served = ServedTools(made.engine, pool)
        await served.put_in_force(Settings())
        yield World(made, pool, served)
        for host in list(pool.hosts.values()):
            pool.detach(host)
        await served.stop(0.1)


def states(calls: Sequence[Call]) -> list[ExecutionState]:
    return [failure_of(call).state for call in calls]


async def test_what_is_given_up_before_it_is_sent_is_never_sent(world: World) -> None:
    host = world.attach("pay")
    turn = await world.call("pay")
    assert len(host.outbox) == 1
    world.bench.engine.cancel_open()
    # Its stream may have room before anything else happens on the loop.
    assert world.send(host) == []
    await settle()
    assert states(turn.calls()) == [ExecutionState.NOT_STARTED]


async def test_what_is_given_up_while_it_waits_is_never_sent(world: World) -> None:
    host = world.attach("pay", "other")
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


async def test_a_call_waits_for_a_slot_as_long_as_for_a_permit(world: World) -> None:
    host = world.attach("slow", "next")
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
    world: World,
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
    world: World,
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
