"""What the configuration says about tools, over what they declare themselves."""

import fnmatch
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sidecall._policy import ToolPolicy, contradictions, lane_problem, with_values
from sidecall._policy_values import Problem
from sidecall._tool import Tool
from sidecall_server.config.errors import ConfigError
from sidecall_server.config.near import did_you_mean

_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """One entry of `policies`.

    Attributes:
        pattern: Name of a tool, or a pattern with `*`, `?` or `[...]`.
        values: What its keys mean, by key.
        place: File and line of the entry.
        places: File and line of each key.
    """

    pattern: str
    values: Mapping[str, Any]
    place: str = ""
    places: Mapping[str, str] | None = None

    @property
    def is_pattern(self) -> bool:
        """Whether it may speak of several tools."""
        return not _WILD.isdisjoint(self.pattern)

    def matches(self, name: str) -> bool:
        """Whether it speaks of a tool."""
        return self.pattern == name or (self.is_pattern and fnmatch.fnmatchcase(name, self.pattern))

    def place_of(self, key: str) -> str:
        """File and line of a key."""
        return (self.places or {}).get(key, self.place)


@dataclass(frozen=True, slots=True)
class PolicyTable:
    """All entries of `policies`.

    Attributes:
        entries: The entries in the order of the file.
        groups: Names of the limits that tools may share.
    """

    entries: tuple[PolicyEntry, ...] = ()
    groups: tuple[str, ...] = ()

    def apply(self, tool: Tool[..., Any]) -> ToolPolicy:
        """The policy in force for a tool.

        Entries replace what the tool declares key by key: first those with patterns, in the
        order of the file, then the one with its name.

        Raises:
            ConfigError: What is in force contradicts itself, or names a limit or an argument
                that does not exist.
        """
        policy = tool.policy
        for entry in self._entries_for(tool.name):
            policy = with_values(policy, entry.values)
        problems = [*contradictions(policy), *self._unknown_limits(policy)]
        if problem := lane_problem(policy, tool.input_schema):
            problems.append(problem)
        if problems:
            places = self.places(tool)
            raise ConfigError(
                *(
                    f"{places.get(problem.path[0], tool.location)}: tool {tool.name!r}: {problem}"
                    for problem in problems
                )
            )
        return policy

    def places(self, tool: Tool[..., Any]) -> dict[str, str]:
        """File and line of each key that an entry sets for a tool."""
        return {
            key: entry.place_of(key)
            for entry in self._entries_for(tool.name)
            for key in entry.values
        }

    def warnings(self, names: Collection[str]) -> list[str]:
        """Says which entries match none of some tools, a line for each."""
        return [
            f"{entry.place}: policies: no tool matches {entry.pattern!r}"
            f"{did_you_mean(entry.pattern, names)}"
            for entry in self.entries
            if not any(map(entry.matches, names))
        ]

    def _unknown_limits(self, policy: ToolPolicy) -> Iterator[Problem]:
        for name in policy.limits:
            if name not in self.groups:
                yield Problem(("limits",), unknown_limit(name, self.groups))

    def _entries_for(self, name: str) -> Iterator[PolicyEntry]:
        exact = [entry for entry in self.entries if entry.pattern == name]
        for entry in self.entries:
            if entry.pattern != name and entry.matches(name):
                yield entry
        yield from exact


def unknown_limit(name: str, known: Collection[str]) -> str:
    """What is wrong with the name of a limit that does not exist."""
    hint = did_you_mean(name, known) or f"; there are {', '.join(known) or 'none'}"
    return f"the configuration has no limit {name!r}{hint}"
