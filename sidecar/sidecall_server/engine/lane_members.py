"""The calls of one batch that are in lanes, and what a failure there means for later ones."""

from dataclasses import dataclass

from sidecall_server.core import references
from sidecall_server.core.call import Arguments, Call
from sidecall_server.core.lane_order import LaneOrder
from sidecall_server.core.outcome import Failure, Outcome, Reason, not_started
from sidecall_server.policy.build import ToolPolicies


@dataclass(frozen=True, slots=True)
class LaneMember:
    """A call in a lane.

    Attributes:
        template: What its key is made from: the skeleton of its tool's template.
        key: Its key; None where it waited for a result when the batch was taken in.
        skips_rest: Whether its failure ends the later calls of its key.
    """

    template: str
    key: str | None
    skips_rest: bool


class LaneMembers:
    """Which calls come after which, and which of them must not run any more.

    Attributes:
        members: The calls, by position.
    """

    def __init__(self) -> None:
        self.members: dict[int, LaneMember] = {}
        # The first call that holds back the later ones, by key and by template, and why.
        self._by_key: dict[str, tuple[int, Failure]] = {}
        self._wild: dict[str, tuple[int, Failure]] = {}
        self._by_template: dict[str, tuple[int, Failure]] = {}

    def add(self, call: Call, policies: ToolPolicies) -> Arguments | None:
        """Takes a call whose tool has a lane.

        Returns:
            Its arguments as they stand, with defaults; None where they are malformed.
        """
        spec, lane = policies.spec.lane, policies.lane
        if spec is None or lane is None:
            raise AssertionError(f"{call!r} has no lane")
        values = policies.arguments.defaulted(call.request.arguments)
        key = None
        resolves = call.options.references and policies.spec.references
        waits = values is None or (
            resolves and any(_refers(values.get(name)) for name in lane.fields)
        )
        if values is not None and not waits:
            key = lane.of(values)
        self.members[call.index] = LaneMember(lane.skeleton, key, spec.skip_rest)
        return values

    def predecessors(self, index: int, order: LaneOrder) -> list[int]:
        """The calls that must be final before a call; to be asked in emitted order."""
        member = self.members.get(index)
        return [] if member is None else order.add(index, member.template, member.key)

    def ended(self, call: Call, outcome: Outcome) -> None:
        """Takes note of what became of a call."""
        member = self.members.get(call.index)
        if member is None or not isinstance(outcome, Failure):
            return
        if outcome.reason is Reason.APPROVAL_REQUIRED:
            why = Reason.APPROVAL_REQUIRED, "waits for a person's approval"
        elif member.skips_rest:
            why = Reason.STOPPED, "failed"
        else:
            return
        failure = not_started(
            why[0], f"Not run: the call @{call.index + 1}, which comes before it, {why[1]}."
        )
        key = member.key
        supervision = call.supervision
        if supervision is not None and supervision.lane_key is not None:
            key = supervision.lane_key
        first = (call.index, failure)
        if key is None:
            _note(self._wild, member.template, first)
        else:
            _note(self._by_key, key, first)
        _note(self._by_template, member.template, first)

    def held_back(self, index: int, key: str | None) -> Failure | None:
        """Why a call must not run that comes after one that failed; None where it may.

        Args:
            index: Its position.
            key: Its key; None where an argument is missing.
        """
        member = self.members.get(index)
        if member is None or not self._by_template:
            return None
        template = member.template
        found = (
            [self._by_template.get(template)]
            if key is None
            else [self._by_key.get(key), self._by_key.get(template), self._wild.get(template)]
        )
        return next((note[1] for note in found if note is not None and note[0] < index), None)


def _note(notes: dict[str, tuple[int, Failure]], name: str, first: tuple[int, Failure]) -> None:
    if name not in notes or first[0] < notes[name][0]:
        notes[name] = first


def _refers(value: object) -> bool:
    return next(references.find(value), None) is not None
