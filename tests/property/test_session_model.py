"""Sessions against a dictionary that knows when everything was used."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.support.clock import FakeClock

from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import ExecutionState, Failure, Outcome, Reason, Success
from sidecall_server.engine.sessions import Sessions

RETENTION_S = 60
Action = tuple[str, Any, Any]
FAILED = Failure(Reason.TOOL_FAILED, "It failed.", ExecutionState.COMPLETED)

# Names that would be equal if they were only joined.
OWNERS = st.sampled_from([("", "a"), ("a", ""), ("a", "a"), ("aa", ""), ("a", "aa"), ("aa", "a")])
IDS = st.sampled_from(["a", "b", "aa"])
OUTCOMES = st.one_of(st.builds(Success, st.text(max_size=3)), st.just(FAILED))
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), OWNERS, st.lists(st.tuples(IDS, OUTCOMES), max_size=3)),
        st.tuples(st.just("find"), OWNERS, IDS),
        st.tuples(st.just("wait"), st.integers(1, 70), st.none()),
    ),
    max_size=40,
)


@given(ACTIONS)
def test_each_session_has_its_own_latest_results_for_its_time(actions: list[Action]) -> None:
    asyncio.run(check(actions))


async def check(actions: list[Action]) -> None:
    clock = FakeClock()
    sessions = Sessions(Limits(session_retention_s=RETENTION_S), clock)
    known: dict[tuple[str, str], dict[str, Outcome]] = {}
    used_ns: dict[tuple[str, str], int] = {}
    for kind, subject, what in actions:
        if kind == "wait":
            await clock.advance(subject)
        for owner in [o for o, at in used_ns.items() if clock.now_ns() - at >= RETENTION_S * 1e9]:
            del known[owner], used_ns[owner]
        if kind == "add":
            sessions.add(subject[0], subject[1], what)
            if what:
                known.setdefault(subject, {}).update(what)
        elif kind == "find":
            outcome = known.get(subject, {}).get(what)
            found = sessions.find(subject[0], subject[1], what)
            assert found is (outcome.reason if isinstance(outcome, Failure) else outcome)
        if kind != "wait" and subject in known:
            used_ns[subject] = clock.now_ns()
        assert sessions.statistics().sessions == len(known)
        assert sessions.statistics().results == sum(map(len, known.values()))
    sessions.stop()
