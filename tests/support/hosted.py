"""A sidecar without transport whose hosts do what a test says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.engines import Bench, Turn, bench

from sidecall_server.config import Settings
from sidecall_server.core.call import ToolCall
from sidecall_server.core.outcome import Outcome
from sidecall_server.hosts.host import Host, HostedTool
from sidecall_server.hosts.pool import HostPool
from sidecall_server.reload.served import ServedTools

HOUR_S = 3600.0


@dataclass
class HostedWorld:
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


@asynccontextmanager
async def hosted_world() -> AsyncIterator[HostedWorld]:
    """A sidecar without tools; at the end its hosts leave."""
    async with bench() as made:
        pool = HostPool(made.clock, HOUR_S)
        served = ServedTools(made.engine, pool)
        await served.put_in_force(Settings())
        yield HostedWorld(made, pool, served)
        for host in list(pool.hosts.values()):
            pool.detach(host)
        await made.engine.stop(1.0)
        await served.stop(0.1)
        made.assert_idle()
