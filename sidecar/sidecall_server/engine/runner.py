"""Workers: tasks that run admitted calls, one after the other."""

import asyncio
import contextvars
from collections.abc import Collection

from sidecall_server.core.call import Call
from sidecall_server.core.events import Started
from sidecall_server.core.outcome import ExecutionState
from sidecall_server.core.ports import Clock
from sidecall_server.engine.admission import Admission, Flow
from sidecall_server.engine.attempts import settle, time_out
from sidecall_server.engine.batch import Batch
from sidecall_server.engine.bugs import internal_failure
from sidecall_server.engine.expiry import expire_in_line
from sidecall_server.engine.lanes import Lanes
from sidecall_server.engine.slices import Slices
from sidecall_server.engine.watchdog import NEVER, Watchdog


class Worker:
    """A task and what it holds.

    Attributes:
        flow: Whose permits it holds.
        call: What it runs.
        task: Itself.
        abandoned: Whether the attempt was told to end; its call has its outcome.
        outlives: Whether the call got its outcome while the attempt was running. The
            batch and global permits have been given back then.
    """

    __slots__ = ("_runner", "abandoned", "call", "flow", "outlives", "task")

    task: asyncio.Task[None]

    def __init__(self, runner: "Runner", flow: Flow, call: Call) -> None:
        self._runner = runner
        self.flow = flow
        self.call = call
        self.abandoned = False
        self.outlives = False

    def restart_clock(self) -> None:
        """Counts the attempt's time from now."""
        if self.call.outcome is None:
            self._runner.time_attempt(self)


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
        lanes: Lanes,
        max_concurrency: int,
    ) -> None:
        self.admission = Admission(loop, clock, max_concurrency, self.start)
        self._watchdog = watchdog
        self._lanes = lanes
        self._loop = loop
        self._clock = clock
        self._slices = slices
        self._workers: set[Worker] = set()
        # What every call starts with. A start may happen in a worker whose tool has
        # changed its own context.
        self._context = contextvars.copy_context()

    @property
    def active(self) -> int:
        """Attempts that run, abandoned ones included."""
        return len(self._workers)

    @property
    def workers(self) -> Collection[Worker]:
        """The workers that run."""
        return self._workers

    def start(self, flow: Flow, call: Call) -> None:
        """Starts an admitted call, whose permits the new worker holds."""
        worker = Worker(self, flow, call)
        worker.task = self._loop.create_task(self._work(worker), context=self._context.copy())
        self._workers.add(worker)

    async def _work(self, worker: Worker) -> None:
        flow, call = worker.flow, worker.call
        batch: Batch = flow.owner
        handler = flow.entry.handler
        now_ns, slices, untouched = self._clock.now_ns, self._slices, self._context
        next_call = self.admission.next_call
        holds = True
        try:
            while True:
                # It may have become final between its admission and this step.
                if call.outcome is None:
                    self._begin(worker, call, batch)
                    try:
                        outcome = await handler(call)
                    except (asyncio.CancelledError, Exception) as error:
                        if isinstance(error, asyncio.CancelledError):
                            if call.cancelled:
                                return
                            if worker.task.cancelling():
                                raise
                        # Nobody cancelled it: without an outcome its batch would wait for ever.
                        outcome = internal_failure(call, ExecutionState.UNKNOWN)
                    call.worker = None
                    if call.supervision is None and not flow.entry.is_judged:
                        batch.finish(call, outcome, now_ns())
                    else:
                        settle(batch, flow, call, outcome, now_ns())
                    if worker.outlives:
                        return
                ended_ns = now_ns()
                if ended_ns >= slices.end_ns and slices.used_up(ended_ns):
                    await _pass_on(flow)
                    ended_ns = now_ns()
                following = next_call(flow, ended_ns)
                if following is None:
                    holds = False
                    return
                if worker.task.cancelling() or contextvars.copy_context() != untouched:
                    holds = False
                    self.start(flow, following)
                    return
                worker.call = call = following
        finally:
            self._retire(worker, holds=holds)

    def _retire(self, worker: Worker, *, holds: bool) -> None:
        """Takes back what a worker has that ends."""
        self._workers.discard(worker)
        call, flow = worker.call, worker.flow
        if call.lane is not None:
            self._lanes.leave(call.lane, call)
            call.lane = None
        if holds:
            self.admission.release(flow.kept if worker.outlives else flow.held)

    def _begin(self, worker: Worker, call: Call, batch: Batch) -> None:
        call.attempt += 1
        call.worker = worker
        # As `time_attempt`, which is not called for every call.
        call.started_ns = now_ns = self._clock.now_ns()
        deadline_ns = now_ns + worker.flow.entry.timeout_ns
        if batch.deadlines.bounded:
            deadline_ns = min(deadline_ns, batch.deadlines.of(call))
        call.deadline_ns = deadline_ns
        if deadline_ns < self._watchdog.wake_ns:
            self._watchdog.arm(deadline_ns)
        if batch.observer is not None:
            batch.observer(Started(call.index, call.attempt))

    def time_attempt(self, worker: Worker) -> None:
        """Starts the clock of a worker's attempt."""
        call, flow = worker.call, worker.flow
        call.started_ns = now_ns = self._clock.now_ns()
        call.deadline_ns = now_ns + flow.entry.timeout_ns
        deadlines = flow.owner.deadlines
        if deadlines.bounded:
            call.deadline_ns = min(call.deadline_ns, deadlines.of(call))
        if call.deadline_ns < self._watchdog.wake_ns:
            self._watchdog.arm(call.deadline_ns)

    def abandon(self, call: Call) -> None:
        """Tells a running attempt to end; its outcome is already set."""
        worker = call.worker
        if not isinstance(worker, Worker) or worker.abandoned:
            return
        worker.abandoned = True
        if call.on_cancel is not None:
            call.on_cancel()
        worker.task.cancel()
        self.outlive(call)

    def outlive(self, call: Call) -> None:
        """Takes back what a running attempt must not keep beyond its call's outcome."""
        worker = call.worker
        if isinstance(worker, Worker) and not worker.outlives:
            worker.outlives = True
            self.admission.release(worker.flow.shared)

    def expire(self, now_ns: int) -> int:
        """Ends attempts that reached their deadline; returns when to ask again."""
        next_ns = NEVER
        for worker in list(self._workers):
            call = worker.call
            if call.outcome is not None and not call.detached:
                continue
            if call.preparing and call.in_line:
                next_ns = min(next_ns, expire_in_line(worker.flow, call, now_ns))
            if not call.started_ns or call.preparing:
                continue
            if now_ns < call.deadline_ns:
                next_ns = min(next_ns, call.deadline_ns)
                continue
            batch: Batch = worker.flow.owner
            if now_ns >= batch.deadlines.of(call) and not call.detached:
                batch.give_up(call, *batch.deadlines.missed(call))
                if call.detached:
                    next_ns = min(next_ns, call.deadline_ns)
            elif call.detached and now_ns < call.started_ns + worker.flow.entry.timeout_ns:
                # It was not the tool that took too long: its client had left it time until now.
                batch.host.abandon_detached(call)
            else:
                time_out(batch, worker.flow, call, now_ns)
        return next_ns

    async def stop(self, grace_s: float) -> None:
        """Cancels what still runs and waits for it, `grace_s` seconds at most."""
        tasks = [worker.task for worker in self._workers]
        for worker in list(self._workers):
            # One that has not taken its first step would never reach its cleanup; it ends
            # by itself, as its call is final.
            if worker.call.worker is worker:
                worker.call.cancelled = True
                if worker.call.on_cancel is not None:
                    worker.call.on_cancel()
                worker.task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)


async def _pass_on(flow: Flow) -> None:
    """Lets others have the event loop."""
    flow.yielding += 1
    try:
        await asyncio.sleep(0)
    finally:
        flow.yielding -= 1
