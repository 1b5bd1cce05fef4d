"""Keys of lanes: which calls must not run at the same time.

A key is text, and calls with equal keys share a lane whatever their tools are: the
templates "account:{account_id}" of one tool and "account:{from.id}" of another one speak
of the same accounts.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|([{}])")
_SORTED_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
_MISSING = object()
_BETWEEN = "\x1f"
_MAX_KEY_CHARACTERS = 256
_MAX_DECIMAL_BITS = 10_000  # Python refuses to write integers that are much longer


class LaneKey:
    """Makes the keys of one template.

    `{name}` stands for the argument of that name, `{user.id}` for a part of an object;
    `{{` and `}}` stand for braces. Strings stand as they are, so that text and numbers
    that read alike are equal: models write either. Numbers that are equal give one key.

    Attributes:
        fields: Names of the arguments that it reads.
        skeleton: The template without the names in it: templates that have it in common
            make the same keys of different arguments.
    """

    __slots__ = ("_head", "_parts", "fields", "skeleton")

    def __init__(self, template: str) -> None:
        """Reads a template; raises ValueError where it is malformed."""
        self._head, self._parts = _parse(template)
        self.fields = frozenset(path[0] for path, _, _ in self._parts)
        self.skeleton = self._head + "".join("{}" + literal for _, _, literal in self._parts)

    def of(self, arguments: Mapping[str, Any]) -> str | None:
        """The key of a call.

        None where an argument that the template names is missing: such a call counts as
        equal to every key of its skeleton, since nobody knows what it touches.
        """
        text = self._head
        for path, escapes, literal in self._parts:
            value = _follow(arguments, path)
            if value is _MISSING:
                return None
            part = _text_of(value)
            text += (part if escapes is None else part.translate(escapes)) + literal
        return text if len(text) <= _MAX_KEY_CHARACTERS else _shorten(text)


_Part = tuple[list[str], dict[int, str] | None, str]
"""A placeholder's path, what to escape in its value, and the text behind it."""


def _parse(template: str) -> tuple[str, list[_Part]]:
    """The text before the first placeholder, and the placeholders."""
    texts = [""]
    paths: list[list[str]] = []
    end = 0
    for match in _PIECE.finditer(template):
        texts[-1] += template[end : match.start()]
        end = match.end()
        if match[2]:
            raise ValueError(f"lane {template!r}: a single {match[2]!r}; write it twice")
        if match[1] is None:
            texts[-1] += match[0][0]
            continue
        path = match[1].split(".")
        if not all(path) or match[1].split() != [match[1]]:
            raise ValueError(f"lane {template!r}: {match[0]!r} names no argument")
        paths.append(path)
        texts.append("")
    texts[-1] += template[end:]
    parts: list[_Part] = []
    for path, text in zip(paths[:-1], texts[1:-1], strict=True):
        delimiter = text or _BETWEEN
        parts.append((path, _escapes(delimiter[0]), delimiter))
    # The last value ends where the text behind it begins, whatever it holds.
    parts.extend((path, None, texts[-1]) for path in paths[-1:])
    return texts[0], parts


def _follow(arguments: Mapping[str, Any], path: list[str]) -> Any:
    value: Any = arguments
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return _MISSING
        value = value[name]
    return value


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else _SORTED_JSON.encode(_normal(value))


def _normal(value: Any) -> Any:
    """A JSON value in which equal numbers are written alike."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and value.bit_length() > _MAX_DECIMAL_BITS:
        return hex(value)
    if isinstance(value, Mapping):
        return {key: _normal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_normal(item) for item in value]
    return value


def _escapes(delimiter: str) -> dict[int, str]:
    """What keeps a value apart from the next one: it must not hold what stands between."""
    mark, first, second = [character for character in "%+-=" if character != delimiter][:3]
    return {ord(mark): mark + first, ord(delimiter): mark + second}


def _shorten(text: str) -> str:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{text[:64]}...{digest}"
