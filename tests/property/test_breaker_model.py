"""The circuit breaker against a version that remembers everything."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sidecall_server.core.outcome import ExecutionState, Failure, Outcome, Reason, Success
from sidecall_server.core.tool import Breaker
from sidecall_server.policy.breaker import BreakerState, CircuitBreaker

S = 1_000_000_000
GOOD = Success("fine")
BAD = Failure(Reason.TOOL_TIMEOUT, "It took too long.", ExecutionState.UNKNOWN)

SPECS = st.builds(
    Breaker,
    failure_ratio=st.sampled_from([0.1, 0.5, 0.9, 1.0]),
    min_attempts=st.integers(1, 6),
    window_s=st.sampled_from([1.0, 10.0]),
    open_s=st.sampled_from([0.5, 5.0, 60.0]),
    probes=st.integers(1, 3),
)


class BreakerModel(RuleBasedStateMachine):
    """Admits and ends calls in any order while time passes, and knows what must follow."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 1_000 * S
        self.spec: Breaker
        self.breaker: CircuitBreaker
        self.state = BreakerState.CLOSED
        self.opened_ns = 0
        self.good_probes = 0
        self.probe: int | None = None
        self.seen: list[tuple[int, bool]] = []  # verdicts since it closed
        self.running: dict[int, int] = {}  # ticket of each call that runs
        self.current: set[int] = set()  # calls whose end counts
        self.calls = 0

    @initialize(spec=SPECS)
    def make(self, spec: Breaker) -> None:
        self.spec = spec
        self.breaker = CircuitBreaker(spec, "search")

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.95, 1.0, 5.0, 9.5, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_ns += round(seconds * S)

    @rule()
    def admit(self) -> None:
        may_start = self.state is BreakerState.CLOSED or (
            self.now_ns - self.opened_ns >= self.spec.open_s * S
            if self.state is BreakerState.OPEN
            else self.probe is None
        )
        assert (self.breaker.refusal(self.now_ns) is None) == may_start
        admitted = self.breaker.admit(self.now_ns)
        assert isinstance(admitted, int) == may_start
        if isinstance(admitted, Failure):
            assert admitted.retry_after_s is not None
            assert 0 < admitted.retry_after_s <= self.spec.open_s
            return
        call, self.calls = self.calls, self.calls + 1
        self.running[call] = admitted
        if self.state is BreakerState.OPEN:
            self.state, self.good_probes = BreakerState.HALF_OPEN, 0
        if self.state is BreakerState.HALF_OPEN:
            self.probe = call
        self.current.add(call)
        assert self.breaker.state is self.state

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from([GOOD, BAD, BAD, None]))
    def end(self, data: st.DataObject, outcome: Outcome | None) -> None:
        call = data.draw(st.sampled_from(sorted(self.running)))
        opened = self.breaker.ended(self.running.pop(call), outcome, self.now_ns)
        counts = call in self.current
        self.current.discard(call)
        if call == self.probe:
            self.probe = None
        if not counts or outcome is None:
            assert not opened
        elif self.state is BreakerState.HALF_OPEN:
            self.probe_ended(outcome is GOOD, opened)
        else:
            self.closed_ended(outcome is GOOD, opened)
        assert self.breaker.state is self.state

    def probe_ended(self, works: bool, opened: bool) -> None:
        assert opened is not works
        self.good_probes += works
        if not works:
            self.open()
        elif self.good_probes == self.spec.probes:
            self.state = BreakerState.CLOSED
            self.seen.clear()

    def closed_ended(self, works: bool, opened: bool) -> None:
        self.seen.append((self.now_ns, works))
        # A bucket of a tenth of the window is forgotten at once, so any edge between these
        # two may be the one that counts.
        window_ns = self.spec.window_s * S
        ages = [self.now_ns - when_ns for when_ns, _ in self.seen]
        edges = {age + 1 for age in ages if window_ns * 0.9 <= age + 1 <= window_ns}
        would_open = {
            not works and self.has_failed_enough(edge) for edge in (*edges, window_ns * 0.9)
        }
        assert opened in would_open
        if opened:
            self.open()

    def has_failed_enough(self, edge_ns: float) -> bool:
        young = [works for when_ns, works in self.seen if self.now_ns - when_ns < edge_ns]
        failures = young.count(False)
        return (
            len(young) >= self.spec.min_attempts
            and failures / len(young) >= self.spec.failure_ratio
        )

    def open(self) -> None:
        self.state, self.opened_ns = BreakerState.OPEN, self.now_ns
        self.current.clear()


TestBreakerModel = BreakerModel.TestCase


@given(spec=SPECS, pauses=st.lists(st.floats(0, 20), max_size=60))
def test_a_tool_that_always_fails_is_hardly_called(spec: Breaker, pauses: list[float]) -> None:
    """One call after the other: enough to open it, then one for each time that it was open."""
    breaker = CircuitBreaker(spec, "search")
    now_ns = 1_000 * S
    opened_at: list[int] = []
    starts: list[int] = []
    for pause_s in pauses:
        now_ns += round(pause_s * S)
        admitted = breaker.admit(now_ns)
        if isinstance(admitted, Failure):
            continue
        starts.append(now_ns)
        if opened_at:
            assert now_ns - opened_at[-1] >= spec.open_s * S
        if breaker.ended(admitted, BAD, now_ns):
            opened_at.append(now_ns)
        else:
            assert not opened_at
    if not opened_at:
        return
    quick = [start for start in starts if start - starts[0] < spec.window_s * S * 0.9]
    if len(quick) >= spec.min_attempts:
        assert opened_at[0] == starts[spec.min_attempts - 1]
    assert len(opened_at) - 1 <= (now_ns - opened_at[0]) / (spec.open_s * S)
