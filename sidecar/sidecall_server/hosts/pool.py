"""Which call goes to which host, and what becomes of calls whose host disappears.

A call goes to the host with the most free slots. Without one it waits, in the order of
arrival over all tools. Everything here happens on the event loop.
"""

import asyncio
import contextlib
import itertools
from bisect import insort
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial

from sidecall_server.core.call import Call
from sidecall_server.core.outcome import (
    ExecutionState,
    Failure,
    Outcome,
    Reason,
    not_started,
    unknown_effect,
)
from sidecall_server.core.ports import Clock
from sidecall_server.hosts.host import Host, HostedAttempt, HostedTool, Offer

_MAX_MOVES = 2
"""Hosts that may disappear with one attempt before it ends: it may be what kills them."""


class HostPool:
    """The hosts that are attached, and the tools that they offer.

    Attributes:
        hosts: The hosts by id.
        offers: The tools by name, in the order in which they were first offered.
        on_change: Called when tools, or the slots for them, have changed. It raises where
            the tools cannot be put in force.
        on_forget: Called when a tool has been without a host for so long that it need not be
            known any more: `expected` does not give it.
    """

    def __init__(self, clock: Clock, retention_s: float) -> None:
        """Takes the time for which a tool stays known without a host."""
        self._clock = clock
        self._retention_ns = int(retention_s * 1e9)
        self._turns = itertools.count()
        self._is_closed = False
        self._crowded: set[Offer] = set()  # offers whose attempts wait for a slot
        self.hosts: dict[str, Host] = {}
        self.offers: dict[str, Offer] = {}
        self.on_change: Callable[[], None] = _nobody_minds
        self.on_forget: Callable[[], None] = _nobody_minds

    def expected(
        self, tools: Iterable[HostedTool], taken: Collection[str] = ()
    ) -> dict[str, Offer]:
        """The offers where some tools are known without a host, and no others.

        They are not in force before `keep`.

        Args:
            tools: The tools that are known without a host.
            taken: Names that are not kept for hosts that have left.
        """
        known = {
            name: offer
            for name, offer in self.offers.items()
            if offer.hosts or (offer.retention is not None and name not in taken)
        }
        for tool in tools:
            if tool.name not in known:
                known[tool.name] = self.offers.get(tool.name) or Offer(tool, self._run)
        return known

    def keep(self, offers: dict[str, Offer]) -> None:
        """Forgets all offers but some, which are those in force now."""
        for name, offer in self.offers.items():
            if offer.retention is not None and offers.get(name) is not offer:
                offer.retention.cancel()
                offer.retention = None
        self.offers = offers

    def close(self) -> None:
        """Forgets no tool any more: nobody is told."""
        self._is_closed = True
        for offer in self.offers.values():
            if offer.retention is not None:
                offer.retention.cancel()
                offer.retention = None

    def attach(self, host: Host) -> None:
        """Has a host take calls; where its tools cannot be put in force, nothing changes."""
        before = {name: self.offers[name].tool for name in host.tools if name in self.offers}
        self.hosts[host.id] = host
        for name, tool in host.tools.items():
            offer = self.offers.get(name)
            if offer is None:
                offer = self.offers[name] = Offer(tool, self._run)
            offer.tool = tool
            offer.hosts.append(host)
        try:
            self.on_change()
        except BaseException:
            for name in host.tools:
                offer = self.offers[name]
                offer.hosts.remove(host)
                if name in before:
                    offer.tool = before[name]
                else:
                    del self.offers[name]
            del self.hosts[host.id]
            self.on_change()
            raise
        for name in host.tools:
            retention, self.offers[name].retention = self.offers[name].retention, None
            if retention is not None:
                retention.cancel()
        self._feed(host)

    def drain(self, host: Host) -> None:
        """Gives a host no more calls; it ends those that it has been given."""
        if host.is_open:
            host.is_open = False
            self._leave(host)
            self.on_change()

    def detach(self, host: Host) -> None:
        """Forgets a host and sees to the calls that it has. Idempotent."""
        if self.hosts.pop(host.id, None) is None:
            return
        host.is_open = False
        for name in host.tools:
            offer = self.offers[name]
            offer.hosts.remove(host)
            if not offer.hosts and not self._is_closed:
                until_ns = self._clock.now_ns() + self._retention_ns
                offer.retention = self._clock.call_at(until_ns, partial(self._forget, offer))
        self._leave(host)
        lost, host.in_hand = list(host.in_hand.values()), {}
        for attempt in lost:
            self._lose(attempt)
        self.on_change()

    def _leave(self, host: Host) -> None:
        """Finds other hosts for what a host was not given yet, and for what waits."""
        unsent = list(host.outbox)
        host.outbox.clear()
        for attempt in unsent:
            del host.in_hand[attempt.id]
            attempt.host = None
        for name in host.tools:
            offer = self.offers[name]
            if not offer.is_available:
                unsent += offer.waiting
                offer.waiting.clear()
                self._crowded.discard(offer)
        for attempt in sorted(unsent, key=lambda attempt: attempt.turn):
            self._place(attempt)

    def _forget(self, offer: Offer) -> None:
        offer.retention = None
        self.on_forget()

    async def _run(self, offer: Offer, call: Call) -> Outcome:
        """Runs one attempt on a host."""
        attempt = HostedAttempt(offer, call, next(self._turns))
        call.prepare(in_line=True)
        # At once: a stream may have room before the cancellation arrives here.
        call.on_cancel = partial(self._withdraw, attempt)
        self._place(attempt)
        try:
            outcome = await asyncio.shield(attempt.ended)
        except asyncio.CancelledError:
            if not call.cancelled:
                self._withdraw(attempt)
            # What the application runs keeps its permits until it has ended there.
            while not attempt.ended.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait((attempt.ended,))
            raise
        finally:
            call.on_cancel = None
        if outcome is None:
            raise AssertionError(f"{call!r} ended without an outcome")
        return outcome

    def _place(self, attempt: HostedAttempt) -> None:
        host = attempt.offer.best_host()
        if host is None:
            self._fail(attempt)
        elif host.free > 0:
            host.take(attempt)
        else:
            # One that had a place keeps it.
            insort(attempt.offer.waiting, attempt, key=lambda other: other.turn)
            self._crowded.add(attempt.offer)

    def _fail(self, attempt: HostedAttempt) -> None:
        name = attempt.offer.tool.name
        if attempt.moves:
            attempt.end(_detached(name, attempt))
            return
        attempt.call.take_back()
        attempt.end(
            not_started(
                Reason.HOST_DETACHED,
                f"Not run: no application that offers {name!r} is attached at present.",
            )
        )

    def _withdraw(self, attempt: HostedAttempt) -> None:
        """Takes back an attempt that nobody waits for; one that runs is told to end."""
        host, offer = attempt.host, attempt.offer
        if attempt.ended.done():
            return
        if host is None:
            offer.waiting.remove(attempt)
            if not offer.waiting:
                self._crowded.discard(offer)
            attempt.end(None)
        elif attempt.is_sent:
            host.cancel(attempt)
        else:
            host.outbox.remove(attempt)
            del host.in_hand[attempt.id]
            attempt.end(None)
            self._feed(host)

    def sent(self, attempt: HostedAttempt) -> None:
        """Takes note that an attempt is given to its host: its time counts from now."""
        call = attempt.call
        attempt.is_sent = True
        if attempt.moves:
            call.attempt += 1
            return
        attempt.is_repeatable = attempt.offer.is_repeatable
        if call.outcome is None:
            call.restart_clock()

    def returned(self, host: Host, attempt: HostedAttempt, outcome: Outcome) -> None:
        """Takes the outcome of an attempt that a host has, and gives its slot to the next one."""
        del host.in_hand[attempt.id]
        if isinstance(outcome, Failure) and outcome.state is ExecutionState.NOT_STARTED:
            outcome = _not_run(attempt, outcome)
        attempt.end(outcome)
        self._feed(host)

    def _feed(self, host: Host) -> None:
        """Gives free slots to those who have waited longest."""
        while host.free > 0:
            lines = [offer for offer in self._crowded if host.tools.get(offer.tool.name)]
            if not lines:
                return
            offer = min(lines, key=lambda offer: offer.waiting[0].turn)
            attempt = offer.waiting.popleft()
            if not offer.waiting:
                self._crowded.discard(offer)
            host.take(attempt)

    def _lose(self, attempt: HostedAttempt) -> None:
        """Sees to an attempt whose host disappeared with it."""
        offer, call = attempt.offer, attempt.call
        attempt.host = None
        attempt.moves += 1
        attempt.is_repeatable &= offer.is_repeatable
        wanted = call.outcome is None or call.detached
        again = attempt.is_repeatable and offer.is_available and attempt.moves <= _MAX_MOVES
        if wanted and again and not call.cancelled:
            attempt.is_sent = False
            self._place(attempt)
        else:
            attempt.end(_detached(offer.tool.name, attempt))


def _detached(name: str, attempt: HostedAttempt) -> Outcome:
    again = " It may be made again." if attempt.is_repeatable else ""
    return unknown_effect(
        Reason.HOST_DETACHED,
        f"The application that ran {name!r} disappeared. The tool may have taken effect.{again}",
    )


def _not_run(attempt: HostedAttempt, failure: Failure) -> Failure:
    """What is true of a call that its host did not run."""
    call = attempt.call
    if not attempt.moves:
        call.take_back()
        return failure
    if call.outcome is None:
        call.attempt -= 1
    message = f"{failure.message} An application that disappeared may have run it."
    return replace(failure, state=ExecutionState.UNKNOWN, message=message)


def _nobody_minds() -> None:
    """What a pool does about changes that nobody has asked for."""
