"""Worker processes, kept ready: what dies is replaced."""

import asyncio
import enum
import logging
import random
from collections import deque

from sidecall_server.backends.process_child import Child, ChildStartError
from sidecall_server.backends.process_frames import Header

_log = logging.getLogger("sidecall.processes")

_START_TIMEOUT_S = 60.0
_FIRST_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 10.0
# A process that dies before this age without having run a call counts as a failed start.
_SOUND_AGE_S = 2.0


class PoolUnavailable(Exception):  # noqa: N818  a state, not a mistake
    """No worker process can be started at present.

    Attributes:
        retry_after_s: Seconds until the next try.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class _State(enum.Enum):
    STARTING = enum.auto()
    SERVING = enum.auto()
    BACKOFF = enum.auto()


class _Slot:
    """A place for one process."""

    __slots__ = ("busy", "child", "failures", "reason", "retry_at_s", "state")

    def __init__(self) -> None:
        self.state = _State.STARTING
        self.child: Child | None = None
        self.busy = False
        self.failures = 0
        self.reason = ""
        self.retry_at_s = 0.0


class ProcessPool:
    """A fixed number of worker processes, each of which runs one call at a time."""

    def __init__(self, max_processes: int, load: Header) -> None:
        """Takes the number of processes and the `load` frame that they start with."""
        self._load = load
        self._slots = [_Slot() for _ in range(max_processes)]
        self._waiters: deque[asyncio.Future[Child]] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self.restarts = 0

    @property
    def processes(self) -> int:
        """Processes that are ready or run a call."""
        return sum(slot.state is _State.SERVING for slot in self._slots)

    @property
    def busy(self) -> int:
        """Processes that run a call."""
        return sum(slot.busy for slot in self._slots)

    async def start(self) -> frozenset[str]:
        """Starts one process and waits for it; the others follow in the background.

        Returns:
            Names of the tools that a process has.

        Raises:
            ChildStartError: The first one cannot be started.
        """
        first = self._slots[0]
        first.child = Child()
        try:
            names = await first.child.start(self._load, _START_TIMEOUT_S)
        except BaseException:
            await first.child.stop(0.0)
            raise
        self._tasks = [asyncio.create_task(self._keep(slot)) for slot in self._slots]
        return names

    async def stop(self, grace_s: float) -> None:
        """Ends all processes. Idempotent."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []
        children = [slot.child for slot in self._slots if slot.child is not None]
        await asyncio.gather(*(child.stop(grace_s) for child in children))
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(PoolUnavailable("the sidecar stops", 0.0))

    def take(self) -> Child | None:
        """A process that is ready, if there is one."""
        for slot in self._slots:
            child = slot.child
            if slot.state is _State.SERVING and not slot.busy and child is not None and child.alive:
                slot.busy = True
                return child
        return None

    async def acquire(self) -> Child:
        """A process that is ready; waits for one that is being started.

        Raises:
            PoolUnavailable: None is being started, because starting failed.
        """
        child = self.take()
        if child is not None:
            return child
        self._raise_if_hopeless()
        waiter: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def release(self, child: Child) -> None:
        """Gives a process back, dead or alive."""
        for slot in self._slots:
            if slot.child is child:
                slot.busy = False
        self._serve_waiters()

    def _serve_waiters(self) -> None:
        while self._waiters:
            if self._waiters[0].done():
                self._waiters.popleft()
                continue
            child = self.take()
            if child is None:
                return
            self._waiters.popleft().set_result(child)

    def _raise_if_hopeless(self) -> None:
        waiting = [slot for slot in self._slots if slot.state is _State.BACKOFF]
        starting = any(
            slot.state is _State.STARTING or (slot.child is not None and not slot.child.alive)
            for slot in self._slots
            if slot.state is not _State.BACKOFF
        )
        if waiting and not starting:
            now_s = asyncio.get_running_loop().time()
            retry_at_s = min(slot.retry_at_s for slot in waiting)
            raise PoolUnavailable(waiting[0].reason, max(0.0, retry_at_s - now_s))

    async def _keep(self, slot: _Slot) -> None:
        """Keeps a process in a slot."""
        while True:
            child = slot.child
            if child is None or not child.alive:
                child = await self._fill(slot)
            since_s = asyncio.get_running_loop().time()
            slot.state = _State.SERVING
            self._serve_waiters()
            await asyncio.shield(child.gone)
            self.restarts += 1
            age_s = asyncio.get_running_loop().time() - since_s
            if child.calls or age_s > _SOUND_AGE_S:
                slot.failures = 0
                slot.state = _State.STARTING
            else:
                await self._back_off(slot, "its processes die by themselves")

    async def _fill(self, slot: _Slot) -> Child:
        while True:
            slot.state = _State.STARTING
            child = slot.child = Child()
            slot.busy = False
            try:
                await child.start(self._load, _START_TIMEOUT_S)
            except ChildStartError as error:
                await child.stop(0.0)
                await self._back_off(slot, str(error))
            else:
                return child

    async def _back_off(self, slot: _Slot, reason: str) -> None:
        slot.failures += 1
        longest_s = min(_MAX_BACKOFF_S, _FIRST_BACKOFF_S * 2 ** (slot.failures - 1))
        pause_s = longest_s * random.uniform(0.5, 1.0)  # noqa: S311  spreads restarts
        _log.error("cannot start a worker process, next try in %.1f s: %s", pause_s, reason)
        slot.state = _State.BACKOFF
        slot.reason = reason
        slot.retry_at_s = asyncio.get_running_loop().time() + pause_s
        self._fail_hopeless_waiters()
        await asyncio.sleep(pause_s)

    def _fail_hopeless_waiters(self) -> None:
        try:
            self._raise_if_hopeless()
        except PoolUnavailable as error:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_exception(error)
