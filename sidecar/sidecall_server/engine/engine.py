"""The engine: runs batches on the tools of a registry."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakSet

from sidecall_server.core.call import BatchOptions, Call, ToolCall
from sidecall_server.core.defaults import Limits
from sidecall_server.core.events import Observer
from sidecall_server.core.outcome import Reason
from sidecall_server.core.ports import Clock
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.bugs import internal_error
from sidecall_server.engine.intake import take_in
from sidecall_server.engine.registry import Registry
from sidecall_server.engine.runner import Runner
from sidecall_server.engine.sessions import Sessions
from sidecall_server.engine.slices import Slices
from sidecall_server.engine.watchdog import NEVER, Watchdog
from sidecall_server.policy.concurrency import LimiterStatistics

_DRAINING_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """State of the engine; all counts are zero when it is idle.

    Attributes:
        open_batches: Batches that have no answer yet.
        running: Attempts that run, those that outlived their result included.
        queued: Calls that are ready and wait.
        limiters: State of the limiters by name; "sidecar" is the bound of all.
    """

    open_batches: int
    running: int
    queued: int
    limiters: dict[str, LimiterStatistics]


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
        draining: Done when no batch is accepted any more.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        self.limits = limits
        self.clock = clock
        self.registry = Registry(limits)
        self.slices = Slices(loop, clock)
        self.watchdog = Watchdog(clock, self._expire)
        self._runner = Runner(loop, clock, self.slices, self.watchdog, limits.max_concurrency)
        self.admission = self._runner.admission
        self.sessions = Sessions(limits, clock)
        self._open: set[Batch] = set()
        self._next_close: asyncio.Future[None] | None = None
        self.draining: asyncio.Future[None] = loop.create_future()

    async def execute(
        self, requests: Sequence[ToolCall], options: BatchOptions, observer: Observer | None = None
    ) -> Batch:
        """Runs a batch and returns it when all its calls are final.

        Cancelling this cancels the batch. Where taking it in fails for the sidecar's own
        fault, calls may be missing from what is returned: those were not started.

        Raises:
            Rejection: The batch was not accepted; no call was started.
        """
        batch = self.open(options, observer)
        try:
            try:
                await take_in(batch, requests, self.slices)
            except Exception:
                # Accepted is accepted: what was started ends, and nothing else starts.
                batch.cancel_waiting(Reason.INTERNAL, internal_error("taking a batch in"))
            await batch.done
        finally:
            self.close(batch)
        return batch

    def open(self, options: BatchOptions, observer: Observer | None = None) -> Batch:
        """Opens a batch without calls; `close` must follow.

        Raises:
            Rejection: No batch is accepted at present.
        """
        self.check_accepting()
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
        self._open.add(batch)
        if options.deadline_ns is not None:
            self.watchdog.arm(options.deadline_ns)
        return batch

    def close(self, batch: Batch) -> None:
        """Forgets a batch; what is not final in it is cancelled."""
        # Cancelling the task that waits for a batch has cancelled what it waits for.
        if batch.done.cancelled() or not batch.done.done():
            batch.cancel(Reason.CANCELLED, "The client cancelled the turn.")
        batch.disband()
        self._open.discard(batch)
        closed, self._next_close = self._next_close, None
        if closed is not None:
            closed.set_result(None)

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

    def check_accepting(self) -> None:
        """Raises Rejection where no batch is accepted at present."""
        if self.draining.done():
            raise Rejection(
                RejectionReason.DRAINING,
                "The sidecar is shutting down.",
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

    def _expire(self, now_ns: int) -> int:
        # Batches first: what waits for a running call ends for the same reason as that call.
        next_ns = min((batch.expire(now_ns) for batch in list(self._open)), default=NEVER)
        return min(next_ns, self._runner.expire(now_ns))

    def refuse_batches(self) -> None:
        """Begins to drain: running batches go on, new ones are refused."""
        if not self.draining.done():
            self.draining.set_result(None)

    def cancel_open(self) -> None:
        """Makes every call final that is not, with reason DRAINING."""
        for batch in list(self._open):
            batch.cancel(Reason.DRAINING, "The sidecar is shutting down.")

    async def stop(self, grace_s: float) -> None:
        """Ends what still runs, within about `grace_s` seconds."""
        self.refuse_batches()
        self.cancel_open()
        await self._runner.stop(grace_s)
        self.watchdog.stop()
        self.sessions.stop()

    def statistics(self) -> EngineStatistics:
        """Its state now."""
        limiters = {"sidecar": self.admission.limiter.statistics()}
        for limiter in self.registry.limiters():
            limiters[limiter.name] = limiter.statistics()
        queued = sum(entry.queue.count for entry in self.registry.tools.values())
        return EngineStatistics(len(self._open), self._runner.active, queued, limiters)
