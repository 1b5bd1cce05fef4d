"""Reads the configuration file: everything in it, and everything that is wrong with it."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sidecall._errors import ToolDefinitionError
from sidecall._sources import is_path
from sidecall._tool import checked_name
from sidecall_server.config.errors import ConfigError
from sidecall_server.config.file_policies import read_groups, read_policies
from sidecall_server.config.findings import Findings
from sidecall_server.config.near import did_you_mean
from sidecall_server.config.policies import PolicyEntry
from sidecall_server.config.regular import read_regular
from sidecall_server.config.settings import OPTIONS, Origin, Settings
from sidecall_server.config.store_url import SQLITE
from sidecall_server.config.values import read_setting
from sidecall_server.config.yaml_nodes import MAX_BYTES, Node, NotYamlError, Place, read_yaml
from sidecall_server.core.defaults import Limits
from sidecall_server.core.tool import Group

TOOL_KINDS = ("python", "host")
"""The kinds of tools that a file can name."""

LATER_TOOL_KINDS = ("openapi", "http", "mcp", "command")
SECRET_SETTINGS = frozenset({"store"})
"""Settings that may stand in a file or a variable of their own."""

_NOTHING = Node(Place(0, 0), None)
_BARE_NUMBER = re.compile(r"\s*[0-9.]+\s*")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a configuration file says.

    Attributes:
        values: Origin and value of each setting, by the names of `Settings` and `Limits`.
        groups: Limits that several tools share, by name.
        part_origins: Where they stand, by `limits.NAME`, and tools, by `tools.SOURCE`.
        entries: What it says about tools.
        hosted: Tools that applications are expected to offer, each with the application's name.
        files: The file itself, and those of secrets.
    """

    values: Mapping[str, tuple[Origin, Any]] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    part_origins: Mapping[str, Origin] = field(default_factory=dict)
    entries: tuple[PolicyEntry, ...] = ()
    hosted: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


NO_FILE = ConfigFile()


def file_settings() -> dict[str, tuple[str, Any]]:
    """Name and default of each setting that a file may have, by its key there."""
    settings = Settings()
    named = {name: getattr(settings, name) for name in OPTIONS if name not in ("config", "tools")}
    named |= {item.name: getattr(settings.limits, item.name) for item in fields(Limits)}
    return {name.removesuffix("_s"): (name, default) for name, default in named.items()}


def read_config_file(path: Path, environ: Mapping[str, str]) -> ConfigFile:
    """Reads a file.

    Args:
        path: The file; what it names is relative to its folder.
        environ: Variables that secrets may stand in.

    Raises:
        ConfigError: It cannot be read, or something in it is wrong; all of that is told.
    """
    findings = Findings(str(path))
    try:
        root, mistakes = read_yaml(_text(path, findings))
    except NotYamlError as error:
        findings.mistakes.append(error.mistake)
        raise findings.error() from None
    findings.mistakes += mistakes
    made = _Reader(path, environ, findings).read(root)
    if findings.mistakes:
        raise findings.error()
    return made


def _text(path: Path, findings: Findings) -> str:
    data = read_regular(path, MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        findings.add(Place(line, error.start - data.rfind(b"\n", 0, error.start)), "is not UTF-8")
        raise findings.error() from None


class _Reader:
    """Reads the sections of one file."""

    def __init__(self, path: Path, environ: Mapping[str, str], findings: Findings) -> None:
        # Not resolved: a link that is swapped, as Kubernetes does, must lead to what it leads
        # to then.
        path = Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow links
        self._folder = path.parent
        self._environ = environ
        self._findings = findings
        self._files = [path]
        self._values: dict[str, tuple[Origin, Any]] = {}
        self._tool_origins: dict[str, Origin] = {}
        self._hosted: dict[str, str] = {}

    def read(self, root: Node | None) -> ConfigFile:
        """Reads it all; what is wrong is among the findings."""
        if root is None or root.value is None:
            return ConfigFile(files=tuple(self._files))
        if not isinstance(root.value, dict):
            self._findings.add(root.place, f"must be a mapping of settings, not {root.kind}")
            return NO_FILE
        settings = file_settings()
        sections: dict[str, Callable[[Node, Place], None]] = {"tools": self._read_tools}
        for key, node in root.value.items():
            if key in sections:
                sections[key](node, root.keys[key])
            elif key in settings:
                self._read_setting(key, *settings[key], node)
            elif key not in ("limits", "policies"):
                known = [*settings, *sections, "limits", "policies"]
                self._findings.unknown(root.keys[key], (key,), known)
        groups, origins = read_groups(root.value.get("limits"), self._findings)
        entries = read_policies(root.value.get("policies"), groups, self._findings)
        origins |= self._tool_origins
        return ConfigFile(self._values, groups, origins, entries, self._hosted, tuple(self._files))

    def _read_setting(self, key: str, name: str, default: Any, node: Node) -> None:
        if isinstance(default, tuple) and isinstance(node.value, list):
            self._read_addresses(key, name, node)
            return
        is_secret = name in SECRET_SETTINGS and isinstance(node.value, dict)
        written = self._secret(key, node) if is_secret else _checked(default, node)
        if isinstance(written, ConfigError):
            self._findings.add(node.place, f"{key}: {written}")
            return
        try:
            value = read_setting(name, key, written, default, secret=is_secret)
        except ConfigError as error:
            self._findings.add(node.place, str(error))
            return
        if name == "store" and value.startswith(SQLITE):
            value = SQLITE + str(self._folder / value.removeprefix(SQLITE))
        self._values[name] = (Origin("file", self._findings.at(node.place), is_secret), value)

    def _read_addresses(self, key: str, name: str, node: Node) -> None:
        addresses = []
        for number, item in enumerate(node.value):
            if isinstance(item.value, str):
                addresses.append(self._address(item.value))
            else:
                text = f"{key}[{number}]: must be an address, not {item.kind}"
                self._findings.add(item.place, text)
        self._values[name] = (Origin("file", self._findings.at(node.place)), tuple(addresses))

    def _address(self, text: str) -> str:
        path = text.removeprefix("unix:").removeprefix("//")
        return f"unix:{self._folder / path}" if text.startswith("unix:") and path else text

    def _secret(self, key: str, node: Node) -> str | ConfigError:
        """What a file or a variable says."""
        expected = "{file: path} or {env: NAME}"
        written = node.plain()
        ((kind, name),) = written.items() if len(written) == 1 else [("", None)]
        if kind not in ("file", "env") or not isinstance(name, str) or not name:
            return ConfigError(f"must be a value, {expected}")
        if kind == "env":
            value = self._environ.get(name, "")
            return value or ConfigError(f"the variable {name} is not set")
        path = self._folder / name
        self._files.append(path)
        try:
            return read_regular(path, MAX_BYTES).decode().rstrip("\r\n")
        except ConfigError as error:
            return error
        except UnicodeDecodeError:
            return ConfigError(f"{path}: is not UTF-8")

    def _read_tools(self, node: Node, place: Place) -> None:
        if not isinstance(node.value, list):
            self._findings.add(node.place, f"tools: must be a list, not {node.kind}")
            return
        named = [self._tool(f"tools[{number}]", item) for number, item in enumerate(node.value)]
        origin = Origin("file", self._findings.at(place))
        self._values["tools"] = (origin, tuple(name for name in named if name is not None))

    def _tool(self, where: str, node: Node) -> str | None:
        if not isinstance(node.value, dict) or len(node.value) != 1:
            what = f"{len(node.value)} keys" if isinstance(node.value, dict) else node.kind
            self._findings.add(
                node.place, f"{where}: must have exactly one kind, as in `python: tools.py`: {what}"
            )
            return None
        ((kind, source),) = node.value.items()
        if kind not in TOOL_KINDS:
            what = f"unknown kind{did_you_mean(kind, TOOL_KINDS)}"
            if kind in LATER_TOOL_KINDS:
                what = "this version has no tools of this kind"
            known = ", ".join(TOOL_KINDS)
            self._findings.add(node.keys[kind], f"{where}.{kind}: {what}; it has {known}")
            return None
        if kind == "host":
            self._expect(f"{where}.{kind}", source)
            return None
        if not isinstance(source.value, str) or not source.value.strip():
            self._findings.add(
                source.place, f"{where}.{kind}: must be a file or a module, not {source.kind}"
            )
            return None
        name = self._from_folder(source.value)
        self._tool_origins.setdefault(
            f"tools.{name}", Origin("file", self._findings.at(node.place))
        )
        return name

    def _expect(self, where: str, node: Node) -> None:
        """Reads the tools that an application is expected to offer."""
        written = node.value if isinstance(node.value, dict) else {}
        if unknown := written.keys() - {"name", "tools"}:
            for key in unknown:
                self._findings.unknown(node.keys[key], ("tools", "host", key), ["name", "tools"])
            return
        name, tools = (written.get(key, _NOTHING) for key in ("name", "tools"))
        if not isinstance(name.value, str) or not name.value.strip():
            self._findings.add(node.place, f"{where}: must have the name of an application")
            return
        if not isinstance(tools.value, list) or not tools.value:
            self._findings.add(node.place, f"{where}: must have a list of tools")
            return
        for number, item in enumerate(tools.value):
            at = f"{where}.tools[{number}]"
            if not isinstance(item.value, str):
                self._findings.add(item.place, f"{at}: must be a tool's name, not {item.kind}")
            elif item.value in self._hosted:
                self._findings.add(item.place, f"{at}: {item.value!r} stands twice")
            else:
                try:
                    self._hosted[checked_name(item.value)] = name.value
                except ToolDefinitionError as error:
                    self._findings.add(item.place, f"{at}: {error}")

    def _from_folder(self, name: str) -> str:
        relative = is_path(name) and not name.startswith("~")
        return str(self._folder / name) if relative else name


def _checked(default: Any, node: Node) -> Any:
    """The value where its type is right, else what is expected."""
    value = node.value
    if isinstance(default, tuple):
        expected = "a list of addresses"
    elif isinstance(default, float):
        expected = "a duration: seconds, or text like 5s"
        if isinstance(value, str) and _BARE_NUMBER.fullmatch(value) is None:
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
    elif isinstance(default, int):
        expected = "a whole number"
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    else:
        expected = "text"
        if isinstance(value, str):
            return value
    return ConfigError(f"must be {expected}, not {node.kind}")
