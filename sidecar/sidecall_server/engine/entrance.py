"""What a call passes through between its turn and the queue of its tool.

The order of the steps is that of `sidecall_server.policy.build`. A call that needs
nothing but permits does not come here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from sidecall_server.core.call import Arguments, BlockCause, Call
from sidecall_server.core.outcome import (
    ExecutionState,
    Failure,
    Outcome,
    Reason,
    Success,
    not_started,
)
from sidecall_server.core.ports import Clock
from sidecall_server.core.tool import Sharing
from sidecall_server.engine.admission import Flow
from sidecall_server.engine.approvals import Approvals, edited
from sidecall_server.engine.aside import Wait
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.deadlines import queued_since
from sidecall_server.engine.digests import arguments_digest
from sidecall_server.engine.flights import Flight
from sidecall_server.engine.lane_members import LaneMembers
from sidecall_server.engine.lanes import Lanes
from sidecall_server.engine.ledger import Ledger
from sidecall_server.engine.log import Entry, Log
from sidecall_server.engine.slices import Slices
from sidecall_server.engine.supervision import Supervision
from sidecall_server.policy.breaker import BreakerState
from sidecall_server.policy.sharing import ResultCache, call_key


class Host(Protocol):
    """What the entrance needs of the engine."""

    clock: Clock
    lanes: Lanes
    slices: Slices


@dataclass(slots=True)
class _Following:
    """A call that waits for the outcome of the same call."""

    entrance: "Entrance"
    batch: Batch
    call: Call
    lead: Callable[[], None]
    coalesces: bool

    def arrive(self, leader: Call, outcome: Outcome) -> None:
        """Takes the outcome."""
        call = self.call
        if call.outcome is not None:
            return
        if self.coalesces:
            call.coalesced = True
        else:
            call.replayed = True
            call.attempt = leader.attempt
            call.failed_attempts = leader.failed_attempts
        self.batch.end_wait(call)
        self.batch.finish(call, outcome, self.entrance.now_ns())

    def take_over(self, before: Call) -> None:
        """Leads from now on, after another call that did."""
        batch, call = self.batch, self.call
        batch.end_wait(call)
        # The line that the call before stood in counts as this one's, what ran does not:
        # else thousands would wait for the same place one after the other.
        has_run = before.attempt > 0 or bool(before.failed_attempts)
        call.queue_clock_ns = (
            self.entrance.now_ns() if has_run else max(queued_since(before), call.ready_ns)
        )
        if batch.over is not None:
            batch.finish(call, batch.over, self.entrance.now_ns())
        elif batch.plan.stopped:
            batch.make_ready(call)
        elif batch.is_late:
            batch.finish_unplaced(call, _DRAINING)
        else:
            self.entrance.guard(batch, call, self.lead)


class Entrance:
    """Leads calls to the queues of their tools, or to what they get instead."""

    def __init__(self, host: Host, ledger: Ledger, cache: ResultCache) -> None:
        self._host = host
        self._ledger = ledger
        self._cache = cache
        self._approvals = Approvals(ledger)
        self._in_flight: dict[bytes, Flight] = {}
        self.now_ns = host.clock.now_ns

    @property
    def in_flight(self) -> int:
        """Runs that identical calls can join."""
        return len(self._in_flight)

    def enter(self, batch: Batch, flow: Flow | None, call: Call) -> None:
        """Takes a call whose turn has come."""
        self.guard(batch, call, partial(self._replay, batch, flow, call))

    def guard(self, batch: Batch, call: Call, step: Callable[[], None]) -> None:
        """Takes a step; a call for which it fails ends for the sidecar's own fault."""
        try:
            step()
        except Exception:
            batch.fail(call)

    def _replay(self, batch: Batch, flow: Flow | None, call: Call) -> None:
        log = batch.log
        check = partial(self._check, batch, flow, call)
        if log is None:
            check()
            return
        keep = partial(self._ledger.keep, log, call.index)
        self._once(batch, flow, call, _Once(log, call.index, keep, check, lives_on=True))

    def _once(self, batch: Batch, flow: Flow | None, call: Call, once: "_Once") -> None:
        """Gives a call what an earlier one with its key got or gets, or lets it run."""
        entry = once.log.entries[once.index]
        repeatable = flow is not None and flow.entry.is_repeatable
        settled = entry.settled(call.request.name, repeatable=repeatable)
        if entry.flight is not None:
            # Before what is settled: the mark of a run that is in flight says nothing yet.
            lead = partial(self._lead, batch, flow, call, once, entry.flight)
            self._follow(batch, call, entry.flight, lead, coalesces=False)
        elif settled is not None and not (
            once.lives_on and self._is_known_by_key(batch, call, settled)
        ):
            call.replayed = True
            call.attempt = entry.attempts
            batch.finish_unplaced(call, settled)
        elif batch.is_late:
            batch.finish_unplaced(call, _DRAINING)
        else:
            entry.flight = Flight(
                call,
                lambda led, outcome: once.keep(outcome, led.attempt),
                lambda: _clear(entry),
                self._host.slices.spread,
                repeatable=repeatable,
                lives_on=once.lives_on,
            )
            self._lead(batch, flow, call, once, entry.flight)

    def _is_known_by_key(self, batch: Batch, call: Call, settled: Outcome) -> bool:
        """Whether a call of unknown end had joined another one, which its key leads to."""
        unknown = isinstance(settled, Failure) and settled.reason is Reason.OUTCOME_UNKNOWN
        return unknown and self._ledger.knows_key(call.options, call.request, batch.known.keys)

    def _lead(
        self, batch: Batch, flow: Flow | None, call: Call, once: "_Once", flight: Flight
    ) -> None:
        supervision = self.supervise(call)
        supervision.flights.append(flight)
        if self._ledger.is_durable and flow is not None and not flow.entry.is_repeatable:
            supervision.marks.append((once.log, once.index))
        once.go()

    def _follow(
        self, batch: Batch, call: Call, flight: Flight, lead: Callable[[], None], *, coalesces: bool
    ) -> None:
        def leave() -> None:
            flight.leave(call)
            leader = flight.leader
            if leader.detached and not self.supervise(leader).is_wanted:
                batch.host.abandon_detached(leader)

        leader, policies = flight.leader, batch.tools.get(call.request.name)
        if leader.detached and policies is not None:
            # Its batch is over; now another one wants the end.
            leader.deadline_ns = leader.started_ns + policies.timeout_ns
        flight.follow(call, _Following(self, batch, call, lead, coalesces))
        same = None if coalesces else flight
        batch.set_aside(Wait(call, BlockCause.SAME_CALL, self.now_ns(), leave, same))

    def supervise(self, call: Call) -> Supervision:
        """The call's supervision."""
        if call.supervision is None:
            call.supervision = Supervision(self._host.lanes)
        supervision: Supervision = call.supervision
        return supervision

    def _check(self, batch: Batch, flow: Flow | None, call: Call) -> None:
        """From references to what a human says about the arguments."""
        failure = batch.refused.get(call.index)
        if failure is not None or flow is None:
            batch.finish_unplaced(call, failure or batch.not_found(call))
            return
        policies = flow.entry
        checked = self._arguments(batch, flow, call)
        if not isinstance(checked, Failure) and batch.lanes is not None:
            checked = self._in_order(batch.lanes, flow, call, checked)
        if not isinstance(checked, Failure) and policies.spec.requires_approval:
            checked = self._approved(batch, flow, call, checked)
        if isinstance(checked, Failure):
            batch.finish_unplaced(call, checked)
            return
        if policies.lane is not None:
            # Without a key nobody knows what it touches: such calls at least wait for each other.
            key = policies.lane.of(checked)
            self.supervise(call).lane_key = policies.lane.skeleton if key is None else key
        self._identify(batch, flow, call, checked)

    def _arguments(self, batch: Batch, flow: Flow, call: Call) -> Arguments | Failure:
        """The call's arguments as the model made them, with references resolved."""
        policies = flow.entry
        values = batch.resolver.arguments(call, keep=policies.retrier is not None)
        if isinstance(values, Failure):
            return values
        return policies.arguments.checked(call, values)

    def _in_order(
        self, lanes: LaneMembers, flow: Flow, call: Call, values: Arguments
    ) -> Arguments | Failure:
        """The arguments, or why a call must not run that comes after others in its lane."""
        lane = flow.entry.lane
        held_back = None if lane is None else lanes.held_back(call.index, lane.of(values))
        return held_back or values

    def _approved(
        self, batch: Batch, flow: Flow, call: Call, values: Arguments
    ) -> Arguments | Failure:
        """The arguments that a human has approved, or why the call must not run."""
        failure = flow.entry.arguments.set(call, values)
        if failure is not None:
            return failure
        return self._approvals.ask(batch, call, values, flow.entry)

    def _identify(self, batch: Batch, flow: Flow, call: Call, values: Arguments) -> None:
        """The idempotency key; then what identical calls share."""
        share = partial(self._share, batch, flow, call, values)
        if not call.request.idempotency_key:
            share()
            return
        digest = arguments_digest(values)
        if not self._ledger.has_room_for_key(call.options, call.request, batch.known.keys):
            batch.finish_unplaced(call, _no_room_for_key(self._ledger.retry_after_s))
            return
        log = self._ledger.key_log(call.options, call.request, digest, batch.known.keys)
        if log.entries[0].digest != digest:
            batch.finish_unplaced(call, _key_reused(call))
            return
        keep = partial(self._ledger.keep, log, 0)
        self._once(batch, flow, call, _Once(log, 0, keep, share))

    def _share(self, batch: Batch, flow: Flow, call: Call, values: Arguments) -> None:
        sharing = flow.entry.spec.sharing
        run = partial(self._run, batch, flow, call, values)
        if sharing is None:
            run()
            return
        options = call.options
        key = call_key(call.request.name, values, sharing, options.identity, options.context)
        key += flow.entry.version.to_bytes(8)
        cached = self._cache.get(key, self.now_ns()) if sharing.cache_ttl_s is not None else None
        if cached is not None:
            call.coalesced = True
            batch.finish_unplaced(call, cached)
            return
        flight = self._in_flight.get(key)
        if flight is not None and sharing.coalesce and not flight.has_ended:
            lead = partial(self._lead_shared, call, flight, run)
            self._follow(batch, call, flight, lead, coalesces=True)
            return
        led = Flight(
            call,
            lambda _, outcome: self._cache_result(key, sharing, outcome),
            lambda: self._land(key, led),
            self._host.slices.spread,
            repeatable=True,
        )
        if sharing.coalesce:
            self._in_flight[key] = led
        self._lead_shared(call, led, run)

    def _lead_shared(self, call: Call, flight: Flight, run: Callable[[], None]) -> None:
        self.supervise(call).flights.append(flight)
        run()

    def _land(self, key: bytes, flight: Flight) -> None:
        if self._in_flight.get(key) is flight:
            del self._in_flight[key]

    def _cache_result(self, key: bytes, sharing: Sharing, outcome: Outcome) -> None:
        if sharing.cache_ttl_s is not None and isinstance(outcome, Success):
            self._cache.put(key, outcome, sharing.cache_ttl_s, self.now_ns())

    def _run(self, batch: Batch, flow: Flow, call: Call, values: Arguments) -> None:
        failure = flow.entry.arguments.set(call, values)
        if failure is not None:
            batch.finish_unplaced(call, failure)
            return
        self.admit_first(batch, flow, call)

    def admit_first(self, batch: Batch, flow: Flow, call: Call) -> None:
        """Takes a valid call that has not been tried."""
        if flow.entry.retrier is not None:
            flow.entry.retrier.first_attempt()
        self._admit(batch, flow, call)

    def try_again(self, batch: Batch, flow: Flow, call: Call) -> None:
        """Leads the next attempt of a call to the queue.

        Where there is no place for it the call ends with the failure that it had.
        """
        call.queue_clock_ns = self.now_ns()
        self.guard(batch, call, partial(self._try_again, batch, flow, call))

    def _try_again(self, batch: Batch, flow: Flow, call: Call) -> None:
        policies = flow.entry
        edits = self._approvals.edits(batch, call) if policies.spec.requires_approval else None
        # Made again: the attempt before may have changed what it was given.
        values = (
            self._arguments(batch, flow, call) if edits is None else edited(policies, call, edits)
        )
        failure = values if isinstance(values, Failure) else policies.arguments.set(call, values)
        if failure is None:
            self._admit(batch, flow, call)
        else:
            batch.finish_unplaced(call, failure)

    def _admit(self, batch: Batch, flow: Flow, call: Call) -> None:
        """The breaker, the queue, the lane."""
        policies = flow.entry
        queue, breaker = policies.queue, policies.breaker
        failure = None
        if queue.count >= queue.max_calls:
            failure = policies.refuse_full(call.options.caller)
        if failure is None and breaker is not None:
            ticket = breaker.admit(self.now_ns())
            if isinstance(ticket, Failure):
                failure = ticket
            else:
                call.ticket = ticket
                if breaker.state is not BreakerState.CLOSED:
                    # A probe whose call never starts must give its place back.
                    self.supervise(call).breaker = breaker
        if failure is not None:
            batch.finish_unplaced(call, failure)
            return
        supervision: Supervision | None = call.supervision
        if supervision is not None and supervision.marks:
            call.mark_started = partial(
                self._ledger.mark_started, supervision.marks, call.attempt + 1
            )
        lane = None if supervision is None else supervision.lane_key
        if lane is None:
            self._queue(batch, flow, call)
            return
        call.lane = lane
        go = partial(self._has_lane, batch, flow, call)
        if self._host.lanes.enter(lane, call, go):
            self._queue(batch, flow, call)
            return
        policies.queue.set_aside(call.options.caller)
        leave = partial(_leave_lane, flow, call)
        batch.set_aside(Wait(call, BlockCause.LANE, self.now_ns(), leave))
        batch.watch_queue(flow, queued_since(call))

    def _has_lane(self, batch: Batch, flow: Flow, call: Call) -> None:
        flow.entry.queue.end_aside(call.options.caller)
        batch.end_wait(call)
        self.guard(batch, call, partial(self._queue, batch, flow, call))

    def _queue(self, batch: Batch, flow: Flow, call: Call) -> None:
        for rate in flow.rates:
            if rate.active + rate.waiting >= rate.limit:
                failure = self._rate_limited(batch, flow, call)
                if failure is not None:
                    batch.finish_unplaced(call, failure)
                    return
                break
        batch.queue(flow, call)

    def _rate_limited(self, batch: Batch, flow: Flow, call: Call) -> Failure | None:
        """Refuses a call at once that would wait for a rate beyond its time."""
        now_ns = self.now_ns()
        until_ns = queued_since(call) + flow.entry.queue_timeout_ns
        time_ns = min(until_ns, batch.deadlines.of(call)) - now_ns
        if all(rate.wait_ns(rate.waiting, now_ns) < time_ns for rate in flow.rates):
            return None
        ahead = ((rate, rate.ahead_of(flow, _calls_of)) for rate in flow.rates)
        wait_ns = max(rate.wait_ns(count, now_ns) for rate, count in ahead)
        if wait_ns < time_ns:
            return None
        return Failure(
            Reason.RATE_LIMITED,
            f"Not run: {call.request.name!r} may not be started that often. Its turn would come "
            f"in {_seconds(wait_ns)}, which is too late for this call.",
            ExecutionState.NOT_STARTED,
            retry_after_s=wait_ns / 1e9,
        )


@dataclass(frozen=True, slots=True)
class _Once:
    """A run that is remembered.

    Attributes:
        log: Where.
        index: Its entry there.
        keep: Takes what has become of it, and its attempts.
        go: Goes on with the call where it has to run.
        lives_on: Whether a started attempt goes on when nobody waits for it any more.
    """

    log: Log
    index: int
    keep: Callable[[Outcome, int], None]
    go: Callable[[], None]
    lives_on: bool = False


def _calls_of(flow: Flow) -> int:
    return len(flow.waiting)


_DRAINING = not_started(Reason.DRAINING, "The sidecar is shutting down.")


def _clear(entry: Entry) -> None:
    entry.flight = None


def _leave_lane(flow: Flow, call: Call) -> None:
    flow.entry.queue.end_aside(call.options.caller)
    supervision: Supervision = call.supervision
    supervision.leave_lane(call)


def _seconds(time_ns: int) -> str:
    return f"{time_ns / 1e9:.0f} s" if time_ns >= 10**10 else f"{time_ns / 1e9:.2g} s"


def _no_room_for_key(retry_after_s: float) -> Failure:
    return Failure(
        Reason.TOOL_UNAVAILABLE,
        "Not run: as many requests and idempotency keys are remembered as there is room for, and "
        "none of them may be forgotten yet. The call may be made later, or without a key.",
        ExecutionState.NOT_STARTED,
        retry_after_s=retry_after_s,
    )


def _key_reused(call: Call) -> Failure:
    return not_started(
        Reason.IDEMPOTENCY_KEY_REUSED,
        f"Not run: the idempotency key of this call of {call.request.name!r} was used before, "
        "with other arguments.",
    )
