"""The order of a batch: which calls may start, and what a failure means for the rest.

Synchronous: events in (`add`, `seal`, `finish`), commands out (`Step`). Every edge is
looked at once: in-degree counters (Kahn 1962), no polling and no rescans. Cycles are the
caller's to find beforehand, with `sidecall_server.core.cycles`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from sidecall_server.core.call import Mode, OnFailure


@dataclass(slots=True)
class Step:
    """What is to be done after an event.

    Attributes:
        ready: Calls whose dependencies are final and whose turn has come, in order.
        failed_dependency: Calls that can never start, each with the call that failed.
        stopped: Calls that must not start because of STOP.
    """

    ready: list[int] = field(default_factory=list)
    failed_dependency: list[tuple[int, int]] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)


_NO_ORDER: Mapping[int, Sequence[int]] = {}


class Plan:
    """The calls of one batch and the edges between them.

    A call is added with the calls it depends on, which must end OK, and those that it
    comes after, which must only be final, and so must be whatever those waited for: a call
    that ends early does not let the later ones pass. Either may be added later. Where the
    caller says so it is held until `seal`. Every call becomes final by `finish`, or by being
    named in `failed_dependency` or `stopped` of a step.
    """

    __slots__ = (
        "_active",
        "_blockers",
        "_dependents",
        "_failed_early",
        "_final",
        "_followers",
        "_held",
        "_low",
        "_mode",
        "_on_failure",
        "_passing",
        "_runnable",
        "_sealed",
        "_stopped",
        "_unfinished",
    )

    def __init__(self, mode: Mode = Mode.PARALLEL, on_failure: OnFailure = OnFailure.CONTINUE):
        self._mode = mode
        self._on_failure = on_failure
        # Calls that are not final; the value says whether the call was made ready.
        self._unfinished: dict[int, bool] = {}
        # Final calls; the value says whether the call ended OK.
        self._final: dict[int, bool] = {}
        # Number of dependencies and predecessors that are not final, for calls that have any.
        self._blockers: dict[int, int] = {}
        self._dependents: dict[int, list[int]] = {}
        self._followers: dict[int, list[int]] = {}  # calls that come after each call
        self._held: set[int] = set()
        self._passing: set[int] = set()  # final calls that still have blockers
        self._runnable: list[int] = []  # SEQUENTIAL: a heap of calls that wait for their turn
        self._failed_early: list[int] = []  # SEQUENTIAL, STOP: a heap of failures before a turn
        self._active: int | None = None  # SEQUENTIAL: the call whose turn it is
        self._low = 0  # all calls before it are final
        self._sealed = False
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether STOP has fired."""
        return self._stopped

    def add(
        self,
        index: int,
        depends_on: Iterable[int] = (),
        *,
        after: Iterable[int] = (),
        hold: bool = False,
    ) -> Step:
        """Adds a call.

        Args:
            index: Its position in the batch.
            depends_on: Calls that must end OK first, itself and later ones included.
            after: Calls that must be final first.
            hold: Whether it waits for the seal.
        """
        step = Step()
        if self._stopped:
            self._final[index] = False
            step.stopped.append(index)
            return step
        self._unfinished[index] = False
        blockers, failed = 0, None
        for dependency in set(depends_on):
            final = self._final.get(dependency)
            if final is False and failed is None:
                failed = dependency
            if final is None or dependency in self._passing:
                self._dependents.setdefault(dependency, []).append(index)
                blockers += 1
        for predecessor in set(after):
            if predecessor not in self._final or predecessor in self._passing:
                self._followers.setdefault(predecessor, []).append(index)
                blockers += 1
        if blockers:
            self._blockers[index] = blockers
        if failed is not None:
            del self._unfinished[index]
            self._final[index] = False
            step.failed_dependency.append((index, failed))
            self._propagate([index], step)
            self._take_turn(step)
            return step
        if hold and not self._sealed:
            self._held.add(index)
        elif not blockers:
            self._make_runnable(index, step)
        self._take_turn(step)
        return step

    def add_all(
        self,
        count: int,
        edges: Mapping[int, Sequence[int]],
        order: Mapping[int, Sequence[int]] = _NO_ORDER,
    ) -> Step:
        """Adds calls 0 to count - 1 at once and seals the plan.

        Args:
            count: Number of calls.
            edges: The calls that each call depends on, for those that have any.
            order: The calls that each call comes after, for those that have any.
        """
        step = Step()
        self._sealed = True
        if not edges and not order and self._mode is Mode.PARALLEL:
            self._unfinished = dict.fromkeys(range(count), True)
            step.ready = list(range(count))
            return step
        self._unfinished = dict.fromkeys(range(count), False)
        for index, depends_on in edges.items():
            distinct = depends_on if len(depends_on) == 1 else set(depends_on)
            self._blockers[index] = len(distinct)
            for dependency in distinct:
                self._dependents.setdefault(dependency, []).append(index)
        for index, after in order.items():
            self._blockers[index] = self._blockers.get(index, 0) + len(after)
            for predecessor in after:
                self._followers.setdefault(predecessor, []).append(index)
        for index in range(count):
            if index not in self._blockers:
                self._make_runnable(index, step)
        self._take_turn(step)
        return step

    def unlink(self, index: int, depends_on: Iterable[int]) -> None:
        """Takes away the edges of a call that waits for some of them; it is held then."""
        for dependency in set(depends_on):
            dependents = self._dependents.get(dependency, [])
            if index in dependents:
                dependents.remove(index)
        self._blockers.pop(index, None)
        self._held.add(index)

    def seal(self) -> Step:
        """Releases what is held; no call may be added afterwards."""
        self._sealed = True
        step = Step()
        for index in sorted(self._held):
            if index not in self._blockers and index in self._unfinished:
                self._make_runnable(index, step)
        self._held.clear()
        self._take_turn(step)
        return step

    def finish(self, index: int, ok: bool) -> Step | None:
        """Takes note that a call is final; None where nothing follows from it."""
        had_turn = self._unfinished.pop(index, None)
        if had_turn is None:
            return None
        self._final[index] = ok
        self._held.discard(index)
        if index in self._blockers:
            self._passing.add(index)
        if ok and self._mode is Mode.PARALLEL and not self._followers:
            ready = self._unblock(index, self._dependents)
            return Step(ready) if ready else None
        step = Step()
        if self._active == index:
            self._active = None
        if ok:
            self._release(index, self._dependents, step)
            self._let_pass(index, step)
        else:
            self._propagate([index], step)
            if self._on_failure is OnFailure.STOP and not self._stopped:
                if had_turn or self._mode is Mode.PARALLEL:
                    self._stop(step)
                else:
                    heappush(self._failed_early, index)
        if not self._stopped:
            self._take_turn(step)
        return step

    def pause(self, index: int) -> Step:
        """Takes note that a call is final that is to run in a later send of the batch.

        Its dependants fail. In SEQUENTIAL whatever comes after it is named in `stopped`;
        else the others go on, under STOP as well.
        """
        step = Step()
        if self._unfinished.pop(index, None) is None:
            return step
        self._final[index] = False
        self._held.discard(index)
        self._active = None
        self._propagate([index], step)
        if self._mode is Mode.SEQUENTIAL and not self._stopped:
            self._stop(step)
        return step

    def _release(self, index: int, waiting: dict[int, list[int]], step: Step) -> None:
        """Makes runnable what waited for a call last."""
        for unblocked in self._unblock(index, waiting):
            if self._mode is Mode.SEQUENTIAL:
                heappush(self._runnable, unblocked)
            else:
                step.ready.append(unblocked)

    def _unblock(self, index: int, waiting: dict[int, list[int]]) -> list[int]:
        """The calls that waited for this one last; in PARALLEL they count as ready."""
        unblocked: list[int] = []
        blockers = self._blockers
        passed = [(index, waiting)]
        for before, graph in passed:
            for dependent in graph.pop(before, ()):
                left = blockers.get(dependent)
                if left is None:
                    continue
                if left > 1:
                    blockers[dependent] = left - 1
                    continue
                del blockers[dependent]
                if dependent in self._passing:
                    self._passing.discard(dependent)
                    passed += [(dependent, self._dependents), (dependent, self._followers)]
                elif dependent not in self._held:
                    unblocked.append(dependent)
                    if self._mode is Mode.PARALLEL:
                        self._unfinished[dependent] = True
        return unblocked

    def _let_pass(self, index: int, step: Step) -> None:
        """Releases what comes after a final call, once what that waited for is final as well."""
        if index in self._blockers:
            self._passing.add(index)
            return
        self._release(index, self._dependents, step)
        self._release(index, self._followers, step)

    def _make_runnable(self, index: int, step: Step) -> None:
        if self._mode is Mode.SEQUENTIAL:
            heappush(self._runnable, index)
        else:
            self._unfinished[index] = True
            step.ready.append(index)

    def _take_turn(self, step: Step) -> None:
        if self._mode is not Mode.SEQUENTIAL or self._active is not None:
            return
        while self._runnable:
            index = self._runnable[0]
            if index not in self._unfinished:
                heappop(self._runnable)
                continue
            if self._failed_early and self._failed_early[0] < index:
                # The turn of a call that failed while it waited has come.
                self._stop(step)
                return
            # Until the seal an earlier call may still come, or be held.
            if not self._sealed and index > self._first_unfinished():
                return
            heappop(self._runnable)
            self._active = index
            self._unfinished[index] = True
            step.ready.append(index)
            return

    def _first_unfinished(self) -> int:
        while self._low in self._final:
            self._low += 1
        return self._low

    def _propagate(self, failed: list[int], step: Step) -> None:
        """Fails what depends on failed calls, each call once, in breadth."""
        for index in failed:
            for dependent in self._dependents.get(index, ()):
                if dependent not in self._unfinished:
                    continue
                del self._unfinished[dependent]
                self._held.discard(dependent)
                self._final[dependent] = False
                step.failed_dependency.append((dependent, index))
                failed.append(dependent)
        for index in reversed(failed):
            self._let_pass(index, step)

    def _stop(self, step: Step) -> None:
        self._stopped = True
        for index, ready in list(self._unfinished.items()):
            if not ready:
                del self._unfinished[index]
                self._held.discard(index)
                self._blockers.pop(index, None)
                self._final[index] = False
                step.stopped.append(index)
