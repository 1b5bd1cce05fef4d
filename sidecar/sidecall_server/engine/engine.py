"""The engine: runs batches on the tools of a registry."""

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakSet

from sidecall_server.core.call import BatchOptions, Call, ToolCall
from sidecall_server.core.defaults import Limits
from sidecall_server.core.events import Observer
from sidecall_server.core.outcome import Reason, unknown_effect
from sidecall_server.core.ports import BoundTool, Clock
from sidecall_server.core.records import RecordStore
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.core.tool import Group
from sidecall_server.engine.admission import Flow
from sidecall_server.engine.answering import Answering
from sidecall_server.engine.attempts import refuse_waiting
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.bugs import internal_error
from sidecall_server.engine.entrance import Entrance
from sidecall_server.engine.expiry import expire
from sidecall_server.engine.intake import take_in
from sidecall_server.engine.lanes import Lanes
from sidecall_server.engine.ledger import Known, Ledger
from sidecall_server.engine.registry import Registry
from sidecall_server.engine.runner import Runner
from sidecall_server.engine.sessions import Sessions, SessionStatistics
from sidecall_server.engine.slices import Slices
from sidecall_server.engine.supervision import Supervision
from sidecall_server.engine.watchdog import NEVER, Watchdog
from sidecall_server.policy.breaker import BreakerStatistics
from sidecall_server.policy.concurrency import LimiterStatistics
from sidecall_server.policy.retry import RetryStatistics
from sidecall_server.policy.sharing import CacheStatistics, ResultCache

_DRAINING_RETRY_S = 1.0
_SHUTTING_DOWN = "The sidecar is shutting down."
_MAX_CACHED = 100_000
_STRIDE = 64


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """State of the engine; all counts are zero when it is idle.

    Attributes:
        open_batches: Batches that have no answer yet.
        running: Attempts that run, those that outlived their result included.
        queued: Calls that are ready and wait.
        limiters: State of the limiters by name; "sidecar" is the bound of all.
        rates: State of the rates by name; a permit is active until it has come back.
        breakers: State of the breakers by name of the tool.
        retries: What retries have cost, by name of the tool.
        lanes: Lanes that a call is in.
        shared_runs: Runs that identical calls can join.
        remembered: Requests and idempotency keys that are in memory.
        cache: Results that answer identical calls.
        sessions: Results of earlier turns.
    """

    open_batches: int
    running: int
    queued: int
    limiters: dict[str, LimiterStatistics]
    rates: dict[str, LimiterStatistics]
    breakers: dict[str, BreakerStatistics]
    retries: dict[str, RetryStatistics]
    lanes: int
    shared_runs: int
    remembered: int
    cache: CacheStatistics
    sessions: SessionStatistics


class Engine:
    """Runs batches. Made and used on one event loop.

    Attributes:
        limits: Bounds in force.
        registry: The tools.
        clock: Time.
        slices: Keeps turns on the event loop short.
        watchdog: The timer of all deadlines.
        admission: Permits and turns.
        sessions: Results of earlier turns.
        lanes: Who runs in each lane, and who waits.
        ledger: What is remembered of calls that may be sent again.
        instance_id: Differs with each engine: whoever sends again knows a restart by it.
        answering: The calls whose results are still to be sent.
        draining: Done when no batch is accepted any more.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        self.limits = limits
        self.clock = clock
        self.registry = Registry(limits, clock.now_ns)
        self.slices = Slices(loop, clock)
        self.watchdog = Watchdog(clock, self._expire)
        self.lanes = Lanes()
        self._runner = Runner(
            loop, clock, self.slices, self.watchdog, self.lanes, limits.max_concurrency
        )
        self.admission = self._runner.admission
        self.sessions = Sessions(limits, clock)
        self.ledger = Ledger(limits, clock, self.slices)
        self.instance_id = secrets.token_hex(8)
        self.cache = ResultCache(_MAX_CACHED, limits.max_cache_bytes)
        self._entrance = Entrance(self, self.ledger, self.cache)
        self._open: set[Batch] = set()
        self._next_close: asyncio.Future[None] | None = None
        self.answering = Answering()
        self.draining: asyncio.Future[None] = loop.create_future()

    def keep_in(self, store: RecordStore) -> None:
        """Has what must survive the process kept in a store; before there are tools."""
        self.ledger.keep_in(store)
        self.registry.is_durable = True

    async def execute(
        self, requests: Sequence[ToolCall], options: BatchOptions, observer: Observer | None = None
    ) -> Batch:
        """Runs a batch and returns it when all its calls are final.

        Cancelling this cancels the batch. Where taking it in fails for the sidecar's own
        fault, calls may be missing from what is returned: those were not started.

        Raises:
            Rejection: The batch was not accepted; no call was started.
        """
        batch = self.open(options, observer, await self.look_up(options, requests))
        try:
            try:
                await take_in(batch, requests, self.slices)
            except Exception:
                # Accepted is accepted: what was started ends, and nothing else starts.
                batch.cancel_waiting(Reason.INTERNAL, internal_error("taking a batch in"))
            await batch.done
            await self.remember(batch)
        finally:
            self.close(batch)
        return batch

    async def look_up(
        self, options: BatchOptions, requests: Sequence[ToolCall] | None
    ) -> Known | None:
        """What is remembered of a batch; for `open`, at once. None where nothing can be.

        Args:
            options: What holds for the batch.
            requests: Its calls; None where they are not known yet.

        Raises:
            Rejection: The request must not be served.
        """
        self._check_instance(options)
        if not options.request_id and (requests is None or not self.ledger.is_durable):
            return None
        return await self.ledger.look_up(options, requests)

    def _check_instance(self, options: BatchOptions) -> None:
        """Raises Rejection where what an earlier send has run is not remembered."""
        ledger, first = self.ledger, options.sent_to_instance
        if first in ("", self.instance_id) or ledger.is_durable or ledger.knows_request(options):
            return
        raise Rejection(
            RejectionReason.REQUEST_FORGOTTEN,
            "sent_to_instance: this sidecar was started after the batch was first sent, or is "
            "another one, and does not know the batch. It has run nothing now, but calls of an "
            "earlier send may have run: find out before you make them again.",
            "sent_to_instance",
        )

    async def remember(self, batch: Batch) -> None:
        """Makes what has become of a batch durable, before it is closed and answered."""
        if batch.minted is not None:
            for index, call in list(batch.calls.items()):
                entry = self.ledger.entry(batch.minted, index, call.request)
                policies = batch.tools.get(call.request.name)
                entry.is_repeatable = policies is not None and policies.is_repeatable
                if call.outcome is not None:
                    entry.set_outcome(call.outcome, call.attempt)
                if index % _STRIDE == _STRIDE - 1:
                    await self.slices.breathe()
            batch.minted.call_count = len(batch.calls)
            self.ledger.adopt(batch.minted)
        await self.settle(batch)

    async def settle(self, batch: Batch) -> None:
        """Waits until the results that a batch has by now are durable, as far as they can be."""
        if self.ledger.is_durable and (batch.request_id or batch.known.keys):
            await self.ledger.flush()

    def open(
        self, options: BatchOptions, observer: Observer | None = None, known: Known | None = None
    ) -> Batch:
        """Opens a batch without calls; `close` must follow.

        Args:
            options: What holds for all its calls.
            observer: Watches; None where nobody does.
            known: What `look_up` found; it is used until `close`.

        Raises:
            Rejection: No batch is accepted at present.
        """
        try:
            log = None if known is None else known.log
            self.check_accepting(is_known=log is not None and log.is_known)
        except Rejection:
            if known is not None:
                self.ledger.release(known)
            raise
        most = self.limits.max_batch_concurrency
        wanted = options.max_concurrency
        batch = Batch(
            self,
            self.registry.tools,
            options,
            self.limits,
            most if wanted is None else min(wanted, most),
            observer,
        )
        batch.is_late = self.draining.done()
        if known is not None:
            batch.known = known
            batch.log = known.log
            if known.log is not None:
                self.ledger.accept(known.log)
        self._open.add(batch)
        if options.deadline_ns is not None:
            self.watchdog.arm(options.deadline_ns)
        self.leave_time_to_answer(batch)
        return batch

    def leave_time_to_answer(self, batch: Batch) -> None:
        """Has a batch end before its client gives up, by what is known of its calls so far."""
        client_ns = batch.options.client_deadline_ns
        if client_ns is None:
            return
        remaining_ns = max(0, client_ns - self.clock.now_ns())
        until_ns = client_ns - self.answering.margin_ns(remaining_ns)
        if batch.deadlines.bring_forward(until_ns):
            self.watchdog.arm(until_ns)

    def close(self, batch: Batch) -> None:
        """Forgets a batch; what is not final in it is cancelled."""
        # Cancelling the task that waits for a batch has cancelled what it waits for.
        if batch.done.cancelled() or not batch.done.done():
            batch.cancel(Reason.CANCELLED, "The client cancelled the turn.", client_gone=True)
        batch.disband()
        self._open.discard(batch)
        self.ledger.release(batch.known)
        closed, self._next_close = self._next_close, None
        if closed is not None:
            closed.set_result(None)

    def swap(self, tools: Iterable[BoundTool], groups: Mapping[str, Group]) -> None:
        """Puts other tools in force; calls that wait for a limit that is raised go on.

        Raises:
            ValueError: As `Registry.swap`. Nothing was changed.
        """
        self.registry.swap(tools, groups)
        self.admission.limits_changed([*self.registry.limiters(), *self.registry.rates()])

    async def wait_open_ended(self) -> None:
        """Waits until the batches that are open now are closed and none of their attempts runs.

        Attempts that run now for batches that are closed already count as well.
        """
        batches = WeakSet(self._open)
        batches.update(worker.flow.owner for worker in self._runner.workers)
        while not batches.isdisjoint(self._open):
            if self._next_close is None:
                self._next_close = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._next_close,))
        while tasks := [w.task for w in self._runner.workers if w.flow.owner in batches]:
            await asyncio.wait(tasks)

    def check_accepting(self, *, is_known: bool = False) -> None:
        """Raises Rejection where no batch is accepted at present.

        Args:
            is_known: Whether the batch is one that was accepted before.
        """
        if self.draining.done() and not is_known:
            raise Rejection(
                RejectionReason.DRAINING,
                _SHUTTING_DOWN,
                retry_after_s=_DRAINING_RETRY_S,
            )
        if len(self._open) >= self.limits.max_open_batches:
            raise Rejection(
                RejectionReason.TOO_MANY_BATCHES,
                f"{len(self._open)} batches are open already.",
                retry_after_s=_DRAINING_RETRY_S,
            )

    def abandon(self, call: Call) -> None:
        """Tells a running attempt to end; its outcome is already set."""
        self._runner.abandon(call)

    def abandon_detached(
        self,
        call: Call,
        reason: Reason = Reason.CANCELLED,
        message: str = "The client cancelled the call.",
    ) -> None:
        """Tells the attempt of a call to end that nobody waits for any more."""
        call.cancelled = True
        now_ns = self.clock.now_ns()
        supervision: Supervision = call.supervision
        supervision.withdraw_probe(call, now_ns)
        supervision.land(call, unknown_effect(reason, message))
        self._runner.abandon(call)

    def outlive(self, call: Call) -> None:
        """Takes back what an attempt must not keep that goes on without its call."""
        self._runner.outlive(call)

    def enter(self, batch: Batch, flow: Flow | None, call: Call) -> None:
        """Takes a call that needs more than permits."""
        self._entrance.enter(batch, flow, call)

    def admit(self, batch: Batch, flow: Flow, call: Call) -> None:
        """Takes a valid call that needs no more than its tool's breaker and rates."""
        self._entrance.admit_first(batch, flow, call)

    def try_again(self, batch: Batch, flow: Flow, call: Call) -> None:
        """Takes the next attempt of a call."""
        self._entrance.try_again(batch, flow, call)

    def refuse_waiting(self, name: str) -> None:
        """Ends the waiting calls of a tool whose breaker has opened."""
        breaker = self.registry.states()[name].breaker
        failure = None if breaker is None else breaker.refusal(self.clock.now_ns())
        if failure is not None:
            for batch in list(self._open):
                refuse_waiting(batch, name, failure)

    def _expire(self, now_ns: int) -> int:
        # Batches first: what waits for a running call ends for the same reason as that call.
        next_ns = min((expire(batch, now_ns) for batch in list(self._open)), default=NEVER)
        return min(next_ns, self._runner.expire(now_ns))

    def refuse_batches(self) -> None:
        """Begins to drain: running batches go on, new ones are refused."""
        if not self.draining.done():
            self.draining.set_result(None)

    def cancel_open(self) -> None:
        """Makes every call final that is not, with reason DRAINING."""
        for batch in list(self._open):
            batch.cancel(Reason.DRAINING, _SHUTTING_DOWN)
            batch.catch_up()

    async def wait_detached(self) -> None:
        """Waits for the attempts that go on although their client is gone."""
        while tasks := [w.task for w in self._runner.workers if w.call.detached]:
            await asyncio.wait(tasks)

    async def stop(self, grace_s: float) -> None:
        """Ends what still runs, within about `grace_s` seconds."""
        self.refuse_batches()
        self.cancel_open()
        for worker in list(self._runner.workers):
            if worker.call.detached:
                self.abandon_detached(worker.call, Reason.DRAINING, _SHUTTING_DOWN)
        await self._runner.stop(grace_s)
        self.watchdog.stop()
        self.sessions.stop()

    def statistics(self) -> EngineStatistics:
        """Its state now."""
        registry = self.registry
        limiters = {"sidecar": self.admission.limiter.statistics()}
        limiters |= {limiter.name: limiter.statistics() for limiter in registry.limiters()}
        now_ns = self.clock.now_ns()
        for rate in registry.rates():
            rate.refill(now_ns)
        states = registry.states().items()
        return EngineStatistics(
            open_batches=len(self._open),
            running=self._runner.active,
            queued=sum(entry.queue.count for entry in registry.tools.values()),
            limiters=limiters,
            rates={rate.name: rate.statistics() for rate in registry.rates()},
            breakers={n: s.breaker.statistics() for n, s in states if s.breaker is not None},
            retries={n: s.retrier.statistics() for n, s in states if s.retrier is not None},
            lanes=self.lanes.count,
            shared_runs=self._entrance.in_flight,
            remembered=self.ledger.count,
            cache=self.cache.statistics(),
            sessions=self.sessions.statistics(),
        )
