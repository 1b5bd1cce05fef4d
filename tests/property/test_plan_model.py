"""The plan against a version that looks at everything after every event."""

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecall_server.core.call import Mode, OnFailure
from sidecall_server.core.cycles import cyclic
from sidecall_server.core.plan import Plan, Step

EDGES = st.dictionaries(
    st.integers(0, 8), st.lists(st.integers(0, 8), min_size=1, max_size=3), max_size=9
)


class NaivePlan:
    """What `Plan` must do.

    Attributes:
        states: State of each call that was added.
        edges: What each call depends on.
        held: Calls that wait for the seal.
    """

    def __init__(self, mode: Mode, on_failure: OnFailure) -> None:
        self.states: dict[int, str] = {}
        self.edges: dict[int, set[int]] = {}
        self.held: set[int] = set()
        self.sealed = False
        self._mode = mode
        self._on_failure = on_failure

    def add(self, index: int, depends_on: Iterable[int], hold: bool) -> None:
        self.states[index] = "waiting"
        self.edges[index] = set(depends_on)
        if "stop fired" in self.states.values():
            self.states[index] = "stopped"
        elif hold and not self.sealed:
            self.held.add(index)
        self._settle()

    def seal(self) -> None:
        self.sealed = True
        self.held.clear()
        self._settle()

    def finish(self, index: int, ok: bool) -> None:
        stops = not ok and self._on_failure is OnFailure.STOP
        fires = stops and "stop fired" not in self.states.values()
        self.states[index] = "ok" if ok else "failed"
        self._fail_dependants()
        if fires:
            self.states[index] = "stop fired"
            for other, state in self.states.items():
                if state == "waiting":
                    self.states[other] = "stopped"
        self._settle()

    def _fail_dependants(self) -> None:
        for _ in self.states:
            for index, state in self.states.items():
                failed = ("failed", "dependency", "stop fired", "stopped")
                broken = any(self.states.get(d) in failed for d in self.edges[index])
                if state == "waiting" and broken:
                    self.states[index] = "dependency"

    def _settle(self) -> None:
        self._fail_dependants()
        able = [
            index
            for index, state in sorted(self.states.items())
            if state == "waiting"
            and index not in self.held
            and all(self.states.get(d) == "ok" for d in self.edges[index])
        ]
        if self._mode is Mode.PARALLEL:
            self.states.update(dict.fromkeys(able, "ready"))
        elif able and "ready" not in self.states.values():
            # Until the seal an earlier call may still come, or be held.
            done = all(
                self.states.get(earlier, "waiting") != "waiting" for earlier in range(able[0])
            )
            if self.sealed or done:
                self.states[able[0]] = "ready"


class Pair:
    """A plan and its model, which must agree after every event."""

    def __init__(self, mode: Mode, on_failure: OnFailure) -> None:
        self.plan = Plan(mode, on_failure)
        self.model = NaivePlan(mode, on_failure)
        self.states: dict[int, str] = {}

    def take(self, step: Step | None) -> None:
        """Takes note of what the plan said, and compares."""
        step = step or Step()
        named = [*step.ready, *(index for index, _ in step.failed_dependency), *step.stopped]
        assert len(named) == len(set(named))
        for index in named:
            assert self.states[index] == "waiting"
        for index, culprit in step.failed_dependency:
            assert culprit in self.model.edges[index]
        self.states.update(dict.fromkeys(step.ready, "ready"))
        self.states.update((index, "dependency") for index, _ in step.failed_dependency)
        self.states.update(dict.fromkeys(step.stopped, "stopped"))
        expected = self.model.states
        assert self.states == {
            i: "failed" if state == "stop fired" else state for i, state in expected.items()
        }

    def add(self, index: int, depends_on: list[int], hold: bool) -> None:
        self.states[index] = "waiting"
        self.model.add(index, depends_on, hold)
        self.take(self.plan.add(index, depends_on, hold=hold))

    def add_all(self, count: int, edges: dict[int, list[int]]) -> None:
        self.states = dict.fromkeys(range(count), "waiting")
        self.model.sealed = True
        for index in range(count):
            self.model.states[index] = "waiting"
            self.model.edges[index] = set(edges.get(index, ()))
        self.model._settle()
        self.take(self.plan.add_all(count, edges))

    def seal(self) -> None:
        self.model.seal()
        self.take(self.plan.seal())

    def finish(self, index: int, ok: bool) -> None:
        self.states[index] = "ok" if ok else "failed"
        self.model.finish(index, ok)
        self.take(self.plan.finish(index, ok))

    @property
    def ready(self) -> list[int]:
        return [index for index, state in sorted(self.states.items()) if state == "ready"]


@given(
    count=st.integers(0, 9),
    edges=EDGES,
    mode=st.sampled_from(Mode),
    on_failure=st.sampled_from(OnFailure),
    data=st.data(),
)
@settings(max_examples=300)
def test_a_batch_that_is_known_as_a_whole(
    count: int,
    edges: dict[int, list[int]],
    mode: Mode,
    on_failure: OnFailure,
    data: st.DataObject,
) -> None:
    edges = {i: [d for d in deps if d < count] for i, deps in edges.items() if i < count}
    members = cyclic(edges)
    pair = Pair(mode, on_failure)
    pair.add_all(count, {i: deps for i, deps in edges.items() if deps and i not in members})
    while pair.ready:
        pair.finish(data.draw(st.sampled_from(pair.ready)), data.draw(st.booleans()))

    assert "waiting" not in pair.states.values()
    assert mode is Mode.PARALLEL or len(pair.ready) <= 1


@given(
    edges=EDGES,
    order=st.permutations(range(7)),
    held=st.sets(st.integers(0, 6)),
    mode=st.sampled_from(Mode),
    on_failure=st.sampled_from(OnFailure),
    data=st.data(),
)
@settings(max_examples=300)
def test_a_turn_whose_calls_arrive_while_others_end(
    edges: dict[int, list[int]],
    order: list[int],
    held: set[int],
    mode: Mode,
    on_failure: OnFailure,
    data: st.DataObject,
) -> None:
    edges = {i: [d for d in deps if d < len(order)] for i, deps in edges.items()}
    members = cyclic(edges)
    pair = Pair(mode, on_failure)
    todo = list(order)
    while todo or pair.ready or not pair.model.sealed:
        if pair.ready and (not todo or data.draw(st.booleans())):
            pair.finish(data.draw(st.sampled_from(pair.ready)), data.draw(st.booleans()))
        elif todo:
            index = todo.pop(0)
            depends_on = [] if index in members else edges.get(index, [])
            pair.add(index, depends_on, index in held)
        else:
            pair.seal()

    assert "waiting" not in pair.states.values()
