"""What a sidecar is started with."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from sidecall_server.config.policies import PolicyTable
from sidecall_server.config.store_url import MEMORY
from sidecall_server.core.defaults import Limits
from sidecall_server.core.tool import Group

DEFAULT_LISTEN = ("127.0.0.1:50071",)
DEFAULT_DRAIN_S = 25.0

# What a stop may take after the drain where everything hangs, so that an orchestrator which
# gives its grace period and then kills finds the process ended. Servers get their seconds
# twice (streams to end, then handlers to clean up), attempts once, backends twice (threads,
# then lifespans) and half a second for lifespans that are cancelled, and the store and tasks
# that are left once.
SERVERS_STOP_S = 0.5
ATTEMPTS_STOP_S = 0.5
BACKENDS_STOP_S = 1.0
STORE_STOP_S = 0.2
TASKS_STOP_S = 0.3
STOP_S = (
    2 * SERVERS_STOP_S + ATTEMPTS_STOP_S + 2 * BACKENDS_STOP_S + 0.5 + TASKS_STOP_S + STORE_STOP_S
)
"""Seconds after the drain at which the process ends in any case."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a setting comes from.

    Attributes:
        kind: What gave it.
        name: The flag, the variable, or file and line; empty for a default.
        secret: Whether its value must not be shown.
    """

    kind: Literal["flag", "environment variable", "file", "default"] = "default"
    name: str = ""
    secret: bool = False

    def __str__(self) -> str:
        return self.name if self.kind == "file" else f"{self.kind} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Settings:
    """What a sidecar is started with.

    Attributes:
        config: Configuration file, in YAML.
        listen: Addresses of the API: `host:port` or `unix:/path`.
        health_listen: Further addresses that serve health checks alone; these need not be
            loopback.
        tools: Python files and modules whose tools are served. They replace those that the
            configuration file names.
        store: Where the outcomes of batches with a request id are kept: memory, or
            sqlite:///relative.db or sqlite:////absolute.db to outlive the process.
        drain_timeout_s: Seconds that running batches may take after SIGTERM.
        watch_interval_s: Seconds between two looks at the configuration file and the files of
            tools, which are loaded again when they have changed; 0 for never.
        log_level: What is logged at least: debug, info, warning, error or critical.
        limits: Bounds of the sidecar.
        groups: Limits that several tools share, by name.
        policies: What the configuration says about tools.
        hosted: Tools that applications are expected to offer, each with the application's name.
        files: All files that were read for these settings.
        origins: Where each setting comes from, by its name here or in `Limits`; parts of the
            configuration file too, by `limits.NAME` and `tools.SOURCE`.
    """

    config: str = ""
    listen: tuple[str, ...] = DEFAULT_LISTEN
    health_listen: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    store: str = field(default=MEMORY, repr=False)
    drain_timeout_s: float = DEFAULT_DRAIN_S
    watch_interval_s: float = 1.0
    log_level: str = "INFO"
    limits: Limits = field(default_factory=Limits)
    groups: Mapping[str, Group] = field(default_factory=dict)
    policies: PolicyTable = field(default_factory=PolicyTable)
    hosted: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)

    def origin(self, name: str) -> Origin:
        """Where a setting comes from."""
        return self.origins.get(name, Origin())

    def where(self, name: str) -> str:
        """The setting as the person who gave it knows it, for messages."""
        origin = self.origin(name)
        option = name.removesuffix("_s")
        if origin.kind == "file":
            return f"{origin.name}: {option}"
        return origin.name or f"--{option.replace('_', '-')}"

    def with_places(self, text: str, sources: Iterable[str]) -> str:
        """What is said about sources of tools, and where the configuration file names them."""
        if self.origin("tools").kind != "file":
            return text
        origins = {name: self.origins.get(f"tools.{name}") for name in sources}
        places = [origin.name for origin in origins.values() if origin is not None]
        return f"{text} ({', '.join(places)})" if places else text


OPTIONS = tuple(
    item.name
    for item in fields(Settings)
    if item.name not in ("limits", "groups", "policies", "hosted", "files", "origins")
)
"""Names of the settings that a flag or a variable can give, beside those in `Limits`."""
