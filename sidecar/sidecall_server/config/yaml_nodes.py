"""Reads YAML into nodes that know their lines: plain values only, of a bounded size."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 64
_MAX_NODES = 100_000
_MAX_DIGITS = 1_000
_MERGE = "<<"

# The core schema of YAML 1.2: `on` and `no` are text, and `1:30` is no number.
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
# Escapes can write them. No name of a file and no message can have them.
_NOT_TEXT = re.compile(r"[\x00\ud800-\udfff]")


class Place(NamedTuple):
    """Where something stands, counted from 1."""

    line: int
    column: int


class Mistake(NamedTuple):
    """What is wrong, and where."""

    place: Place
    text: str


class NotYamlError(Exception):
    """The text cannot be read any further.

    Attributes:
        mistake: Why, and where.
    """

    def __init__(self, place: Place, text: str) -> None:
        """Takes what is wrong."""
        super().__init__(text)
        self.mistake = Mistake(place, text)


@dataclass(slots=True)
class Node:
    """A value of the file.

    Attributes:
        place: Where it begins.
        value: A scalar, a list of nodes, or nodes by key.
        keys: Where the keys of a mapping stand.
        size: Number of nodes in it, itself too, aliases expanded.
    """

    place: Place
    value: Any
    keys: dict[str, Place] = field(default_factory=dict)
    size: int = 1

    @property
    def kind(self) -> str:
        """What it is, in messages."""
        kinds = {dict: "a mapping", list: "a list", type(None): "nothing"}
        return kinds.get(type(self.value), repr(self.value))

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def place_at(self, path: tuple[str, ...], *, of_key: bool = False) -> Place:
        """Where the value at a path of keys stands, or the last key of the path."""
        node = self
        for key in path[:-1]:
            node = node.value[key]
        if path[-1] not in node.keys:
            return node.place
        return node.keys[path[-1]] if of_key else node.value[path[-1]].place


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet; a key None merges."""

    node: Node
    anchor: str | None
    key: tuple[str | None, Place] | None = None
    merged: list[Node] = field(default_factory=list)


def read_yaml(text: str) -> tuple[Node | None, list[Mistake]]:
    """The document, None where it is empty, and what is wrong with it.

    Raises:
        NotYamlError: It cannot be read.
    """
    builder = _Builder()
    for event in _events(text):
        builder.take(event)
    return builder.root, builder.mistakes


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        loader: Any = yaml.SafeLoader(text)  # its methods have no types
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Place(before.count("\n") + 1, error.position - before.rfind("\n"))
        raise NotYamlError(
            place, f"the character {chr(error.character)!r} is not allowed"
        ) from None
    try:
        while loader.check_event():
            yield loader.get_event()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise NotYamlError(_place(mark), what) from None
    except (ValueError, OverflowError):
        # The scanner makes numbers of escapes and versions, however large they are.
        raise NotYamlError(
            _place(loader.get_mark()), "a number in an escape or a version is too large"
        ) from None


class _Builder:
    """Makes nodes of the parser's events, without recursion."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.mistakes: list[Mistake] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}

    def take(self, event: yaml.Event) -> None:
        place = _place(event.start_mark)
        if isinstance(event, yaml.DocumentStartEvent):
            if self.root is not None:
                raise NotYamlError(place, "a second document; one is expected")
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise NotYamlError(place, f"there is no anchor &{event.anchor} before this alias")
            self._add(self._anchors[event.anchor], place)
        elif isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event, place)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._refuse_tag(event, place)
            if len(self._open) >= _MAX_DEPTH:
                raise NotYamlError(place, f"nested more than {_MAX_DEPTH} deep")
            node = Node(place, {} if isinstance(event, yaml.MappingStartEvent) else [])
            self._open.append(_Open(node, event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()

    def _take_scalar(self, event: yaml.ScalarEvent, place: Place) -> None:
        self._refuse_tag(event, place)
        if (bad := _NOT_TEXT.search(event.value)) is not None:
            raise NotYamlError(place, f"the character {bad[0]!r} is not allowed")
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.node.value, dict) and top.key is None:
            is_merge = event.value == _MERGE and event.style is None
            top.key = (None if is_merge else event.value, place)
            return
        plain = event.style is None
        node = Node(place, _resolved(event.value, place) if plain else event.value)
        if event.anchor:
            self._anchors[event.anchor] = node
        self._add(node, place)

    def _refuse_tag(self, event: yaml.NodeEvent, place: Place) -> None:
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            self.mistakes.append(Mistake(place, f"the tag {tag} is not allowed: plain values only"))

    def _close(self) -> None:
        done = self._open.pop()
        for merged in done.merged:
            for key, node in merged.value.items():
                if key not in done.node.value:
                    done.node.value[key] = node
                    done.node.keys[key] = merged.keys[key]
        if done.anchor:
            self._anchors[done.anchor] = done.node
        self._add(done.node, done.node.place)

    def _add(self, node: Node, place: Place) -> None:
        if not self._open:
            self.root = node
            return
        top = self._open[-1]
        top.node.size += node.size
        if top.node.size > _MAX_NODES:
            raise NotYamlError(place, f"more than {_MAX_NODES} values, aliases expanded")
        if isinstance(top.node.value, list):
            top.node.value.append(node)
        elif top.key is None:
            raise NotYamlError(place, "a key must be text")
        else:
            (key, key_place), top.key = top.key, None
            self._put(top, key, key_place, node)

    def _put(self, top: _Open, key: str | None, place: Place, node: Node) -> None:
        if key is None:
            top.merged += self._mappings_to_merge(node, place)
        elif key in top.node.value:
            first = top.node.keys[key].line
            self.mistakes.append(Mistake(place, f"{key}: stands twice, first in line {first}"))
        else:
            top.node.value[key] = node
            top.node.keys[key] = place

    def _mappings_to_merge(self, node: Node, place: Place) -> Iterator[Node]:
        for item in node.value if isinstance(node.value, list) else [node]:
            if isinstance(item.value, Mapping):
                yield item
            else:
                self.mistakes.append(Mistake(place, f"{_MERGE}: takes mappings, not {item.kind}"))


def _resolved(text: str, place: Place) -> Any:
    """What a scalar without quotes means."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise NotYamlError(place, "a number is too long")
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    special = _NOT_FINITE.fullmatch(text)
    if special is not None:
        return float("nan" if special[1] is None else f"{special[1]}inf")
    return text


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)
