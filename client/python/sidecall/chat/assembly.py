"""Calls of a streamed turn, as they grow."""

from collections.abc import Iterable

from sidecall.chat.model import CallDone, CallReopened, HistoryItem, ModelCall, StreamPart


class CallSlot:
    """A call that the model is writing."""

    __slots__ = ("arguments", "call_id", "done", "extra", "name", "reported", "supported")

    def __init__(self, call_id: str = "", name: str = "", *, supported: bool = True) -> None:
        self.call_id = call_id
        self.name = name
        self.arguments = ""
        self.extra: HistoryItem = {}
        self.done = False
        self.supported = supported
        self.reported: ModelCall | None = None

    @property
    def call(self) -> ModelCall:
        """The call as it stands."""
        return ModelCall(self.call_id, self.name, self.arguments, self.supported)


class CallSlots:
    """The calls of one turn, in the order in which the model began them.

    A call is reported once it and all before it are done, so that calls are reported in
    the order that they have in the turn.
    """

    def __init__(self) -> None:
        self.slots: list[CallSlot] = []
        self._reopened = False

    def add(self, slot: CallSlot) -> None:
        """Begins a call."""
        self.slots.append(slot)

    def finish_all(self) -> None:
        """Marks all calls so far as done."""
        for slot in self.slots:
            slot.done = True

    def report(self) -> Iterable[StreamPart]:
        """Returns what is new. After a call was reopened, nothing is reported any more."""
        if self._reopened:
            return
        for slot in self.slots:
            if slot.reported is not None:
                if slot.reported != slot.call:
                    self._reopened = True
                    yield CallReopened()
                    return
            elif slot.done:
                slot.reported = slot.call
                yield CallDone(slot.call)
            else:
                return


def merge_extra(target: HistoryItem, extra: HistoryItem | None) -> None:
    """Adds a provider's own fields of a delta: texts grow, other values are replaced."""
    for key, value in (extra or {}).items():
        present = target.get(key)
        if isinstance(value, str) and isinstance(present, str):
            target[key] = present + value
        elif isinstance(value, dict) and isinstance(present, dict):
            merge_extra(present, value)
        elif value is not None:
            target[key] = dict(value) if isinstance(value, dict) else value
