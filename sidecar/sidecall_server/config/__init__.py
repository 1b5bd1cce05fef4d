"""Settings of a sidecar, and what the configuration says about its tools."""

from sidecall_server.config.errors import ConfigError
from sidecall_server.config.load import ENV_PREFIX, load
from sidecall_server.config.policies import PolicyEntry, PolicyTable
from sidecall_server.config.settings import (
    ATTEMPTS_STOP_S,
    BACKENDS_STOP_S,
    OPTIONS,
    SERVERS_STOP_S,
    STOP_S,
    STORE_STOP_S,
    TASKS_STOP_S,
    Origin,
    Settings,
)

__all__ = [
    "ATTEMPTS_STOP_S",
    "BACKENDS_STOP_S",
    "ENV_PREFIX",
    "OPTIONS",
    "SERVERS_STOP_S",
    "STOP_S",
    "STORE_STOP_S",
    "TASKS_STOP_S",
    "ConfigError",
    "Origin",
    "PolicyEntry",
    "PolicyTable",
    "Settings",
    "load",
]
