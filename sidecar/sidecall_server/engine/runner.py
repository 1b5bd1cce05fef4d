"""Workers: tasks that run admitted calls, one after the other."""

import asyncio
import contextvars
import logging
import secrets

from sidecall_server.core.call import Call
from sidecall_server.core.events import Started
from sidecall_server.core.outcome import ExecutionState, Failure, Outcome, Reason
from sidecall_server.core.ports import Clock
from sidecall_server.engine.admission import Admission, Flow
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.blocking import account
from sidecall_server.engine.slices import Slices
from sidecall_server.engine.watchdog import NEVER, Watchdog

_log = logging.getLogger("sidecall.engine")

_EXPIRED = {
    Reason.TOOL_TIMEOUT: "The tool did not answer in time ({timeout_s:g} s).",
    Reason.CALL_DEADLINE: "The time for the call is over.",
    Reason.BATCH_DEADLINE: "The time for the turn's calls is over.",
}


class Worker:
    """A task and what it holds.

    Attributes:
        flow: Whose permits it holds.
        call: What it runs.
        task: Itself.
        reason: What the call's attempt is called if it reaches its deadline.
        abandoned: Whether the call got its outcome while the attempt was running. The
            batch and global permits have been given back then.
    """

    __slots__ = ("abandoned", "call", "flow", "reason", "task")

    task: asyncio.Task[None]

    def __init__(self, flow: Flow, call: Call) -> None:
        self.flow = flow
        self.call = call
        self.reason = Reason.TOOL_TIMEOUT
        self.abandoned = False


class Runner:
    """Runs admitted calls.

    A worker goes on with the next call of its flow, which costs less than a task per
    call; it is not used again after a cancellation or when a tool has changed its
    context variables.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        slices: Slices,
        watchdog: Watchdog,
        max_concurrency: int,
    ) -> None:
        self.admission = Admission(loop, clock, max_concurrency, self.start)
        self._watchdog = watchdog
        self._loop = loop
        self._clock = clock
        self._slices = slices
        self._workers: set[Worker] = set()

    @property
    def active(self) -> int:
        """Attempts that run, abandoned ones included."""
        return len(self._workers)

    def start(self, flow: Flow, call: Call) -> None:
        """Starts an admitted call, whose permits the new worker holds."""
        worker = Worker(flow, call)
        context = contextvars.copy_context()
        worker.task = self._loop.create_task(self._work(worker, context.copy()), context=context)
        self._workers.add(worker)

    async def _work(self, worker: Worker, untouched: contextvars.Context) -> None:
        flow, call = worker.flow, worker.call
        batch: Batch = flow.owner
        now_ns = self._clock.now_ns
        holds = True
        try:
            while True:
                # It may have become final between its admission and this step.
                if call.outcome is None:
                    self._begin(worker, call, batch)
                    outcome = await self._attempt(call, flow)
                    call.worker = None
                    if worker.abandoned:
                        return
                    batch.finish(call, outcome, now_ns())
                if self._slices.used_up(now_ns()):
                    await asyncio.sleep(0)
                following = self.admission.next_call(flow, now_ns())
                if following is None:
                    holds = False
                    return
                if worker.task.cancelling() or contextvars.copy_context() != untouched:
                    holds = False
                    self.start(flow, following)
                    return
                worker.call = call = following
        finally:
            self._workers.discard(worker)
            if holds:
                self.admission.release(flow.kept if worker.abandoned else flow.limiters)

    def _begin(self, worker: Worker, call: Call, batch: Batch) -> None:
        flow = worker.flow
        now_ns = self._clock.now_ns()
        call.started_ns = now_ns
        call.attempt += 1
        call.worker = worker
        call.deadline_ns, worker.reason = batch.attempt_deadline(call, flow.entry)
        self._watchdog.arm(call.deadline_ns)
        account(call, flow.mark, now_ns)
        if batch.observer is not None:
            batch.observer(Started(call.index, call.attempt))

    async def _attempt(self, call: Call, flow: Flow) -> Outcome:
        try:
            return await flow.entry.handler(call)
        except asyncio.CancelledError:
            if call.cancelled:
                return Failure(Reason.CANCELLED, "Cancelled.", ExecutionState.UNKNOWN)
            raise
        except Exception:
            error_id = secrets.token_hex(4)
            _log.exception("handler of %s raised (error %s)", flow.entry.spec.name, error_id)
            return Failure(Reason.INTERNAL, f"Internal error {error_id}.", ExecutionState.UNKNOWN)

    def abandon(self, call: Call) -> None:
        """Tells a running attempt to end; its outcome is already set."""
        worker: Worker | None = call.worker
        if worker is None or worker.abandoned:
            return
        worker.abandoned = True
        if call.on_cancel is not None:
            call.on_cancel()
        worker.task.cancel()
        self.admission.release(worker.flow.shared)

    def expire(self, now_ns: int) -> int:
        """Ends attempts that reached their deadline; returns when to ask again."""
        next_ns = NEVER
        for worker in list(self._workers):
            call = worker.call
            if call.outcome is not None or not call.started_ns:
                continue
            if now_ns < call.deadline_ns:
                next_ns = min(next_ns, call.deadline_ns)
                continue
            timeout_s = worker.flow.entry.timeout_ns / 1e9
            message = _EXPIRED[worker.reason].format(timeout_s=timeout_s)
            batch: Batch = worker.flow.owner
            batch.give_up(call, worker.reason, message)
        return next_ns

    async def stop(self, grace_s: float) -> None:
        """Cancels what still runs and waits for it, `grace_s` seconds at most."""
        tasks = [worker.task for worker in self._workers]
        for worker in list(self._workers):
            worker.call.cancelled = True
            if worker.call.on_cancel is not None:
                worker.call.on_cancel()
            worker.task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
