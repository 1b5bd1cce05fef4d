"""References of one batch: which calls they mean, and the values they stand for."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json, to_json

from sidecall_server.core import references
from sidecall_server.core.call import Arguments, Call, ToolCall
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import Failure, Reason, Success, not_started
from sidecall_server.core.references import Names, Reference
from sidecall_server.policy.argument_text import ArgumentsError, parse
from sidecall_server.policy.build import ToolPolicies

Finder = Callable[[str], int]
"""Gives the position of the call that an id means; raises UnresolvedError."""

FindEarlier = Callable[[str], Success | Reason | None]
"""Gives the result of a call of an earlier turn by its id, or why it has none."""


class Resolver:
    """Finds and resolves the references of one batch.

    Attributes:
        names: The calls of the batch by id and name.
        values: Parsed arguments of the calls that hold references or escapes.
        results: Calls by position, for their outcomes.
    """

    __slots__ = (
        "_earlier",
        "_find_earlier",
        "_json",
        "_limits",
        "_resolved_bytes",
        "_tools",
        "names",
        "results",
        "values",
    )

    def __init__(
        self,
        results: dict[int, Call],
        tools: Mapping[str, ToolPolicies],
        limits: Limits,
        find_earlier: FindEarlier | None = None,
    ) -> None:
        self.names = Names()
        self.values: dict[int, Arguments] = {}
        self.results = results
        self._tools = tools
        self._limits = limits
        self._resolved_bytes = 0
        self._json: dict[int | str, Any] = {}
        self._find_earlier = find_earlier
        self._earlier: dict[str, Success] = {}

    def ids(self, call: Call) -> list[str]:
        """The ids that a call refers to or depends on, in order of occurrence."""
        request = call.request
        ids = list(request.depends_on)
        if self._enabled(call) and references.may_hold_references(request.arguments):
            try:
                values = parse(request.arguments, self._limits.max_argument_depth)
            except ArgumentsError:
                return ids  # reported when the call's turn has come
            ids += [reference.id for reference in references.find(values)]
            self.values[call.index] = values
        return ids

    def dependencies(self, call: Call, ids: list[str], find: Finder) -> list[int] | Failure:
        """Positions of the calls that ids mean, or why one of them means none.

        A call of an earlier turn of the session has no position; its result is kept here,
        whatever the session forgets meanwhile.
        """
        positions: list[int] = []
        for number, call_id in enumerate(ids):
            try:
                try:
                    positions.append(find(call_id))
                except references.UnknownIdError as error:
                    self._keep_earlier(call_id, error)
            except references.UnresolvedError as error:
                in_depends_on = number < len(call.request.depends_on)
                what = "depends_on" if in_depends_on else "A reference"
                return unresolved(call.request, str(error), what)
        return positions

    def _keep_earlier(self, call_id: str, error: references.UnknownIdError) -> None:
        if self._find_earlier is None:
            raise error
        if call_id in self._earlier:
            return
        result = self._find_earlier(call_id)
        if result is None:
            raise references.UnresolvedError(
                f"{error}; and no call with that id is remembered of the session's earlier turns: "
                "there was none, it was forgotten, or the session is over"
            )
        if isinstance(result, Reason):
            raise references.UnresolvedError(
                f"the call {call_id!r} of an earlier turn has no result ({result.name})"
            )
        self._earlier[call_id] = result

    def arguments(self, call: Call, *, keep: bool = False) -> Arguments | Failure | None:
        """A call's arguments with references resolved; None where it holds none.

        All calls that it refers to must have ended OK.

        Args:
            call: The call.
            keep: Whether they are asked for again.
        """
        index = call.index
        values = self.values.get(index) if keep else self.values.pop(index, None)
        if values is None:
            return None
        try:
            resolved: Arguments = references.resolve(values, self._lookup)
        except references.UnresolvedError as error:
            return unresolved(call.request, str(error))
        except (RecursionError, ValueError):
            return unresolved(
                call.request,
                "a result is nested too deeply, or holds a number with too many digits",
            )
        return resolved

    def _enabled(self, call: Call) -> bool:
        entry = self._tools.get(call.request.name)
        return call.options.references and (entry is None or entry.spec.references)

    def _lookup(self, reference: Reference) -> Any:
        key, outcome = self._find(reference)
        if reference.pointer:
            part = self._part(reference, key, outcome)
            text, is_json = (
                (part, False) if isinstance(part, str) else (to_json(part).decode(), True)
            )
        else:
            text, is_json = outcome.text, outcome.is_json
        self._count(reference, len(text))
        # A tool may change what it is given: each call gets a value of its own.
        return from_json(text) if is_json else text

    def _find(self, reference: Reference) -> tuple[int | str, Success]:
        earlier = self._earlier.get(reference.id)
        if earlier is not None:
            return reference.id, earlier
        index = self.names.find(reference.id)
        outcome = self.results[index].outcome
        if not isinstance(outcome, Success):
            raise references.UnresolvedError(f"{reference} has no result")
        return index, outcome

    def _part(self, reference: Reference, key: int | str, outcome: Success) -> Any:
        if key not in self._json:
            self._json[key] = from_json(outcome.text) if outcome.is_json else _read(outcome.text)
        try:
            return references.follow(self._json[key], reference.pointer)
        except references.UnresolvedError as error:
            raise references.UnresolvedError(f"{reference}: {error}") from None

    def _count(self, reference: Reference, size: int) -> None:
        """A few references to references would otherwise fill the memory."""
        self._resolved_bytes += size
        most = self._limits.max_resolved_bytes
        if self._resolved_bytes > most:
            raise references.UnresolvedError(
                f"{reference}: the values that the turn's references stand for take more than "
                f"{most} bytes together"
            )


def _read(text: str) -> Any:
    """The value of text that is a JSON object or array, or else the text."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return from_json(text)
        except ValueError:
            return text
    return text


def unresolved(request: ToolCall, why: str, what: str = "A reference") -> Failure:
    """The failure of a call of which a reference has no value, or what else means none."""
    # It quotes the reference and keys of a result, either of which may hold lone surrogates.
    quoted = why.encode("utf-8", "backslashreplace").decode()
    return not_started(
        Reason.REFERENCE_UNRESOLVED,
        f"{what} in the call of {request.name!r} cannot be resolved: {quoted}.",
    )
