"""One batch: its plan, its calls and their outcomes."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from sidecall_server.core.call import BatchOptions, BlockCause, Call, Mode, OnFailure
from sidecall_server.core.defaults import Limits
from sidecall_server.core.events import Finished, Observer, Queued
from sidecall_server.core.outcome import (
    ExecutionState,
    Failure,
    Outcome,
    Reason,
    Success,
    not_started,
    unknown_effect,
)
from sidecall_server.core.plan import Plan, Step
from sidecall_server.core.ports import Clock
from sidecall_server.core.tool import Effects
from sidecall_server.engine.admission import Admission, Flow
from sidecall_server.engine.blocking import add_blocked
from sidecall_server.engine.bugs import internal_failure
from sidecall_server.engine.deadlines import BATCH_OVER, Deadlines
from sidecall_server.engine.registry import tool_not_found
from sidecall_server.engine.resolver import Resolver
from sidecall_server.engine.sessions import Sessions
from sidecall_server.engine.slices import Slices
from sidecall_server.engine.watchdog import NEVER, Watchdog
from sidecall_server.policy.build import ToolPolicies
from sidecall_server.policy.concurrency import Limiter

_KEPT_AT_ONCE = 500
"""Results that are added to a session in one turn of the event loop."""


class Host(Protocol):
    """What a batch needs of the engine."""

    clock: Clock
    admission: Admission
    watchdog: Watchdog
    slices: Slices
    sessions: Sessions

    def abandon(self, call: Call) -> None:
        """Tells a running attempt to end; its outcome is already set."""


class Batch:
    """The calls of one turn, from receipt to the last result.

    Everything here is synchronous and happens on the event loop.

    Attributes:
        options: What holds for all calls.
        tools: The tools in force when it was opened.
        calls: The calls by position.
        plan: Their order.
        resolver: Their references.
        edges: The calls that each call depends on, for those that have any.
        refused: Failures found before a start, which count at the call's turn.
        held: Calls that wait for the seal, or did.
        deadlines: When they must be final.
        independent: Whether no outcome of one call concerns another one, so that the plan
            need not be asked.
        observer: Watches; None where nobody does.
        received_ns: When the batch was received, on the engine's clock.
        epoch_ns: Unix time in nanoseconds at which the engine's clock was zero.
        sealed_ns: When it was known that no more calls come; 0 before.
        done: Set when all calls are final and no more can come.
    """

    def __init__(
        self,
        host: Host,
        tools: Mapping[str, ToolPolicies],
        options: BatchOptions,
        limits: Limits,
        max_concurrency: int,
        observer: Observer | None = None,
    ) -> None:
        self._host = host
        self._now_ns = host.clock.now_ns
        self._watchdog = host.watchdog
        self._admission = host.admission
        self._sessions = host.sessions
        self.tools = tools
        self.options = options
        self.observer = observer
        self.calls: dict[int, Call] = {}
        self.plan = Plan(options.mode, options.on_failure)
        self.resolver = Resolver(self.calls, tools, limits, host.sessions.finder(options))
        self.edges: dict[int, list[int]] = {}
        self.refused: dict[int, Failure] = {}
        self.held: set[int] = set()
        self.deadlines = Deadlines(options.deadline_ns)
        self.received_ns = host.clock.now_ns()
        self.epoch_ns = host.clock.unix_ns() - self.received_ns
        self.sealed_ns = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._limiter: Limiter[Flow] = Limiter("batch", BlockCause.BATCH_LIMIT, max_concurrency)
        self._flows: dict[str, Flow] = {}
        self._unfinished = 0
        self._steps: deque[Step] = deque()
        self._applying = False
        self._closed = False
        self._swept = False
        self._unkept: list[int] | None = None  # what is to be added to the session
        self._over: Failure | None = None  # why no call starts any more
        self.independent = False

    def add(self, call: Call) -> None:
        """Takes a call; it must be planned next, unless it is final already."""
        self.calls[call.index] = call
        self._unfinished += 1
        if self._over is not None:
            self.finish(call, self._over, self._now_ns())
            return
        if call.request.timeout_s is not None:
            self._watchdog.arm(self.deadlines.add(call))

    def seal(self) -> None:
        """Takes note that no more calls come, and that none is held any more."""
        self.sealed_ns = self._now_ns()
        self.close()

    def close(self) -> None:
        """Takes note that no more calls come."""
        self._closed = True
        self._complete()

    def apply(self, step: Step) -> None:
        """Carries out what the plan says, and what follows from it, without recursion."""
        self._steps.append(step)
        if self._applying:
            return
        self._applying = True
        try:
            while self._steps:
                self._carry_out(self._steps.popleft())
        finally:
            self._applying = False

    def _carry_out(self, step: Step) -> None:
        now_ns = self._now_ns()
        for index, culprit in step.failed_dependency:
            self.finish(self.calls[index], self._dependency_failed(culprit), now_ns)
        for index in step.stopped:
            self.finish(self.calls[index], _stopped(), now_ns)
        if self.plan.stopped and not self._swept:
            self._swept = True
            for call in self._withdraw_all():
                self.finish(call, _stopped(), now_ns)
        for count, index in enumerate(step.ready, 1):
            self.make_ready(self.calls[index])
            if count < len(step.ready) and self._host.slices.used_up(self._now_ns()):
                # Thousands may have waited for one call, or for large results: others get
                # a turn in between.
                self.done.get_loop().call_soon(self.apply, Step(step.ready[count:]))
                return

    def make_ready(self, call: Call) -> None:
        """Passes a call whose turn has come through admission."""
        if call.outcome is not None:
            # It became final before it was planned: only now can the plan be told.
            if not self.independent:
                self._tell_plan(call)
            return
        now_ns = self._now_ns()
        if self.plan.stopped:
            self.finish(call, _stopped(), now_ns)
            return
        call.ready_ns = now_ns
        if not self.independent:
            self._account_waiting(call)
        name = call.request.name
        flow = self._flows.get(name) or self._flow(name)
        try:
            failure = self._check(call, flow)
        except Exception:
            failure = internal_failure(call, ExecutionState.NOT_STARTED)
        if failure is not None or flow is None:
            self.finish(call, failure or self._not_found(call), now_ns)
            return
        entry = flow.entry
        if now_ns + entry.queue_timeout_ns < self._watchdog.wake_ns:
            self._watchdog.arm(now_ns + entry.queue_timeout_ns)
        self._admission.submit(flow, call)
        if self.options.on_failure is OnFailure.STOP:
            # What may start before a later call is found invalid must have been started.
            self._admission.pump(flow)
        if self.observer is not None and flow.parked is not None:
            self.observer(Queued(call.index, flow.parked.cause))

    def report_parked(self, flow: Flow) -> None:
        """Says what the ready calls of a flow wait for, which has just been parked."""
        if self.observer is not None and flow.parked is not None:
            for call in flow.waiting:
                self.observer(Queued(call.index, flow.parked.cause))

    def start_ready(self) -> None:
        """Starts ready calls now rather than in the next iteration of the loop."""
        self._admission.climb()

    def _check(self, call: Call, flow: Flow | None) -> Failure | None:
        """Resolves references, then asks the tool's policies: values come before checks."""
        if self.refused and call.index in self.refused:
            return self.refused[call.index]
        if flow is None:
            return self._not_found(call)
        if not self.resolver.values:
            return flow.entry.admit(call, None)
        values = self.resolver.arguments(call)
        return values if isinstance(values, Failure) else flow.entry.admit(call, values)

    def _not_found(self, call: Call) -> Failure:
        return tool_not_found(call.request.name, self.tools)

    def _flow(self, name: str) -> Flow | None:
        entry = self.tools.get(name)
        if entry is None:
            return None
        key = (self.options.caller, id(self))
        flow = Flow(entry, self, key, self._limiter, self._admission.limiter)
        entry.queue.join(key, flow.waiting)
        self._flows[name] = flow
        return flow

    def _account_waiting(self, call: Call) -> None:
        """Books the time before ready on dependencies, the seal and the order."""
        index, received_ns = call.index, call.received_ns
        since_ns = received_ns
        if index in self.edges:
            calls = self.calls
            since_ns = max(received_ns, *[calls[i].finished_ns for i in self.edges[index]])
            if since_ns > received_ns:
                add_blocked(call, BlockCause.REFERENCE, since_ns - received_ns)
        if self.held and index in self.held and self.sealed_ns > received_ns:
            add_blocked(call, BlockCause.SEAL, self.sealed_ns - received_ns)
            since_ns = max(since_ns, self.sealed_ns)
        if self.options.mode is Mode.SEQUENTIAL and call.ready_ns > since_ns:
            add_blocked(call, BlockCause.ORDER, call.ready_ns - since_ns)

    def finish(self, call: Call, outcome: Outcome, now_ns: int) -> None:
        """Makes a call final; one that is final stays as it is."""
        if call.outcome is not None:
            return
        call.outcome = outcome
        call.finished_ns = now_ns
        self._unfinished -= 1
        if self.observer is not None:
            self.observer(Finished(call.index))
        if not self.independent:
            self._tell_plan(call)
        if not self._unfinished:
            self._complete()

    def _tell_plan(self, call: Call) -> None:
        step = self.plan.finish(call.index, type(call.outcome) is Success)
        if step is not None:
            self.apply(step)

    def _complete(self) -> None:
        if self._closed and not self._unfinished and not self.done.done():
            if self.options.session_id and not self._keep_results():
                # Large batches come back to this, so that others get a turn in between.
                self.done.get_loop().call_soon(self._complete)
                return
            self.done.set_result(None)

    def _keep_results(self) -> bool:
        """Adds some results to the session; whether all are there."""
        if self._unkept is None:
            self._unkept = sorted(self.calls, reverse=True)
        some = [self._unkept.pop() for _ in range(min(_KEPT_AT_ONCE, len(self._unkept)))]
        self._sessions.add_calls(self.options, [self.calls[index] for index in some])
        return not self._unkept

    def give_up(self, call: Call, reason: Reason, message: str) -> None:
        """Makes a call final that is not, wherever it is; a running attempt is told to end."""
        if call.outcome is not None:
            return
        now_ns = self._now_ns()
        if call.started_ns:
            # First the mark, so that nobody takes what the attempt returns for the result.
            call.cancelled = True
            if call.preparing:
                call.take_back()
                failure = not_started(reason, message)
            else:
                effects = self.tools[call.request.name].spec.effects
                failure = unknown_effect(reason, message + _MAY_HAVE_HAPPENED[effects])
            self.finish(call, failure, now_ns)
            self._host.abandon(call)
            return
        flow = self._flows.get(call.request.name)
        if flow is not None and call in flow.waiting:
            self._admission.remove(flow, call)
        self.finish(call, not_started(reason, message), now_ns)

    def cancel(self, reason: Reason, message: str) -> None:
        """Makes all calls final that are not, and those that may still come."""
        self.cancel_waiting(reason, message)
        for call in list(self.calls.values()):
            self.give_up(call, reason, message)

    def cancel_waiting(self, reason: Reason, message: str) -> None:
        """Makes all calls final that were not started, and those that may still come."""
        # They end for this reason, not because one that they depend on did.
        self.independent = True
        self._over = not_started(reason, message)
        now_ns = self._now_ns()
        self._withdraw_all()
        for call in list(self.calls.values()):
            if not call.started_ns:
                self.finish(call, self._over, now_ns)
        self.close()

    def disband(self) -> None:
        """Breaks its cycles, so that a large batch is freed without a garbage collection."""
        for flow in self._flows.values():
            flow.entry.queue.leave(flow.turn_key)
        self._flows.clear()

    def _withdraw_all(self) -> list[Call]:
        admission = self._admission
        return [call for flow in self._flows.values() for call in admission.withdraw(flow)]

    def expire(self, now_ns: int) -> int:
        """Ends what has waited too long; returns when to ask again."""
        if now_ns >= self.deadlines.batch_ns:
            self.cancel(Reason.BATCH_DEADLINE, BATCH_OVER)
            return NEVER
        for call in self.deadlines.pop_due(now_ns):
            self.give_up(call, *self.deadlines.missed(call))
        next_ns = self.deadlines.next_ns()
        for flow in list(self._flows.values()):
            timeout_ns = flow.entry.queue_timeout_ns
            while flow.waiting and now_ns >= flow.waiting[0].ready_ns + timeout_ns:
                self.give_up(flow.waiting[0], Reason.QUEUE_TIMEOUT, _waited(timeout_ns))
            if flow.waiting:
                next_ns = min(next_ns, flow.waiting[0].ready_ns + timeout_ns)
        return next_ns

    def waiting_for(self, call: Call) -> tuple[int, ...]:
        """Positions of the calls that a call depends on and that are not final."""
        edges = self.edges.get(call.index, ())
        return tuple(i for i in sorted(set(edges)) if self.calls[i].outcome is None)

    def _dependency_failed(self, culprit: int) -> Failure:
        call = self.calls[culprit]
        outcome = call.outcome
        why = outcome.reason.name if isinstance(outcome, Failure) else "it failed"
        return not_started(
            Reason.DEPENDENCY_FAILED,
            f"Not run: it depends on the call @{culprit + 1} of {call.request.name!r}, "
            f"which has no result ({why}).",
            dependency_index=str(culprit),
            dependency_id=call.request.id,
        )


_MAY_HAVE_HAPPENED = {
    Effects.READ_ONLY: "",
    Effects.IDEMPOTENT: " It was started and may have taken effect; calling it again is safe.",
    Effects.NON_IDEMPOTENT: " It was started and may have taken effect, or still do: find "
    "out before you call it again.",
}
"""What a model must know of an attempt whose end nobody saw."""


def _stopped() -> Failure:
    return not_started(Reason.STOPPED, "Not run: an earlier call of the turn failed.")


def _waited(timeout_ns: int) -> str:
    return f"Not run: the call waited {timeout_ns / 1e9:g} s for its turn. Try again later."
