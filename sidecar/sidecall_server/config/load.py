"""Settings: flag before environment before file before default. The only place that reads them."""

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from sidecall._durations import MAX_DURATION_S
from sidecall_server.config.errors import ConfigError
from sidecall_server.config.file import NO_FILE, read_config_file
from sidecall_server.config.policies import PolicyTable
from sidecall_server.config.settings import (
    DEFAULT_DRAIN_S,
    OPTIONS,
    STOP_S,
    Origin,
    Settings,
)
from sidecall_server.config.values import read_setting
from sidecall_server.core.defaults import Limits

ENV_PREFIX = "SIDECALL_"

_GRACE_PERIOD = "TERMINATION_GRACE_PERIOD_SECONDS"
_EXIT_MARGIN_S = 0.5


def load(flags: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Combines flags, environment, configuration file and defaults.

    Args:
        flags: Values by the names of `Settings` and `Limits`; None means not given.
        environ: The environment; that of the process where None.

    Raises:
        ConfigError: A value is wrong.
    """
    return _Loader(flags, os.environ if environ is None else environ).settings()


class _Loader:
    """Chooses each setting and remembers where it comes from."""

    def __init__(self, flags: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self._flags = flags
        self._environ = environ
        self._origins: dict[str, Origin] = {}
        _, path = self._given("config")
        self._file = read_config_file(Path(path), environ) if path else NO_FILE

    def settings(self) -> Settings:
        defaults = Settings()
        chosen = {name: self._choose(name, getattr(defaults, name)) for name in OPTIONS}
        limits = {
            item.name: self._choose(item.name, getattr(defaults.limits, item.name))
            for item in fields(Limits)
        }
        if self._origins["drain_timeout_s"].kind == "default":
            chosen["drain_timeout_s"] = self._drain_default_s()
        groups = self._file.groups
        made = Settings(
            **chosen,
            limits=Limits(**limits),
            groups=groups,
            policies=PolicyTable(self._file.entries, tuple(groups)),
            hosted=self._file.hosted,
            files=self._file.files,
            origins={**self._origins, **self._file.part_origins},
        )
        if not made.listen:
            raise ConfigError(f"{made.where('listen')}: at least one address is needed")
        return _with_batch_limit(made)

    def _choose(self, name: str, default: Any) -> Any:
        origin, value = self._given(name)
        if origin.kind != "default":
            value = read_setting(name, origin.name, value, default)
        elif name in self._file.values:
            origin, value = self._file.values[name]
        else:
            value = default
        self._origins[name] = origin
        return value

    def _given(self, name: str) -> tuple[Origin, Any]:
        """The flag or variable that gives a setting, and its value."""
        option = name.removesuffix("_s")
        flag = self._flags.get(name)
        if flag is not None and flag != ():
            return Origin("flag", f"--{option.replace('_', '-')}"), flag
        variable = ENV_PREFIX + option.upper()
        if self._environ.get(variable):
            return Origin("environment variable", variable), self._environ[variable]
        return Origin(), None

    def _drain_default_s(self) -> float:
        """Derived from the pod's grace period where the environment tells it."""
        text = self._environ.get(_GRACE_PERIOD, "")
        if not text.isdecimal():
            return DEFAULT_DRAIN_S
        self._origins["drain_timeout_s"] = Origin("environment variable", _GRACE_PERIOD)
        return min(MAX_DURATION_S, max(0.0, float(text) - STOP_S - _EXIT_MARGIN_S))


def _with_batch_limit(settings: Settings) -> Settings:
    """A default gives way to a smaller bound of the sidecar; what was given does not."""
    limits = settings.limits
    if limits.max_batch_concurrency <= limits.max_concurrency:
        return settings
    if settings.origin("max_batch_concurrency").kind != "default":
        raise ConfigError(
            f"{settings.where('max_batch_concurrency')}: {limits.max_batch_concurrency} is more "
            f"than {settings.where('max_concurrency')}, {limits.max_concurrency}"
        )
    fitting = replace(limits, max_batch_concurrency=limits.max_concurrency)
    return replace(settings, limits=fitting)
