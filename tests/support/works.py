"""Tools whose runs are counted by a key, and a store in a dict: for calls that are sent again."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.support.engines import ToolRaisedError, bound

from sidecall_server.core.call import Call, ToolCall
from sidecall_server.core.outcome import Outcome
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.records import Record, Scope
from sidecall_server.core.tool import Effects

EFFECTS = {
    "read": Effects.READ_ONLY,
    "put": Effects.IDEMPOTENT,
    "write": Effects.NON_IDEMPOTENT,
}
"""The tools and what they change."""


class Works:
    """What the tools do: each call has an argument `key`, and runs until its door is opened.

    Attributes:
        started: Keys of the runs that were started, in order.
        running: Runs that go on at this moment, by key.
        peak: Most runs of one key that went on at a time.
        cancelled: Keys of the runs that were cancelled, in order.
        outcomes: What runs end with, by key; the default is the text "did KEY".
        failing: Keys whose runs raise.
    """

    def __init__(self, *opened: str) -> None:
        self.started: list[str] = []
        self.running: Counter[str] = Counter()
        self.peak = 0
        self.cancelled: list[str] = []
        self.outcomes: dict[str, Outcome] = {}
        self.failing: set[str] = set()
        self._doors: dict[str, asyncio.Event] = {}
        self.open(*opened)

    def open(self, *keys: str) -> None:
        """Lets runs end, also before they start."""
        for key in keys:
            self._door(key).set()

    def shut(self, *keys: str) -> None:
        """Has the next runs wait."""
        for key in keys:
            self._door(key).clear()

    @property
    def counts(self) -> Counter[str]:
        """How often each key was started."""
        return Counter(self.started)

    def tools(self, **spec: Any) -> list[BoundTool]:
        """The tools `read`, `put` and `write`."""
        return [bound(name, self, effects=effects, **spec) for name, effects in EFFECTS.items()]

    async def __call__(self, call: Call) -> Outcome | str:
        """Runs a call."""
        key = str(call.arguments["key"])
        self.started.append(key)
        self.running[key] += 1
        self.peak = max(self.peak, self.running[key])
        try:
            await self._door(key).wait()
        except asyncio.CancelledError:
            self.cancelled.append(key)
            raise
        finally:
            self.running[key] -= 1
        if key in self.failing:
            raise ToolRaisedError(f"{key} failed")
        return self.outcomes.get(key, f"did {key}")

    def _door(self, key: str) -> asyncio.Event:
        return self._doors.setdefault(key, asyncio.Event())


def to(tool: str, key: str, call_id: str = "", **fields: Any) -> ToolCall:
    """A call of one of the tools; `arguments` are added to the key."""
    arguments = {"key": key, **fields.pop("arguments", {})}
    return ToolCall(call_id or key, tool, json.dumps(arguments), **fields)


class DictStore:
    """A RecordStore that keeps what was flushed in a dict.

    Attributes:
        committed: What survives, by scope.
        pending: What was put and not flushed.
        puts: Everything that was put, in order.
        flushes: Flushes that were asked for.
        touched: Scopes that were said to be used, in order.
        in_use: Tells which are in use.
        is_readable: Whether `load` works.
        is_writable: Whether `flush` works.
        gate: What flushes wait for.
    """

    def __init__(self, committed: dict[Scope, dict[int, Record]] | None = None) -> None:
        self.committed = {} if committed is None else committed
        self.pending: dict[Scope, dict[int, Record]] = {}
        self.puts: list[tuple[Scope, int, Record]] = []
        self.flushes = 0
        self.touched: list[Scope] = []
        self.in_use: Callable[[], Iterable[Scope]] = tuple
        self.is_readable = True
        self.is_writable = True
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, scope: Scope) -> Mapping[int, Record] | None:
        """See RecordStore."""
        await asyncio.sleep(0)
        if not self.is_readable:
            return None
        return {**self.committed.get(scope, {}), **self.pending.get(scope, {})}

    def touch(self, scope: Scope) -> None:
        """See RecordStore. Nothing expires here."""
        self.touched.append(scope)

    def keep_in_use(self, in_use: Callable[[], Iterable[Scope]]) -> None:
        """See RecordStore."""
        self.in_use = in_use

    def put(self, scope: Scope, index: int, record: Record) -> None:
        """See RecordStore."""
        self.puts.append((scope, index, record))
        self.pending.setdefault(scope, {})[index] = record

    async def flush(self) -> bool:
        """See RecordStore."""
        self.flushes += 1
        await self.gate.wait()
        if self.is_writable:
            self.commit()
        return self.is_writable

    def commit(self) -> None:
        """Has all that is pending survive."""
        for scope, records in self.pending.items():
            self.committed.setdefault(scope, {}).update(records)
        self.pending = {}

    def survivor(self) -> "DictStore":
        """The store that the next process finds."""
        return DictStore({scope: dict(records) for scope, records in self.committed.items()})

    async def close(self) -> None:
        """See RecordStore."""
        self.commit()
