"""Reads the sections `limits` and `policies` of a configuration file."""

from collections.abc import Mapping

from sidecall import _policy_values as written
from sidecall._policy import RESERVED_GROUPS, read_options
from sidecall_server.config.findings import Findings
from sidecall_server.config.policies import PolicyEntry, unknown_limit
from sidecall_server.config.settings import Origin
from sidecall_server.config.yaml_nodes import Node, Place
from sidecall_server.core.tool import Group, Rate

GROUP_KEYS = ("max_concurrency", "rate")

_GROUP_READERS: Mapping[str, written.Reader] = {
    "max_concurrency": written.whole(1),
    "rate": written.rate,
}


def read_groups(
    section: Node | None, findings: Findings
) -> tuple[dict[str, Group], dict[str, Origin]]:
    """The limits that tools share, and where they stand, by `limits.NAME`."""
    groups: dict[str, Group] = {}
    origins: dict[str, Origin] = {}
    for name, place, node in _entries("limits", section, findings):
        where = ("limits", name)
        values, problems = written.read_fields(node.plain(), _GROUP_READERS)
        _add_problems(where, node, problems, findings)
        if name in RESERVED_GROUPS:
            findings.add(place, f"limits.{name}: the sidecar has a limit of this name itself")
        elif not name.strip():
            findings.add(place, "limits: a name is empty")
        elif not node.value:
            findings.add(place, f"limits.{name}: must have max_concurrency, rate or both")
        # One that is wrong is there all the same: its name is not unknown.
        groups[name] = Group(values.get("max_concurrency"), _rate(values.get("rate")))
        origins[".".join(where)] = Origin("file", findings.at(place))
    return groups, origins


def read_policies(
    section: Node | None, groups: Mapping[str, Group], findings: Findings
) -> tuple[PolicyEntry, ...]:
    """What is said about tools, in the order of the file."""
    entries: list[PolicyEntry] = []
    for pattern, place, node in _entries("policies", section, findings):
        values, problems = read_options(node.plain())
        _add_problems(("policies", pattern), node, problems, findings)
        for index, name in enumerate(values.get("limits", ())):
            if name not in groups:
                text = f"policies.{pattern}.limits: {unknown_limit(name, groups)}"
                findings.add(node.value["limits"].value[index].place, text)
        places = {key: findings.at(key_place) for key, key_place in node.keys.items()}
        entries.append(PolicyEntry(pattern, values, findings.at(place), places))
    return tuple(entries)


def _entries(name: str, section: Node | None, findings: Findings) -> list[tuple[str, Place, Node]]:
    """The named mappings of a section, and where their names stand."""
    if section is None:
        return []
    if not isinstance(section.value, dict):
        findings.add(section.place, f"{name}: must be a mapping, not {section.kind}")
        return []
    found: list[tuple[str, Place, Node]] = []
    for key, node in section.value.items():
        if isinstance(node.value, dict):
            found.append((key, section.keys[key], node))
        else:
            findings.add(node.place, f"{name}.{key}: must be a mapping, not {node.kind}")
    return found


def _add_problems(
    where: tuple[str, ...], node: Node, problems: list[written.Problem], findings: Findings
) -> None:
    for problem in problems:
        path = (*where, *problem.path)
        place = node.place_at(problem.path, of_key=bool(problem.known))
        if problem.known:
            findings.unknown(place, path, problem.known)
        else:
            findings.add(place, f"{'.'.join(path)}: {problem.text}")


def _rate(rate: written.Rate | None) -> Rate | None:
    return None if rate is None else Rate(rate.count, rate.period_ns, rate.burst)
