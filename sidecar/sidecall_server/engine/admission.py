"""Who may run now: all permits at once or none, and fair turns for whoever waits.

A flow (the ready calls of one batch for one tool) that lacks a permit is parked at the
one limiter that is exhausted, and woken when that limiter has room: no polling, no
rescans, and the reason why a call waits is known.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from sidecall_server.core.call import BlockCause, Call
from sidecall_server.core.ports import Clock
from sidecall_server.engine.blocking import UNBLOCKED, Mark, account
from sidecall_server.policy.build import ToolPolicies
from sidecall_server.policy.concurrency import Limiter
from sidecall_server.policy.rate import RateLimiter

_FIRST_RAMP = 1
_SECOND_RAMP = 8
_LAST_RAMP = 256
"""Calls of a flow that are started in one iteration of the loop. The first one alone: where
its tool does not suspend, its worker runs the others as well before the next iteration."""


class Flow:
    """The calls of one batch for one tool.

    Attributes:
        entry: The tool.
        owner: The batch.
        turn_key: Its caller, and its batch.
        waiting: Ready calls that have no permit, in order.
        kept: Limiters whose permits an attempt keeps until it ends.
        shared: Limiters whose permits it gives back with its result.
        held: Both together, from the narrowest to the widest.
        rates: Limiters whose permits it does not give back: they come back with time.
        limiters: All limiters; from the narrowest to the widest.
        parked: Limiter at which the flow waits for its turn.
        represents: Narrower limiter that has room, for whose flows this one waits at a
            wider one.
        mark: What its calls have been blocked on.
        ramp: Calls that may be started in the next iteration of the loop.
        ramping: Whether calls are to be started in the next iteration.
        yielding: Workers that pass on because the slice is used up: more workers would
            not make it faster.
    """

    __slots__ = (
        "entry",
        "held",
        "kept",
        "limiters",
        "mark",
        "owner",
        "parked",
        "ramp",
        "ramping",
        "rates",
        "represents",
        "shared",
        "turn_key",
        "waiting",
        "yielding",
    )

    def __init__(
        self,
        entry: ToolPolicies,
        owner: Any,
        turn_key: tuple[Hashable, Hashable],
        batch_limiter: Limiter["Flow"],
        global_limiter: Limiter["Flow"],
    ) -> None:
        self.entry = entry
        self.owner = owner
        self.turn_key = turn_key
        self.waiting: deque[Call] = deque()
        self.kept: tuple[Limiter[Flow], ...] = (entry.limiter, *entry.groups)
        self.shared: tuple[Limiter[Flow], ...] = (batch_limiter, global_limiter)
        self.held: tuple[Limiter[Flow], ...] = (batch_limiter, *self.kept, global_limiter)
        self.rates: tuple[RateLimiter[Flow], ...] = entry.rates
        self.limiters = (batch_limiter, *self.kept, *self.rates, global_limiter)
        self.parked: Limiter[Flow] | None = None
        self.represents: Limiter[Flow] | None = None
        self.mark: Mark = UNBLOCKED
        self.ramp = _FIRST_RAMP
        self.ramping = False
        self.yielding = 0

    def __repr__(self) -> str:
        return f"Flow({self.entry.spec.name!r}, waiting={len(self.waiting)})"


class Admission:
    """Gives permits to flows.

    Attributes:
        limiter: The bound of the whole sidecar.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        max_concurrency: int,
        start: Callable[[Flow, Call], None],
    ) -> None:
        """Takes what is called with each admitted call; it must not raise."""
        self._loop = loop
        self._clock = clock
        self._start = start
        self.limiter: Limiter[Flow] = Limiter("sidecar", BlockCause.GLOBAL_LIMIT, max_concurrency)
        # Limiters whose flows nobody represents any more at a wider one.
        self._stalled: list[Limiter[Flow]] = []
        # Flows whose calls are started over several iterations of the loop.
        self._next_climb: asyncio.Handle | None = None
        self._ramping: list[Flow] = []

    def submit(self, flow: Flow, call: Call) -> None:
        """Takes a ready call; it starts now, or when its turn comes."""
        call.mark = flow.mark
        flow.waiting.append(call)
        flow.entry.queue.count += 1
        for rate in flow.rates:
            rate.waiting += 1
        if flow.parked is not None or flow.ramping:
            return
        flow.ramping = True
        flow.ramp = _FIRST_RAMP
        self._ramping.append(flow)
        self._schedule()

    def pump(self, flow: Flow) -> None:
        """Starts at once all calls of a flow that permits allow."""
        while flow.waiting and flow.parked is None and self._admit(flow):
            pass

    def next_call(self, flow: Flow, now_ns: int) -> Call | None:
        """Gives a worker that ended a call the next one of its flow, permits included.

        Returns None, with the permits given back, when there is none or others wait for
        one of the permits.
        """
        waiting = flow.waiting
        if waiting:
            parked = flow.parked
            for limiter in flow.held:
                if limiter.ring.count > (limiter is parked) or limiter.active > limiter.limit:
                    break
            else:
                if not flow.rates or _spend(flow, now_ns):
                    call = _take(flow, now_ns)
                    if not waiting and parked is not None:
                        self._unpark(flow, parked, now_ns)
                        self._wake_stalled()
                    return call
        self.release(flow.held)
        return None

    def release(self, limiters: tuple[Limiter[Flow], ...]) -> None:
        """Gives one permit of each limiter back and wakes who waits for one.

        The widest is served first: whoever waits for the whole sidecar must not lose its
        turn to the backlog of one tool.
        """
        for limiter in limiters:
            limiter.active -= 1
        for limiter in reversed(limiters):
            if limiter.ring.count:
                self._wake(limiter)
        self._wake_stalled()

    def withdraw(self, flow: Flow) -> list[Call]:
        """Takes out and returns all waiting calls of a flow."""
        calls = list(flow.waiting)
        now_ns = self._clock.now_ns()
        for call in calls:
            account(call, flow.mark, now_ns)
        flow.waiting.clear()
        flow.entry.queue.count -= len(calls)
        for rate in flow.rates:
            rate.waiting -= len(calls)
        if flow.parked is not None:
            self._unpark(flow, flow.parked, now_ns)
            self._wake_stalled()
        return calls

    def remove(self, flow: Flow, call: Call) -> None:
        """Takes one waiting call out; raises ValueError when it does not wait."""
        flow.waiting.remove(call)
        flow.entry.queue.count -= 1
        for rate in flow.rates:
            rate.waiting -= 1
        now_ns = self._clock.now_ns()
        account(call, flow.mark, now_ns)
        if not flow.waiting and flow.parked is not None:
            self._unpark(flow, flow.parked, now_ns)
            self._wake_stalled()

    def _admit(self, flow: Flow) -> bool:
        """Starts the next call of a flow that is not parked, or parks the flow."""
        blocker = self._exhausted(flow) or _overtaken(flow)
        if blocker is not None:
            self._park(flow, blocker)
            return False
        self._grant(flow)
        return True

    def _grant(self, flow: Flow) -> None:
        """Starts the next call of a flow whose limiters all have room."""
        now_ns = self._clock.now_ns()
        for limiter in flow.held:
            limiter.active += 1
            limiter.peak = max(limiter.peak, limiter.active)
        for rate in flow.rates:
            rate.take(now_ns)
        self._start(flow, _take(flow, now_ns))

    def _park(self, flow: Flow, limiter: Limiter[Flow], *, keeps_turn: bool = False) -> None:
        changed = flow.mark.cause is not limiter.cause
        flow.parked = limiter
        flow.mark = flow.mark.switch(limiter.cause, self._clock.now_ns())
        if keeps_turn:
            limiter.ring.push_front(flow)
        else:
            limiter.ring.push(flow)
        if isinstance(limiter, RateLimiter):
            self._await_permit(limiter)
        if changed:
            flow.owner.report_parked(flow)

    def _await_permit(self, rate: RateLimiter[Flow]) -> None:
        """Has whoever waits for a rate woken when the next permit comes back."""
        if not rate.ring.count:
            if rate.timer is not None:
                rate.timer.cancel()
                rate.timer = None
        elif rate.timer is None and rate.active >= rate.limit:
            rate.timer = self._clock.call_at(rate.next_ns(), lambda: self._on_permit(rate))

    def _on_permit(self, rate: RateLimiter[Flow]) -> None:
        rate.timer = None
        self._wake(rate)
        self._wake_stalled()

    def limits_changed(self, limiters: Iterable[Limiter[Flow]]) -> None:
        """Wakes who waits at limiters whose limits may have been raised."""
        for limiter in limiters:
            if isinstance(limiter, RateLimiter) and limiter.timer is not None:
                limiter.timer.cancel()
                limiter.timer = None
            self._wake(limiter)
        self._wake_stalled()

    def _unpark(self, flow: Flow, limiter: Limiter[Flow], now_ns: int) -> None:
        limiter.ring.remove(flow)
        flow.parked = None
        flow.mark = flow.mark.switch(BlockCause.NONE, now_ns)
        if isinstance(limiter, RateLimiter):
            self._await_permit(limiter)
        self._leave_wider(flow)

    def _wake(self, limiter: Limiter[Flow]) -> None:
        """Gives free permits to parked flows, one call per turn.

        Where a wider limiter is exhausted, one flow goes there for all that wait here, and
        the rest stay: whenever a limiter has room although flows wait, one represents them
        at a wider limiter, and this is called again when it leaves that.
        """
        ring = limiter.ring
        if limiter.active >= limiter.limit:
            limiter.refill(self._clock.now_ns())
        while ring.count and limiter.active < limiter.limit and not limiter.represented:
            flow = ring.pop()
            flow.parked = None
            self._leave_wider(flow)
            blocker = self._exhausted(flow, limiter)
            if blocker is not None:
                wider = flow.limiters.index(blocker) > flow.limiters.index(limiter)
                if wider and (blocker is self.limiter or limiter is flow.entry.limiter):
                    # All that wait here lack what this one lacks.
                    flow.represents = limiter
                    limiter.represented = True
                # One that was bounced by a narrower limiter had its turn and keeps it.
                self._park(flow, blocker, keeps_turn=not wider)
                continue
            # Before the mark changes, so that the wait is booked on what ended it.
            self._grant(flow)
            if flow.waiting:
                flow.parked = limiter
                ring.push(flow)
            else:
                flow.mark = flow.mark.switch(BlockCause.NONE, self._clock.now_ns())
        if isinstance(limiter, RateLimiter):
            self._await_permit(limiter)

    def _leave_wider(self, flow: Flow) -> None:
        """Has another flow represent those that this one stood for."""
        limiter = flow.represents
        if limiter is not None:
            flow.represents = None
            limiter.represented = False
            if limiter.ring.count:
                self._stalled.append(limiter)

    def _wake_stalled(self) -> None:
        while self._stalled:
            self._wake(self._stalled.pop())

    def _exhausted(self, flow: Flow, waking: Limiter[Flow] | None = None) -> Limiter[Flow] | None:
        """The narrowest limiter that has no room for a flow.

        Args:
            flow: The flow.
            waking: Limiter where it is the flow's turn.
        """
        for limiter in flow.limiters:
            if limiter.active >= limiter.limit and not limiter.refill(self._clock.now_ns()):
                return limiter
            # A permit comes back a while before the timer says so: it is for those who wait.
            if limiter.ring.count and limiter is not waking and limiter in flow.rates:
                return limiter
        return None

    def _schedule(self) -> None:
        if self._next_climb is None:
            self._next_climb = self._loop.call_soon(self.climb)

    def climb(self) -> None:
        """Starts some calls of each flow that lacks no permit, twice as many each time.

        Tools that never suspend need few workers, however many calls wait: while workers
        pass on because the slice is used up, no more are made.
        """
        if self._next_climb is not None:
            # The next climb comes after the first steps of the workers that this one makes.
            self._next_climb.cancel()
            self._next_climb = None
        able = [flow for flow in self._ramping if not (flow.yielding and flow.waiting)]
        # One call of each flow at a time: the calls of a turn start about in their order,
        # and no tool takes all of a limit that it shares.
        climbing, started = able, 0
        while climbing:
            climbing = [flow for flow in climbing if started < flow.ramp and self._climb_one(flow)]
            started += 1
        for flow in able:
            flow.ramp = min(max(flow.ramp * 2, _SECOND_RAMP), _LAST_RAMP)
        self._ramping = [flow for flow in self._ramping if flow.ramping]
        if self._ramping:
            self._schedule()

    def _climb_one(self, flow: Flow) -> bool:
        """Starts one call, if there is one and permits allow it."""
        if flow.waiting and flow.parked is None and self._admit(flow):
            return True
        flow.ramping = False
        return False


def _take(flow: Flow, now_ns: int) -> Call:
    """Takes the first waiting call of a flow, which has its permits, and books its wait."""
    flow.entry.queue.count -= 1
    for rate in flow.rates:
        rate.waiting -= 1
    call = flow.waiting.popleft()
    mark = flow.mark
    if mark is not call.mark or mark.cause is not BlockCause.NONE:
        account(call, mark, now_ns)
    return call


def _spend(flow: Flow, now_ns: int) -> bool:
    """Spends a permit of each rate of a flow whose turn it is, or none of any."""
    for rate in flow.rates:
        if rate.ring.count > (rate is flow.parked):
            return False
        if rate.active >= rate.limit and not rate.refill(now_ns):
            return False
    for rate in flow.rates:
        rate.take(now_ns)
    return True


def _overtaken(flow: Flow) -> Limiter[Flow] | None:
    """A limiter that has room but at which others wait, because a wider one had none."""
    for limiter in flow.limiters:
        if limiter.represented and limiter.ring.count:
            return limiter
    return None
