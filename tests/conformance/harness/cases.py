"""Cases as the files hold them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

CASES = Path(__file__).resolve().parents[1] / "cases"

_SHARED = {"proves", "kind", "ways", "faults", "expect"}
_MEMBERS = {
    "chat": {*_SHARED, "tools", "options", "approvals", "runs", "model", "sidecar", "signals"},
    "batch": {*_SHARED, "steps", "sidecar"},
    "host": {*_SHARED, "steps", "sidecar"},
}
_EXPECTED = {
    "chat": {"runs", "sidecar", "executed", "cancelled", "rpcs"},
    "batch": {"steps", "sidecar", "executed", "rpcs"},
    "host": {"attach"},
}


_PLAIN_TURN = {"text", "calls", "piece_chars", "piece_bytes"}


class CaseError(ValueError):
    """A case is not written as it should be."""


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways in which a case is run.

    Attributes:
        name: Its name, for example "responses-early".
        api: The model's API.
        stream: Whether answers are streamed.
        early_start: Whether calls are sent while the model writes.
    """

    name: str
    api: str = ""
    stream: bool = False
    early_start: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Options of a chat."""
        chosen: dict[str, Any] = {"api": self.api}
        if self.stream:
            chosen["stream"] = True
        if self.early_start:
            chosen["early_start"] = True
        return chosen


_APIS = ("chat_completions", "responses")
_CHAT_WAYS = {
    name: Way(name, api, stream, early)
    for api in _APIS
    for name, stream, early in (
        (api, False, False),
        (f"{api}-stream", True, False),
        (f"{api}-early", True, True),
    )
}
_WAYS: Mapping[str, Mapping[str, Way]] = {
    "chat": _CHAT_WAYS,
    "batch": {"unary": Way("unary"), "stream": Way("stream", stream=True)},
    "host": {"host": Way("host")},
}


@dataclass(frozen=True, slots=True)
class Case:
    """A case.

    Attributes:
        name: Its name.
        kind: "chat", "batch" or "host".
        data: What its file holds.
        recorded: Histories and requests to the model, by API; only chats have them.
        ways: The ways in which it is run.
    """

    name: str
    kind: str
    data: Mapping[str, Any]
    recorded: Mapping[str, Any]
    ways: tuple[Way, ...]

    @classmethod
    def read(cls, path: Path) -> "Case":
        """Reads a case.

        Raises:
            CaseError: The file is not one.
        """
        try:
            data = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise CaseError(f"{path.name}: {error}") from error
        kind = data.get("kind", "chat")
        _check(path, "the case", data, _MEMBERS[kind])
        _check(path, "expect", data["expect"], _EXPECTED[kind])
        known = _WAYS[kind]
        if unknown := set(data.get("ways", ())) - known.keys():
            raise CaseError(f"{path.name}: there is no way {sorted(unknown)}")
        ways = tuple(known[name] for name in data.get("ways", known))
        recorded_path = recording_of(path)
        recorded = json.loads(recorded_path.read_text()) if recorded_path.exists() else {}
        return cls(path.stem, kind, data, recorded, ways)

    @property
    def path(self) -> Path:
        """Its file."""
        return CASES / f"{self.name}.yaml"

    @property
    def is_plain(self) -> bool:
        """Whether any model server can play it: its turns are texts and calls with ids."""
        turns = self.data.get("model", ())
        calls = [call for turn in turns for call in turn.get("calls", ())]
        return (
            self.kind == "chat"
            and all(turn.keys() <= _PLAIN_TURN and _says_something(turn) for turn in turns)
            and all(call.get("id") for call in calls)
            and not any("cancel_after" in run for run in self.data["runs"])
            # Who asks for reasoning may get some that nobody has written down.
            and "include" not in self.data.get("options", {}).get("request", {})
        )


def recording_of(path: Path) -> Path:
    """The file that holds what was recorded of a case."""
    return path.with_suffix(".json")


def find_cases(patterns: Iterable[str] = ("*",)) -> list[Case]:
    """The cases whose names fit one of the patterns."""
    wanted = list(patterns)
    return [
        Case.read(path)
        for path in sorted(CASES.glob("*.yaml"))
        if any(fnmatch(path.stem, pattern) for pattern in wanted)
    ]


def _says_something(turn: Mapping[str, Any]) -> bool:
    return bool(turn.get("text") or turn.get("calls"))


def _check(path: Path, where: str, data: Mapping[str, Any], known: set[str]) -> None:
    if unknown := data.keys() - known:
        raise CaseError(f"{path.name}: {where} has no {', '.join(sorted(unknown))}")
