"""Settings: flag before environment before default. The only place that reads either."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sidecall_server.core.defaults import Limits

ENV_PREFIX = "SIDECALL_"
DEFAULT_LISTEN = ("127.0.0.1:50071",)
_DEFAULT_DRAIN_S = 25.0

# What a stop may take after the drain where everything hangs, so that an orchestrator which
# gives its grace period and then kills finds the process ended. Servers get their seconds
# twice (streams to end, then handlers to clean up), attempts once, backends twice (threads,
# then lifespans) and half a second for lifespans that are cancelled, and tasks that are left
# once.
SERVERS_STOP_S = 0.5
ATTEMPTS_STOP_S = 0.5
BACKENDS_STOP_S = 1.0
TASKS_STOP_S = 0.5
STOP_S = 2 * SERVERS_STOP_S + ATTEMPTS_STOP_S + 2 * BACKENDS_STOP_S + 0.5 + TASKS_STOP_S
"""Seconds after the drain at which the process ends in any case."""

_EXIT_MARGIN_S = 0.5
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class ConfigError(Exception):
    """A setting is wrong; the text names it, and where it comes from."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a sidecar is started with.

    Attributes:
        listen: Addresses of the API: `host:port` or `unix:/path`.
        health_listen: Further addresses that serve health checks alone.
        tools: Python files and modules whose tools are served.
        drain_timeout_s: Seconds that running batches may take after SIGTERM.
        log_level: Name of a level of the standard library's logging.
        limits: Bounds of the sidecar.
    """

    listen: tuple[str, ...] = DEFAULT_LISTEN
    health_listen: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    drain_timeout_s: float = _DEFAULT_DRAIN_S
    log_level: str = "INFO"
    limits: Limits = field(default_factory=Limits)


def load(flags: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Combines flags, environment and defaults.

    Args:
        flags: Values by the names of `Settings` and `Limits`; None means not given.
        environ: The environment; that of the process where None.

    Raises:
        ConfigError: A value is wrong.
    """
    environ = os.environ if environ is None else environ
    settings = Settings(drain_timeout_s=_drain_default_s(environ))
    chosen = {
        item.name: _choose(item.name, getattr(settings, item.name), flags, environ)
        for item in fields(Settings)
        if item.name != "limits"
    }
    limits = {
        item.name: _choose(item.name, getattr(settings.limits, item.name), flags, environ)
        for item in fields(Limits)
    }
    if not chosen["listen"]:
        raise ConfigError("listen: at least one address is needed")
    return replace(settings, **chosen, limits=Limits(**limits))


def _drain_default_s(environ: Mapping[str, str]) -> float:
    """Derived from the pod's grace period where the environment tells it."""
    text = environ.get("TERMINATION_GRACE_PERIOD_SECONDS", "")
    if not text.isdigit():
        return _DEFAULT_DRAIN_S
    return max(0.0, float(text) - STOP_S - _EXIT_MARGIN_S)


def _choose(name: str, default: Any, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    flag = flags.get(name)
    if flag is not None and flag != ():
        return _read(f"--{name.removesuffix('_s').replace('_', '-')}", flag, default)
    variable = ENV_PREFIX + name.removesuffix("_s").upper()
    text = environ.get(variable)
    return default if text is None or text == "" else _read(variable, text, default)


def _read(where: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        return _strings(value)
    if isinstance(default, str):
        return str(value)
    if isinstance(default, float):
        return duration_s(where, value)
    try:
        number = int(value)
    except ValueError:
        raise ConfigError(f"{where}: {value!r} is not a whole number") from None
    if number < 1:
        raise ConfigError(f"{where}: must be at least 1")
    return number


def _strings(value: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value)


def duration_s(where: str, value: str | float) -> float:
    """Seconds of a number, or of text like `5s`, `250ms` or `2m`.

    Raises:
        ConfigError: It is none.
    """
    if isinstance(value, int | float):
        return float(value)
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ConfigError(f"{where}: {value!r} is not a duration like 5s, 250ms or 2m")
    return float(match[1]) * _UNITS[match[2] or "s"]
