"""The order of all policies, written once.

Two kinds. *Admission* policies are synchronous state that is asked before an attempt
exists. In their order, with the reason for it:

1. replay (`engine.entrance`): what completed in an earlier send needs nothing else;
2. references: values come before checks;
3. arguments: an invalid call must neither wait nor take a place;
4. approval: a human decides on what would really run, and before it costs anything;
5. idempotency key, then cache and coalescing: what need not run takes no permit, and
   must not be refused because its tool fails at present;
6. breaker: a tool that is left alone takes no place;
7. queue: a full one answers at once;
8. lane: before the permits, so that whoever holds permits waits for nobody;
9. rates and permits (`engine.admission`): all at once or none.

A retry begins again at 6. *Layers* wrap one admitted attempt: `LAYERS`. What is not
configured is left out, not made a layer that does nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import ExecutionState, Failure, Reason
from sidecall_server.core.ports import BoundTool, Handler, Layer
from sidecall_server.core.tool import Effects
from sidecall_server.policy.arguments import ArgumentsPolicy
from sidecall_server.policy.breaker import CircuitBreaker
from sidecall_server.policy.concurrency import Limiter
from sidecall_server.policy.journal import journal_layer
from sidecall_server.policy.lane_key import LaneKey
from sidecall_server.policy.queue import ToolQueue
from sidecall_server.policy.rate import RateLimiter
from sidecall_server.policy.result_size import result_size_layer
from sidecall_server.policy.retry import Retrier

_QUEUE_FULL_RETRY_S = 1.0

LAYERS: Sequence[Callable[[BoundTool, bool], Layer | None]] = (
    # Outermost: nothing of an attempt may happen before its start is durable.
    lambda tool, durable: journal_layer(tool) if durable else None,
    # Innermost: whatever else looks at the outcome sees the refusal.
    lambda tool, _: result_size_layer(tool),
)
"""What may wrap an attempt, outermost first; None where a tool does not configure it.

The second argument says whether starts of calls may have to be durable. Timeouts are none
of them: one timer of the engine serves all attempts."""


@dataclass(slots=True, weakref_slot=True)
class ToolState:
    """What belongs to a tool's name and outlives a swap.

    Attributes:
        limiter: Its permits.
        queue: Its ready calls that wait.
        rate: How often it may start; None without a rate.
        breaker: Whether it is left alone; None without a breaker.
        retrier: When its failed attempts are repeated; None without retries.
    """

    limiter: Limiter[Any]
    queue: ToolQueue
    rate: RateLimiter[Any] | None = None
    breaker: CircuitBreaker | None = None
    retrier: Retrier | None = None


@dataclass(frozen=True, slots=True)
class GroupState:
    """A limit that several tools share.

    Attributes:
        limiter: Its permits; None without a bound.
        rate: How often its tools may start; None without a rate.
    """

    limiter: Limiter[Any] | None = None
    rate: RateLimiter[Any] | None = None


class ToolPolicies:
    """The policies of one tool, and the values in force.

    Attributes:
        tool: The tool.
        version: Differs from that of another tool of the same name, before or after it.
        spec: The tool's description.
        handler: Runs one attempt, layers included.
        state: What belongs to its name.
        limiter: Permits of the tool.
        queue: Its ready calls that wait.
        groups: Permits that it shares with other tools.
        rates: How often it, and the groups that it is in, may start.
        breaker: Whether it is left alone; None without a breaker.
        retrier: When failed attempts are repeated; None without retries.
        arguments: What they must be.
        lane: Gives the key of a call's lane; None without lanes.
        is_plain: Whether a call may run as soon as it is valid and there is room.
        is_governed: Whether room is not only a matter of permits and queues.
        is_judged: Whether something follows from the outcome of an attempt.
        timeout_ns: Time that one attempt may take.
        queue_timeout_ns: Time that a ready call may wait.
    """

    __slots__ = (
        "_joined",
        "arguments",
        "breaker",
        "groups",
        "handler",
        "is_governed",
        "is_judged",
        "is_plain",
        "lane",
        "limiter",
        "queue",
        "queue_timeout_ns",
        "rates",
        "retrier",
        "spec",
        "state",
        "timeout_ns",
        "tool",
        "version",
    )

    def __init__(
        self,
        tool: BoundTool,
        limits: Limits,
        state: ToolState,
        groups: tuple[GroupState, ...],
        *,
        durable: bool = False,
        version: int = 0,
    ) -> None:
        """Builds the policies; raises ValueError where the tool's schema is invalid."""
        spec = tool.spec
        self.tool = tool
        self.version = version
        self.spec = spec
        layers = [layer for make in LAYERS if (layer := make(tool, durable)) is not None]
        self.handler = stack(*layers)(tool.handler)
        self.state = state
        self._joined = groups
        self.limiter = state.limiter
        self.queue = state.queue
        self.groups = tuple(group.limiter for group in groups if group.limiter is not None)
        rates = [state.rate if spec.rate is not None else None, *(group.rate for group in groups)]
        self.rates = tuple(rate for rate in rates if rate is not None)
        self.breaker = state.breaker if spec.breaker is not None else None
        self.retrier = state.retrier if spec.retry is not None else None
        self.lane = LaneKey(spec.lane.template) if spec.lane is not None else None
        self.is_plain = not (self.lane or spec.sharing or spec.requires_approval)
        self.is_judged = self.breaker is not None or self.retrier is not None
        self.is_governed = self.is_judged or bool(self.rates)
        self.timeout_ns = int((spec.timeout_s or limits.timeout_s) * 1e9)
        self.queue_timeout_ns = int((spec.queue_timeout_s or limits.queue_timeout_s) * 1e9)
        self.arguments = ArgumentsPolicy(spec.input_schema, tool.prepare, limits.max_argument_depth)

    def is_of(self, tool: BoundTool, state: ToolState, groups: tuple[GroupState, ...]) -> bool:
        """Whether it is what would be made of these."""
        return self.tool == tool and self.state is state and self._joined == groups

    @property
    def is_repeatable(self) -> bool:
        """Whether running it twice does no harm."""
        return self.spec.effects is not Effects.NON_IDEMPOTENT

    def refuse_full(self, caller: str) -> Failure | None:
        """Says that one more call of a caller has no place to wait; None where it has."""
        queue = self.queue
        if queue.count >= queue.max_calls:
            free = max(0, self.limiter.limit - self.limiter.active)
            if queue.is_full(caller, free):
                return _queue_full(self.spec.name)
        return None


def stack(*layers: Layer) -> Layer:
    """Combines layers; the first sees the attempt first."""

    def wrap(handler: Handler) -> Handler:
        for layer in reversed(layers):
            handler = layer(handler)
        return handler

    return wrap


def _queue_full(name: str) -> Failure:
    return Failure(
        Reason.QUEUE_FULL,
        f"Not run: too many calls of {name!r} wait already. Try again later.",
        ExecutionState.NOT_STARTED,
        retry_after_s=_QUEUE_FULL_RETRY_S,
    )
