"""What the engine does for one call beside running it: flights, lane, probe."""

from sidecall_server.core.call import Call
from sidecall_server.core.outcome import Outcome
from sidecall_server.engine.flights import Flight
from sidecall_server.engine.lanes import Lanes
from sidecall_server.engine.log import Log
from sidecall_server.policy.breaker import CircuitBreaker


class Supervision:
    """One call's share in what concerns several calls.

    Attributes:
        flights: Runs that the call leads.
        breaker: Breaker that its current attempt is a probe of; None for none.
        lane_key: Key of its lane; None before it is known, or without one.
        marks: Where it must be durable that an attempt starts: logs, and positions in them.
    """

    __slots__ = (
        "_lanes",
        "breaker",
        "flights",
        "lane_key",
        "marks",
    )

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self.flights: list[Flight] = []
        self.breaker: CircuitBreaker | None = None
        self.lane_key: str | None = None
        self.marks: list[tuple[Log, int]] = []

    @property
    def is_wanted(self) -> bool:
        """Whether its attempt goes on when its own batch does not wait for it."""
        return any(flight.is_followed or flight.lives_on for flight in self.flights)

    def withdraw_probe(self, call: Call, now_ns: int) -> None:
        """Gives the place of a probe back that nobody saw the end of."""
        breaker, self.breaker = self.breaker, None
        ticket, call.ticket = call.ticket, None
        if breaker is not None and ticket is not None:
            breaker.ended(ticket, None, now_ns)

    def succeeded_by(self, call: Call) -> None:
        """Has the next attempt of the call lead its flights."""
        for flight in self.flights:
            flight.leader = call

    def leave_lane(self, call: Call) -> None:
        """Gives the call's lane back, or its place in the line."""
        lane, call.lane = call.lane, None
        if lane is not None:
            self._lanes.leave(lane, call)

    def ended(self, call: Call, outcome: Outcome, now_ns: int) -> None:
        """Takes note that a call is final; what it leads ends as well, unless it is detached."""
        if call.detached:
            return
        if self.breaker is not None:
            self.withdraw_probe(call, now_ns)
        if call.worker is None:
            self.leave_lane(call)
        for flight in self.flights:
            flight.end(call, outcome)

    def detach(self, call: Call, deadline_ns: int, *, client_gone: bool) -> bool:
        """Leaves the call's attempt to its followers; returns whether there are any.

        Args:
            call: A call whose attempt runs, and which is given up.
            deadline_ns: When the attempt must end that is no longer bound by its call.
            client_gone: Whether nobody waits for the call, rather than that it should end.
        """
        followed = any(flight.is_followed for flight in self.flights)
        if followed:
            call.deadline_ns = deadline_ns
        call.detached = followed or (
            client_gone and any(flight.lives_on for flight in self.flights)
        )
        return call.detached

    def land(self, call: Call, outcome: Outcome, *, hands_over: bool = False) -> None:
        """Takes the outcome of an attempt that its call had been detached from.

        Args:
            call: The call.
            outcome: The outcome of the attempt.
            hands_over: Whether a call that waits for it tries again instead.
        """
        call.detached = False
        if call.worker is None:
            self.leave_lane(call)
        for flight in self.flights:
            flight.end(call, outcome, hands_over=hands_over)
