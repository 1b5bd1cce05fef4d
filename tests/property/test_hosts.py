"""Whatever hosts do, each attempt ends once, and no host has more than its slots."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clock import FakeClock, settle

from sidecall_server.core.call import BatchOptions, Call, ToolCall
from sidecall_server.core.outcome import ExecutionState, Failure, Outcome, Reason, Success
from sidecall_server.hosts.host import Host, HostedTool
from sidecall_server.hosts.pool import HostPool

TOOLS = {"read": True, "pay": False}
"""Names of tools, and whether running them twice does no harm."""

STEPS = st.one_of(
    st.tuples(st.just("attach"), st.sampled_from([("read",), ("pay",), ("read", "pay")])),
    st.tuples(st.just("call"), st.sampled_from(sorted(TOOLS))),
    st.tuples(st.just("send"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["answer", "drain", "detach", "cancel"]), st.integers(0, 5)),
)


@dataclass
class World:
    """A pool, and what happened to it.

    Attributes:
        runs: How often a host was given each call.
        outcomes: What became of the calls.
    """

    pool: HostPool = field(default_factory=lambda: HostPool(FakeClock(), 600.0))
    hosts: list[Host] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    tasks: list[asyncio.Task[Outcome]] = field(default_factory=list)
    runs: Counter[int] = field(default_factory=Counter)

    def attach(self, names: tuple[str, ...]) -> None:
        """Attaches a host with two slots."""
        tools = [
            HostedTool("a test", name=name, description="", input_schema={"type": "object"})
            for name in names
        ]
        host = Host(str(len(self.hosts)), "a test", tools, 2, lambda: None)
        self.hosts.append(host)
        self.pool.attach(host)
        for name in names:
            self.pool.offers[name].is_repeatable = TOOLS[name]

    def call(self, name: str) -> None:
        """Has a call run, once a host has offered its tool."""
        if name in self.pool.offers:
            call = Call(len(self.calls), ToolCall("", name), BatchOptions(), None, 1)
            call.arguments, call.attempt = {}, 1
            self.calls.append(call)
            run = self.pool.offers[name].run(call)
            self.tasks.append(asyncio.ensure_future(run))

    def act(self, step: str, number: int) -> None:
        """Has something happen to a host, or a call, if there is such a one."""
        if step == "cancel":
            running = [call.index for call in self.calls if not self.tasks[call.index].done()]
            if running:
                index = running[number % len(running)]
                self.calls[index].cancelled = True
                on_cancel = self.calls[index].on_cancel
                assert on_cancel is not None
                on_cancel()
                self.tasks[index].cancel()
            return
        host = self.hosts[number % len(self.hosts)]
        if step == "send" and host.outbox:
            attempt = host.outbox.popleft()
            self.runs[attempt.call.index] += 1
            self.pool.sent(attempt)
        elif step == "answer":
            given = [attempt for attempt in host.in_hand.values() if attempt.is_sent]
            if given:
                self.pool.returned(host, given[0], Success("done"))
        elif step == "drain":
            self.pool.drain(host)
        elif step == "detach":
            self.pool.detach(host)

    def check(self) -> None:
        """What must hold at any time."""
        for host in self.hosts:
            assert len(host.in_hand) <= host.max_concurrency
            assert set(host.outbox) <= set(host.in_hand.values())
        for offer in self.pool.offers.values():
            waits = list(offer.waiting)
            assert [a.turn for a in waits] == sorted(a.turn for a in waits)
            assert not (waits and any(host.free > 0 for host in offer.hosts))


async def play(steps: list[tuple[str, object]]) -> None:
    world = World()
    for _ in range(2):
        world.attach(("read", "pay"))
    for name, what in steps:
        if name == "attach":
            world.attach(what)  # type: ignore[arg-type]  # as the strategy says
        elif name == "call":
            world.call(str(what))
        else:
            world.act(name, int(str(what)))
        await settle()
        world.check()
    for host in world.hosts:
        world.pool.detach(host)
    await settle()
    assert all(task.done() for task in world.tasks)
    for call, task in zip(world.calls, world.tasks, strict=True):
        runs = world.runs[call.index]
        assert runs <= (3 if TOOLS[call.request.name] else 1)
        if task.cancelled():
            continue
        outcome = task.result()
        if isinstance(outcome, Failure):
            assert outcome.reason is Reason.HOST_DETACHED
            not_started = outcome.state is ExecutionState.NOT_STARTED
            assert not_started == (runs == 0), (outcome, runs)
            assert (call.attempt == 0) == not_started
        else:
            assert runs >= 1
    assert not any(offer.waiting for offer in world.pool.offers.values())
    assert not any(host.in_hand for host in world.hosts)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, min_size=20, max_size=60))
def test_every_attempt_ends_once_and_slots_hold(steps: list[tuple[str, object]]) -> None:
    asyncio.run(play(steps))
