"""One batch: its plan, its calls and their outcomes."""

import asyncio
from collections.abc import Iterator, Sequence
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
from sidecall_server.engine.admission import Admission, Flow
from sidecall_server.engine.aside import Aside, Wait
from sidecall_server.engine.blocking import account_before
from sidecall_server.engine.bugs import internal_failure
from sidecall_server.engine.chores import Chores
from sidecall_server.engine.deadlines import Deadlines, queued_since
from sidecall_server.engine.effects import may_have_happened, with_effects_of_attempts
from sidecall_server.engine.endings import STOPPED, behind_approval, dependency_failed
from sidecall_server.engine.lane_members import LaneMembers
from sidecall_server.engine.ledger import Known
from sidecall_server.engine.log import Log
from sidecall_server.engine.registry import ToolTable, tool_not_found
from sidecall_server.engine.replay import known_instead, may_have_started, note_decision
from sidecall_server.engine.resolver import Resolver
from sidecall_server.engine.sessions import Sessions
from sidecall_server.engine.slices import Slices
from sidecall_server.engine.supervision import Supervision
from sidecall_server.engine.watchdog import Watchdog
from sidecall_server.policy.concurrency import Limiter


class Host(Protocol):
    """What a batch needs of the engine."""

    clock: Clock
    admission: Admission
    watchdog: Watchdog
    slices: Slices
    sessions: Sessions

    def abandon(self, call: Call) -> None:
        """Tells a running attempt to end; its outcome is already set."""

    def abandon_detached(self, call: Call) -> None:
        """Tells the attempt of a call to end that nobody waits for any more."""

    def outlive(self, call: Call) -> None:
        """Takes back what an attempt must not keep that goes on without its call."""

    def enter(self, batch: "Batch", flow: Flow | None, call: Call) -> None:
        """Takes a call that needs more than permits."""

    def admit(self, batch: "Batch", flow: Flow, call: Call) -> None:
        """Takes a valid call that needs no more than its tool's breaker and rates."""

    def try_again(self, batch: "Batch", flow: Flow, call: Call) -> None:
        """Takes the next attempt of a call."""

    def refuse_waiting(self, name: str) -> None:
        """Ends the waiting calls of a tool whose breaker has opened."""


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
        order: The calls that each call comes after in its lane, for those that have any.
        lanes: The calls that are in lanes; None where no tool has one.
        log: What is remembered under its request_id; None without one.
        known: As `log`, and what is remembered under idempotency keys.
        is_late: Whether it was accepted while the sidecar drains: then nothing is started.
        minted: As `log`, where a call waits for approval and there is no request_id.
        refused: Failures found before a start, which count at the call's turn.
        held: Calls that wait for the seal, or did.
        deadlines: When they must be final.
        host: The engine.
        flows: Its calls by tool.
        aside: Ready calls that wait for something other than permits.
        over: Why no call starts any more; None while some may.
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
        tools: ToolTable,
        options: BatchOptions,
        limits: Limits,
        max_concurrency: int,
        observer: Observer | None = None,
    ) -> None:
        self.host = host
        self._now_ns = host.clock.now_ns
        self._watchdog = host.watchdog
        self._admission = host.admission
        self.tools = tools
        self.options = options
        self.observer = observer
        self.calls: dict[int, Call] = {}
        self.plan = Plan(options.mode, options.on_failure)
        self.resolver = Resolver(self.calls, tools, limits, host.sessions.finder(options))
        self.edges: dict[int, list[int]] = {}
        self.order: dict[int, list[int]] = {}
        self.lanes: LaneMembers | None = None
        self.log: Log | None = None
        self.known = Known()
        self.is_late = False
        self.minted: Log | None = None
        self.refused: dict[int, Failure] = {}
        self.held: set[int] = set()
        self.deadlines = Deadlines(options.deadline_ns)
        self.received_ns = host.clock.now_ns()
        self.epoch_ns = host.clock.unix_ns() - self.received_ns
        self.sealed_ns = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._limiter: Limiter[Flow] = Limiter("batch", BlockCause.BATCH_LIMIT, max_concurrency)
        self.flows: dict[str, Flow] = {}
        self._unfinished = 0
        self._chores = Chores(host.slices)
        self._closed = False
        self._completed = False
        self._swept = False
        self.over: Failure | None = None  # why no call starts any more
        self.aside = Aside()
        self._stopped = STOPPED  # what calls get that must not start any more
        self.independent = False

    def add(self, calls: Sequence[Call]) -> None:
        """Takes calls; those that are not final already must be planned next."""
        for call in calls:
            self.calls[call.index] = call
            if call.request.timeout_s is not None and self.over is None:
                self._watchdog.arm(self.deadlines.add(call))
        self._unfinished += len(calls)
        if self.over is not None:
            for call in calls:
                self.finish(call, self.over, self._now_ns())

    def hold_open(self) -> None:
        """Has it not be done before `let_go`: calls are still to be added."""
        self._unfinished += 1

    def let_go(self) -> None:
        """Takes back what `hold_open` asked for."""
        self._unfinished -= 1
        self._complete()

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
        withdrawn: list[Call] = []
        if self.plan.stopped and not self._swept:
            # At once: none of them may be started while others end.
            self._swept = True
            waiting = [wait.call for wait in self.aside if not wait.is_under_way]
            withdrawn = [*self._withdraw_all(), *waiting]
        self._chores.do(self._carry_out(step, withdrawn))

    def _carry_out(self, step: Step, withdrawn: list[Call]) -> Iterator[None]:
        for index, culprit in step.failed_dependency:
            self.finish(self.calls[index], dependency_failed(self.calls[culprit]), self._now_ns())
            yield
        for index in step.stopped:
            self.finish(self.calls[index], self._stopped, self._now_ns())
            yield
        for call in withdrawn:
            self.finish_unplaced(call, self._stopped)
            yield
        for index in step.ready:
            self.make_ready(self.calls[index])
            yield

    def make_ready(self, call: Call) -> None:
        """Passes a call whose turn has come through admission."""
        if call.outcome is not None:
            # It became final before it was planned: only now can the plan be told.
            if not self.independent:
                self._tell_plan(call, call.outcome)
            return
        now_ns = self._now_ns()
        if self.over is not None or self.plan.stopped:
            self.finish(call, self.over or self._stopped, now_ns)
            return
        call.ready_ns = now_ns
        if not self.independent:
            account_before(self, call, now_ns)
        name = call.request.name
        flow = self.flows.get(name) or self._flow(name)
        if self.log is not None or (
            flow is not None and (not flow.entry.is_plain or call.request.idempotency_key)
        ):
            self.host.enter(self, flow, call)
            return
        try:
            failure = self._check(call, flow)
        except Exception:
            self.fail(call)
            return
        if failure is not None or flow is None:
            self.finish(call, failure or self.not_found(call), now_ns)
        elif flow.entry.is_governed:
            self.host.admit(self, flow, call)
        else:
            self._queue(flow, call, now_ns)

    def queue(self, flow: Flow, call: Call) -> None:
        """Gives a call that has all it needs but permits to the queue of its tool."""
        if self.over is not None or self.plan.stopped:
            # What it waited for was passed on to it by another call that ends.
            self.finish_unplaced(call, self.over or self._stopped)
            return
        call.queued_ns = self._now_ns()
        self._queue(flow, call, queued_since(call))

    def _queue(self, flow: Flow, call: Call, since_ns: int) -> None:
        if since_ns + flow.entry.queue_timeout_ns < self._watchdog.wake_ns:
            self.watch_queue(flow, since_ns)
        self._admission.submit(flow, call)
        if self.options.on_failure is OnFailure.STOP:
            # What may start before a later call is found invalid must have been started.
            self._admission.pump(flow)
        if self.observer is not None and flow.parked is not None:
            self.observer(Queued(call.index, flow.parked.cause))

    def watch_queue(self, flow: Flow, since_ns: int) -> None:
        """Sees to it that a call that waits since then does not wait too long."""
        until_ns = since_ns + flow.entry.queue_timeout_ns
        if until_ns < self._watchdog.wake_ns:
            self._watchdog.arm(until_ns)

    def set_aside(self, wait: Wait) -> None:
        """Has a ready call wait for something other than permits."""
        self.aside.put(wait)
        if self.observer is not None:
            self.observer(Queued(wait.call.index, wait.cause))

    def end_wait(self, call: Call) -> None:
        """Takes note that a call that was set aside goes on, or has its outcome."""
        self.aside.end(call, self._now_ns())

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
            return self.not_found(call)
        values = None
        if self.resolver.values:
            values = self.resolver.arguments(call, keep=flow.entry.retrier is not None)
        if isinstance(values, Failure):
            return values
        failure = flow.entry.arguments.admit(call, values)
        if failure is None and flow.entry.queue.count >= flow.entry.queue.max_calls:
            return flow.entry.refuse_full(self.options.caller)
        return failure

    def not_found(self, call: Call) -> Failure:
        """The failure of a call whose tool does not exist."""
        return tool_not_found(call.request.name, self.tools)

    def _flow(self, name: str) -> Flow | None:
        entry = self.tools.get(name)
        if entry is None:
            return None
        key = (self.options.caller, id(self))
        flow = Flow(entry, self, key, self._limiter, self._admission.limiter)
        entry.queue.join(key, flow.waiting)
        self.flows[name] = flow
        return flow

    def finish(self, call: Call, outcome: Outcome, now_ns: int) -> None:
        """Makes a call final; one that is final stays as it is."""
        if call.outcome is not None:
            return
        if self.aside.waits:
            outcome = self._leave(call, outcome, now_ns)
        if self.log is not None:
            outcome = known_instead(call, outcome, self.log, self.tools)
            note_decision(call, self.log)
        if call.failed_attempts and type(outcome) is not Success:
            outcome = with_effects_of_attempts(call, outcome)
        if not call.ready_ns:
            account_before(self, call, now_ns)
        call.outcome = outcome
        call.finished_ns = now_ns
        self._unfinished -= 1
        if self.lanes is not None:
            self.lanes.ended(call, outcome)
        if self.observer is not None:
            self.observer(Finished(call.index))
        if not self.independent:
            self._tell_plan(call, outcome)
        if call.supervision is not None:
            call.supervision.ended(call, outcome, now_ns)
        if not self._unfinished:
            self._complete()

    def finish_unplaced(self, call: Call, outcome: Outcome) -> None:
        """Makes a call final that finds no place; after an attempt its failure stands."""
        if call.outcome is not None:
            return
        if call.failed_attempts and isinstance(outcome, Failure):
            *before, last = call.failed_attempts
            call.failed_attempts = tuple(before)
            outcome, call.started_ns = last.failure, last.started_ns
        self.finish(call, outcome, self._now_ns())

    def fail(self, call: Call) -> None:
        """Makes a call final for the sidecar's own fault: the exception in hand."""
        state = ExecutionState.UNKNOWN if call.failed_attempts else ExecutionState.NOT_STARTED
        self.finish(call, internal_failure(call, state), self._now_ns())

    def _leave(self, call: Call, outcome: Outcome, now_ns: int) -> Outcome:
        """Ends the wait of a call that becomes final; returns what is true of its outcome."""
        wait = self.aside.end(call, now_ns)
        if wait is None:
            return outcome
        wait.leave()
        if wait.flight is not None and wait.flight.has_started and isinstance(outcome, Failure):
            return may_have_started(outcome, call, self.tools)
        return outcome

    def _tell_plan(self, call: Call, outcome: Outcome) -> None:
        if isinstance(outcome, Failure) and outcome.reason is Reason.APPROVAL_REQUIRED:
            if self.options.mode is Mode.SEQUENTIAL and self._stopped is STOPPED:
                self._stopped = behind_approval(call)
            self.apply(self.plan.pause(call.index))
            return
        step = self.plan.finish(call.index, type(outcome) is Success)
        if step is not None:
            self.apply(step)

    def _complete(self) -> None:
        if self._closed and not self._unfinished and not self._completed:
            self._completed = True
            if self.options.session_id:
                self.host.slices.spread(self._keep_results())
            else:
                self._announce()

    def _keep_results(self) -> Iterator[None]:
        yield from self.host.sessions.keep(self.options, self.calls)
        self._announce()

    def _announce(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def give_up(
        self, call: Call, reason: Reason, message: str, *, client_gone: bool = False
    ) -> None:
        """Makes a call final that is not, wherever it is; a running attempt is told to end.

        Args:
            call: The call.
            reason: Why.
            message: Why, for the model.
            client_gone: Whether nobody waits for it, rather than that it should end: an
                attempt of a request that may be sent again goes on.
        """
        if call.outcome is not None:
            return
        now_ns = self._now_ns()
        if call.started_ns:
            if self._detached(call, reason, message, client_gone=client_gone):
                return
            # First the mark, so that nobody takes what the attempt returns for the result.
            call.cancelled = True
            if call.preparing:
                call.take_back()
                failure = not_started(reason, message)
            else:
                effects = self.tools[call.request.name].spec.effects
                failure = unknown_effect(reason, message + may_have_happened(effects))
            self.finish(call, failure, now_ns)
            self.host.abandon(call)
            return
        flow = self.flows.get(call.request.name)
        if flow is not None and call in flow.waiting:
            self._admission.remove(flow, call)
        self.finish(call, not_started(reason, message), now_ns)

    def _detached(self, call: Call, reason: Reason, message: str, *, client_gone: bool) -> bool:
        """Leaves a running attempt to those who wait for it; returns whether there are any."""
        supervision: Supervision | None = call.supervision
        if supervision is None or call.preparing:
            return False
        policies = self.tools[call.request.name]
        deadline_ns = call.started_ns + policies.timeout_ns
        if not supervision.detach(call, deadline_ns, client_gone=client_gone):
            return False
        self.host.outlive(call)
        failure = unknown_effect(reason, message + may_have_happened(policies.spec.effects))
        self.finish(call, failure, self._now_ns())
        return True

    def cancel(self, reason: Reason, message: str, *, client_gone: bool = False) -> None:
        """Ends all calls that are not final, and those that may still come.

        None is started any more; those of a large batch become final bit by bit.
        """
        self.cancel_waiting(reason, message)
        self._chores.do(self._give_up_all(reason, message, client_gone=client_gone))

    def cancel_waiting(self, reason: Reason, message: str) -> None:
        """As `cancel`, but what runs goes on."""
        # They end for this reason, not because one that they depend on did.
        self.independent = True
        self.over = not_started(reason, message)
        self._withdraw_all()
        self._chores.do(self._end_waiting(self.over))
        self.close()

    def catch_up(self) -> None:
        """Does at once what was to be done bit by bit."""
        self._chores.finish()

    def _end_waiting(self, over: Failure) -> Iterator[None]:
        # The last first: who gets the turn or the lane of another one that ends comes later.
        for call in reversed(list(self.calls.values())):
            if call.outcome is None and not call.started_ns:
                self.finish(call, over, self._now_ns())
                yield

    def _give_up_all(self, reason: Reason, message: str, *, client_gone: bool) -> Iterator[None]:
        for call in list(self.calls.values()):
            if call.outcome is None:
                self.give_up(call, reason, message, client_gone=client_gone)
                yield

    def disband(self) -> None:
        """Breaks its cycles, so that a large batch is freed without a garbage collection."""
        self.catch_up()
        for flow in self.flows.values():
            flow.entry.queue.leave(flow.turn_key)
        self.flows.clear()

    def _withdraw_all(self) -> list[Call]:
        admission = self._admission
        return [call for flow in self.flows.values() for call in admission.withdraw(flow)]

    @property
    def request_id(self) -> str:
        """Id under which the batch can be sent again; empty where it cannot."""
        return self.options.request_id or ("" if self.minted is None else self.minted.scope.id)

    def waiting_for(self, call: Call) -> tuple[int, ...]:
        """Positions of the calls that a call depends on and that are not final."""
        before = {*self.edges.get(call.index, ()), *self.order.get(call.index, ())}
        return tuple(i for i in sorted(before) if self.calls[i].outcome is None)
