"""Whose turn it is: round the callers, then round each caller's batches."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall_server.core.call import BlockCause
from sidecall_server.policy.concurrency import Limiter, Rotation


@dataclass(eq=False)
class Party:
    """Something that takes turns: a tool of a batch of a caller."""

    caller: str
    batch: str
    tool: str = ""

    @property
    def turn_key(self) -> tuple[str, str]:
        return self.caller, f"{self.caller}/{self.batch}"


def turns(rotation: Rotation[Party], count: int) -> list[Party]:
    """Takes turns; whoever had one waits again."""
    taken = []
    for _ in range(count):
        party = rotation.pop()
        taken.append(party)
        rotation.push(party)
    return taken


def test_a_caller_with_many_batches_gets_no_more_turns_than_one_with_few() -> None:
    rotation: Rotation[Party] = Rotation()
    for number in range(9):
        rotation.push(Party("busy", f"b{number}"))
    rotation.push(Party("quiet", "b"))

    counts = Counter(party.caller for party in turns(rotation, 40))
    assert counts == {"busy": 20, "quiet": 20}


def test_a_callers_batches_take_turns() -> None:
    rotation: Rotation[Party] = Rotation()
    for batch, tool in [("1", "a"), ("1", "b"), ("1", "c"), ("2", "a")]:
        rotation.push(Party("me", batch, tool))

    taken = turns(rotation, 12)
    assert [party.batch for party in taken] == ["1", "2"] * 6
    assert [party.tool for party in taken if party.batch == "1"] == ["a", "b", "c"] * 2


def test_who_keeps_a_turn_is_next() -> None:
    rotation: Rotation[Party] = Rotation()
    first, second = Party("a", "1"), Party("b", "1")
    rotation.push(first)
    rotation.push(second)
    bounced = rotation.pop()
    rotation.push_front(bounced)

    assert rotation.pop() is first
    assert rotation.pop() is second


def test_a_party_can_leave_from_anywhere() -> None:
    rotation: Rotation[Party] = Rotation()
    parties = [Party("a", "1"), Party("a", "1"), Party("a", "2"), Party("b", "1")]
    for party in parties:
        rotation.push(party)
    rotation.remove(parties[1])
    rotation.remove(parties[2])

    assert rotation.count == 2
    assert [rotation.pop(), rotation.pop()] == [parties[0], parties[3]]
    with pytest.raises(KeyError):
        rotation.pop()
    with pytest.raises((KeyError, ValueError)):
        rotation.remove(parties[0])
    assert rotation.count == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=12))
def test_all_that_is_pushed_is_popped_once(keys: list[tuple[str, str]]) -> None:
    rotation: Rotation[Party] = Rotation()
    parties = [Party(*key) for key in keys]
    for party in parties:
        rotation.push(party)
    popped = [rotation.pop() for _ in parties]

    assert Counter(map(id, popped)) == Counter(map(id, parties))
    assert rotation.count == 0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=8),
    st.integers(1, 30),
)
def test_while_all_wait_nobody_gets_two_turns_more_than_another(
    keys: list[tuple[str, str]], count: int
) -> None:
    rotation: Rotation[Party] = Rotation()
    for key in keys:
        rotation.push(Party(*key))
    taken = turns(rotation, count)

    callers = Counter(party.caller for party in taken)
    per_caller = [callers[caller] for caller in {caller for caller, _ in keys}]
    assert max(per_caller) - min(per_caller) <= 1
    for caller in callers:
        batches = Counter(party.batch for party in taken if party.caller == caller)
        per_batch = [batches[batch] for owner, batch in set(keys) if owner == caller]
        assert max(per_batch) - min(per_batch) <= 1


def test_a_limiter_tells_its_state() -> None:
    limiter: Limiter[Party] = Limiter("api", BlockCause.TOOL_LIMIT, 3)
    limiter.active = limiter.peak = 2
    limiter.ring.push(Party("a", "1"))

    statistics = limiter.statistics()
    assert (statistics.limit, statistics.active, statistics.peak, statistics.waiting) == (
        3,
        2,
        2,
        1,
    )
