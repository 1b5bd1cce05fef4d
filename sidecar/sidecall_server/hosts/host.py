"""What takes part when a call runs in an application: tool, host, attempt."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from sidecall._tool import Tool
from sidecall_server.core.call import Call
from sidecall_server.core.outcome import Outcome
from sidecall_server.core.ports import Handler, Timer


class HostedTool(Tool[..., object]):
    """A tool that an application declares; only the application can call it."""

    def __init__(self, source: str, **declaration: object) -> None:
        """Takes where it comes from, for people, and what `Tool` takes, without `call`.

        Raises:
            ToolDefinitionError: Something in it is not allowed.
        """
        self._source = source
        super().__init__(call=_call_elsewhere, **declaration)  # type: ignore[arg-type]  # checked

    @property
    def location(self) -> str:
        """The application that declares it."""
        return self._source


def expected_tool(name: str, host_name: str) -> HostedTool:
    """What is known of a tool before the application that offers it has attached.

    Raises:
        ToolDefinitionError: No tool can have the name.
    """
    return HostedTool(
        f"application {host_name!r}",
        name=name,
        description=f"Offered by the application {host_name!r}, which is not attached yet.",
        input_schema={"type": "object"},
    )


async def _call_elsewhere(**arguments: object) -> None:
    raise NotImplementedError(f"{sorted(arguments)}: an application runs this")


class HostedAttempt:
    """One attempt that waits for a host, or runs there.

    Attributes:
        offer: The tool.
        call: The call.
        turn: Its place in the line: a smaller one came before.
        host: The host that has it; None while it waits for one.
        id: What the host knows it by; 0 before it has one.
        is_sent: Whether the host has been given it: its function may run.
        is_repeatable: Whether running it twice does no harm, by all policies that were in
            force since it was first sent.
        moves: Hosts that disappeared while they had it.
        ended: Done when it needs nothing any more; None where nobody wants an outcome.
    """

    __slots__ = (
        "call",
        "ended",
        "host",
        "id",
        "is_repeatable",
        "is_sent",
        "moves",
        "offer",
        "turn",
    )

    def __init__(self, offer: "Offer", call: Call, turn: int) -> None:
        self.offer = offer
        self.call = call
        self.turn = turn
        self.host: Host | None = None
        self.id = 0
        self.is_sent = False
        self.is_repeatable = False
        self.moves = 0
        self.ended: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()

    def end(self, outcome: Outcome | None) -> None:
        """Gives it its outcome; one that has ended stays as it is."""
        if not self.ended.done():
            self.ended.set_result(outcome)


class Host:
    """One application that is attached.

    Attributes:
        id: For logs.
        name: What it calls itself.
        tools: What it offers, by name.
        max_concurrency: Attempts that it runs at a time.
        is_open: Whether it takes further attempts.
        in_hand: Attempts that it has, by their ids.
        outbox: Attempts that it is to be given next.
        cancellations: Ids of attempts that it is to be told to end.
    """

    def __init__(
        self,
        host_id: str,
        name: str,
        tools: Iterable[HostedTool],
        max_concurrency: int,
        wake: Callable[[], None],
    ) -> None:
        """Takes what is called when there is something to send."""
        self.id = host_id
        self.name = name
        self.tools = {tool.name: tool for tool in tools}
        self.max_concurrency = max_concurrency
        self.is_open = True
        self.in_hand: dict[int, HostedAttempt] = {}
        self.outbox: deque[HostedAttempt] = deque()
        self.cancellations: deque[int] = deque()
        self._wake = wake
        self._last_id = 0

    def __repr__(self) -> str:
        return f"Host({self.name!r}, {len(self.in_hand)}/{self.max_concurrency})"

    @property
    def free(self) -> int:
        """Attempts that it takes at present."""
        return self.max_concurrency - len(self.in_hand) if self.is_open else 0

    @property
    def slots(self) -> int:
        """Attempts that may run here."""
        return self.max_concurrency if self.is_open else len(self.in_hand)

    def take(self, attempt: HostedAttempt) -> None:
        """Gets an attempt; it is sent when the stream has room."""
        self._last_id += 1
        attempt.id = self._last_id
        attempt.host = self
        self.in_hand[attempt.id] = attempt
        self.outbox.append(attempt)
        self._wake()

    def cancel(self, attempt: HostedAttempt) -> None:
        """Tells the application to end an attempt that it has been given."""
        self.cancellations.append(attempt.id)
        self._wake()


class Offer:
    """A tool that hosts offer, or offered, or are expected to offer.

    Attributes:
        tool: Its description: that of the host which attached last.
        run: Runs one attempt.
        hosts: Who offers it now.
        waiting: Attempts that wait for a host with a free slot.
        is_repeatable: Whether running it twice does no harm, by the policy in force.
        retention: Timer after which it is not known any more; None while it has a host.
    """

    __slots__ = (
        "hosts",
        "is_repeatable",
        "retention",
        "run",
        "tool",
        "waiting",
    )

    def __init__(self, tool: HostedTool, run: Callable[["Offer", Call], Awaitable[Outcome]]):
        self.tool = tool
        self.run: Handler = partial(run, self)
        self.hosts: list[Host] = []
        self.waiting: deque[HostedAttempt] = deque()
        self.is_repeatable = False
        self.retention: Timer | None = None

    def __repr__(self) -> str:
        return f"Offer({self.tool.name!r}, hosts={len(self.hosts)}, waiting={len(self.waiting)})"

    @property
    def is_available(self) -> bool:
        """Whether a host takes its calls."""
        return any(host.is_open for host in self.hosts)

    @property
    def slots(self) -> Mapping[str, int]:
        """Slots of each of its hosts by id; of those that drain, what they still have."""
        return {host.id: host.slots for host in self.hosts}

    def best_host(self) -> Host | None:
        """The open host with the most free slots; None without one."""
        able = (host for host in self.hosts if host.is_open)
        return max(able, key=lambda host: host.free, default=None)
