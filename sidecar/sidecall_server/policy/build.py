"""The order of all policies, written once.

Two kinds. *Admission* policies are synchronous state that is asked before an attempt
exists: `ToolPolicies.admit`, then the permits that `sidecall_server.engine.admission`
gives out. *Layers* wrap one admitted attempt: `LAYERS`. What is not configured is left
out, not made a layer that does nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sidecall_server.core.call import Arguments, Call
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import ExecutionState, Failure, Reason
from sidecall_server.core.ports import BoundTool, Handler, Layer
from sidecall_server.policy.arguments import ArgumentsPolicy
from sidecall_server.policy.concurrency import Limiter
from sidecall_server.policy.queue import ToolQueue

_QUEUE_FULL_RETRY_S = 1.0

LAYERS: Sequence[Callable[[BoundTool], Layer | None]] = ()
"""What may wrap an attempt, outermost first; None where a tool does not configure it.

Timeouts are none of them: one timer of the engine serves all attempts."""


class ToolPolicies:
    """The policies of one tool, and the values in force.

    Attributes:
        spec: The tool's description.
        handler: Runs one attempt, layers included.
        limiter: Permits of the tool; belongs to its name and outlives a swap.
        groups: Permits that it shares with other tools.
        timeout_ns: Time that one attempt may take.
        queue_timeout_ns: Time that a ready call may wait.
        queue: Its ready calls that wait; belongs to its name like the permits.
    """

    __slots__ = (
        "_arguments",
        "groups",
        "handler",
        "limiter",
        "queue",
        "queue_timeout_ns",
        "spec",
        "timeout_ns",
    )

    def __init__(
        self,
        tool: BoundTool,
        limits: Limits,
        limiter: Limiter[Any],
        groups: tuple[Limiter[Any], ...],
        queue: ToolQueue,
    ) -> None:
        """Builds the policies; raises ValueError where the tool's schema is invalid."""
        spec = tool.spec
        self.spec = spec
        layers = [layer for make in LAYERS if (layer := make(tool)) is not None]
        self.handler = stack(*layers)(tool.handler)
        self.limiter = limiter
        self.groups = groups
        self.timeout_ns = int((spec.timeout_s or limits.timeout_s) * 1e9)
        self.queue_timeout_ns = int((spec.queue_timeout_s or limits.queue_timeout_s) * 1e9)
        self.queue = queue
        self._arguments = ArgumentsPolicy(
            spec.input_schema, tool.prepare, limits.max_argument_depth
        )

    def admit(self, call: Call, values: Arguments | None) -> Failure | None:
        """Says why a call whose references are resolved must not run; None where it may.

        Args:
            call: The call; its `arguments` are set.
            values: Its arguments where they were parsed before.
        """
        # Before the queue: an invalid call must neither wait nor take a place.
        failure = self._arguments.admit(call, values)
        if failure is not None:
            return failure
        # Before the permits: a full queue answers at once.
        queue = self.queue
        if queue.count >= queue.max_calls:
            free = max(0, self.limiter.limit - self.limiter.active)
            if queue.is_full(call.options.caller, free):
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
