"""References from a call's arguments to the results of other calls.

A whole string `$ref:ID` or `$ref:ID#/json/pointer` (RFC 6901) is replaced by a JSON
value; `${ref:ID#/path}` inside longer text by the value as text. `$$ref:` and `$${ref:`
are the escapes and lose one dollar sign. Everything else is left as it is.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_WHOLE = re.compile(r"(\$+)ref:([^\s#]+)(?:#(/.*)?)?", re.DOTALL)
# A run of dollar signs is looked at once: without the first two marks, a long one takes
# quadratic time.
_EMBEDDED = re.compile(r"(?<!\$)(\$++)\{ref:([^\s#{}]+)(?:#(/[^{}]*)?)?\}")
_ARRAY_INDEX = re.compile(r"0|[1-9][0-9]*")

REPEATED = -1
"""Stands for the position of an id or a name that several calls have."""


class UnresolvedError(LookupError):
    """A reference names nothing, something ambiguous, or a path that does not exist."""


class UnknownIdError(UnresolvedError):
    """A reference names no call of the turn."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference as it stands in an argument.

    Attributes:
        id: What it names: `@N`, a call's id or a tool's name.
        pointer: JSON Pointer into the result; empty for all of it.
    """

    id: str
    pointer: str = ""

    def __str__(self) -> str:
        return f"$ref:{self.id}#{self.pointer}" if self.pointer else f"$ref:{self.id}"


Lookup = Callable[[Reference], Any]
"""Gives the JSON value that a reference stands for."""


def may_hold_references(arguments: str) -> bool:
    """Whether JSON text could hold a reference or an escape; errs on the side of yes."""
    return "$" in arguments or "\\u" in arguments


def find(value: object) -> Iterator[Reference]:
    """Yields the references in a JSON value, in order of occurrence."""
    if isinstance(value, str):
        if "$" in value:
            yield from _find_in_text(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from find(item)
    elif isinstance(value, list):
        for item in value:
            yield from find(item)


def _find_in_text(text: str) -> Iterator[Reference]:
    whole = _WHOLE.fullmatch(text)
    if whole is not None:
        if len(whole[1]) == 1:
            yield Reference(whole[2], whole[3] or "")
        return
    for match in _EMBEDDED.finditer(text):
        if len(match[1]) == 1:
            yield Reference(match[2], match[3] or "")


def resolve(value: Any, lookup: Lookup) -> Any:
    """Returns the JSON value with its references replaced and its escapes undone.

    What `lookup` returns is data: it is not searched for references.
    """
    if isinstance(value, str):
        return _resolve_text(value, lookup) if "$" in value else value
    if isinstance(value, dict):
        return {key: resolve(item, lookup) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, lookup) for item in value]
    return value


def _resolve_text(text: str, lookup: Lookup) -> Any:
    whole = _WHOLE.fullmatch(text)
    if whole is not None:
        if len(whole[1]) > 1:
            return text[1:]
        return lookup(Reference(whole[2], whole[3] or ""))

    def replace(match: re.Match[str]) -> str:
        if len(match[1]) > 1:
            return match[0][1:]
        return as_text(lookup(Reference(match[2], match[3] or "")))

    return _EMBEDDED.sub(replace, text)


def escape(text: str) -> str:
    """Returns text that `resolve` turns into the given text."""
    if _WHOLE.fullmatch(text) is not None:
        return "$" + text
    return _EMBEDDED.sub(lambda match: "$" + match[0], text)


def as_text(value: object) -> str:
    """The text of a JSON value inside longer text: strings raw, the rest as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def follow(value: Any, pointer: str) -> Any:
    """Follows a JSON Pointer (RFC 6901) into a value.

    A string on the way that is itself the text of a JSON object or array is looked into:
    many tools return JSON text.

    Raises:
        UnresolvedError: The path does not exist; the message says where it ends.
    """
    if not pointer:
        return value
    done = ""
    for raw in pointer[1:].split("/"):
        token = raw.replace("~1", "/").replace("~0", "~")
        value = _step(_look_inside(value), token, done)
        done += "/" + raw
    return value


def _look_inside(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _step(value: Any, token: str, done: str) -> Any:
    here = f'at "{done}"' if done else "at the top"
    if isinstance(value, dict):
        if token in value:
            return value[token]
        keys = ", ".join(json.dumps(key, ensure_ascii=False) for key in list(value)[:10])
        more = ", ..." if len(value) > 10 else ""
        raise UnresolvedError(
            f"there is no key {token!r} {here}; keys there: {keys or 'none'}{more}"
        )
    if isinstance(value, list):
        if _ARRAY_INDEX.fullmatch(token) and len(token) < 19 and int(token) < len(value):
            return value[int(token)]
        raise UnresolvedError(f"no item {token!r} {here}; the array has {len(value)} items")
    kind = "null" if value is None else type(value).__name__
    raise UnresolvedError(f"the value {here} is a {kind}, which has no {token!r}")


class Names:
    """Finds the call that a reference means.

    An id is tried in this order: `@N` (the Nth call, from 1), a call's id, the name of a
    tool that is called once.
    """

    __slots__ = ("_by_id", "_by_tool", "_count")

    def __init__(self, calls: Sequence[tuple[str, str]] = ()) -> None:
        """Takes (id, tool name) of the calls in order."""
        self._by_id: dict[str, int] = {}
        self._by_tool: dict[str, int] = {}
        self._count = 0
        for index, (call_id, tool) in enumerate(calls):
            self.add(index, call_id, tool)

    def add(self, index: int, call_id: str, tool: str) -> None:
        """Takes note of one more call."""
        self._count = max(self._count, index + 1)
        if call_id:
            self._by_id[call_id] = REPEATED if call_id in self._by_id else index
        self._by_tool[tool] = REPEATED if tool in self._by_tool else index

    def position(self, call_id: str) -> int | None:
        """Position of the call with an id or at `@N`; None where only a tool's name could match.

        Raises:
            UnresolvedError: The id is repeated, or `@N` is out of range.
        """
        if call_id[:1] == "@" and call_id[1:].isascii() and call_id[1:].isdigit():
            number = int(call_id[1:]) if len(call_id) < 11 else 0
            if 1 <= number <= self._count:
                return number - 1
            calls = "1 call" if self._count == 1 else f"{self._count} calls"
            raise UnresolvedError(f"there is no call {call_id}; this turn has {calls}")
        index = self._by_id.get(call_id)
        if index == REPEATED:
            raise UnresolvedError(f"several calls have the id {call_id!r}; use @N, counted from 1")
        return index

    def find(self, call_id: str) -> int:
        """Position of the call that an id means.

        Raises:
            UnknownIdError: It means no call.
            UnresolvedError: It means several, or `@N` is out of range.
        """
        index = self.position(call_id)
        if index is not None:
            return index
        index = self._by_tool.get(call_id)
        if index is None:
            raise UnknownIdError(
                f"{call_id!r} is neither the id of a call of this turn nor the name of a tool "
                f"that it calls; use @1 to @{self._count} for a call by its position"
            )
        if index == REPEATED:
            raise UnresolvedError(
                f"the tool {call_id!r} is called several times in this turn; use @N, counted from 1"
            )
        return index
