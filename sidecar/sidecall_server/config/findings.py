"""Collects what is wrong with a file."""

from collections.abc import Collection, Sequence

from sidecall_server.config.errors import ConfigError
from sidecall_server.config.near import did_you_mean
from sidecall_server.config.yaml_nodes import Mistake, Place

_MAX_LISTED = 20
_HEAD, _TAIL = 250, 100


class Findings:
    """What is wrong with one file.

    Attributes:
        mistakes: What is wrong, and where.
    """

    def __init__(self, name: str) -> None:
        """Takes the name of the file, for messages."""
        self._name = name
        self.mistakes: list[Mistake] = []

    def add(self, place: Place, text: str) -> None:
        """Adds what is wrong."""
        self.mistakes.append(Mistake(place, text))

    def unknown(self, place: Place, path: Sequence[str], known: Collection[str]) -> None:
        """Adds a key that does not exist."""
        hint = did_you_mean(path[-1], known)
        if not hint and len(known) <= _MAX_LISTED:
            hint = f"; known are {', '.join(known)}"
        self.add(place, f"{'.'.join(path)}: unknown key{hint}")

    def at(self, place: Place) -> str:
        """File and line of a place."""
        return f"{self._name}:{place.line}"

    def error(self) -> ConfigError:
        """All of them, in the order of the file."""
        return ConfigError(
            *(
                f"{self._name}:{place.line}:{place.column}: {_in_one_line(text)}"
                for place, text in sorted(set(self.mistakes))
            )
        )


def _in_one_line(text: str) -> str:
    """A message without what the file has too much of: its end says what was meant."""
    if len(text) > _HEAD + _TAIL:
        text = f"{text[:_HEAD]}...{text[-_TAIL:]}"
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
