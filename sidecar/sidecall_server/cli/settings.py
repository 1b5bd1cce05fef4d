"""The options that settings come from."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import click
import docstring_parser

from sidecall_server.app import listen_addresses
from sidecall_server.cli.errors import SettingsError
from sidecall_server.config import ENV_PREFIX, OPTIONS, ConfigError, Settings, load
from sidecall_server.core.defaults import Limits

_F = TypeVar("_F", bound=Callable[..., Any])


def settings_options(function: _F) -> _F:
    """Adds an option for each field of `Settings` and `Limits`.

    Values stay text: `load` reads them as it reads the environment, with the same errors.
    """
    for table in (Limits, Settings):
        described = _descriptions(table)
        for item in reversed(fields(table)):
            if table is Limits or item.name in OPTIONS:
                function = _option(item.name, described[item.name], item.default)(function)
    return function


def checked_settings(flags: Mapping[str, Any]) -> Settings:
    """Settings of flags, environment, configuration file and defaults.

    Raises:
        ConfigError: A setting is wrong.
    """
    settings = load(flags)
    listen_addresses(settings)
    return settings


def read_settings(flags: Mapping[str, Any]) -> Settings:
    """As `checked_settings`, with the error of a command.

    Raises:
        SettingsError: A setting is wrong.
    """
    try:
        return checked_settings(flags)
    except ConfigError as error:
        raise SettingsError(str(error)) from None


def log_to_stderr(settings: Settings) -> None:
    """Configures logging."""
    logging.basicConfig(
        level=settings.log_level,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )


def _descriptions(table: type) -> dict[str, str]:
    parsed = docstring_parser.parse(table.__doc__ or "")
    return {item.arg_name: item.description or "" for item in parsed.params}


def _option(name: str, description: str, default: Any) -> Callable[[_F], _F]:
    bare = name.removesuffix("_s")
    many = isinstance(default, tuple)
    shown = " ".join(default) if many else f"{default:g}s" if name.endswith("_s") else default
    notes = [f"env: {ENV_PREFIX}{bare.upper()}"]
    if shown != "":
        notes.append(f"default: {shown}")
    if many:
        notes.append("repeatable")
    text = f"{' '.join(description.split())}  [{'; '.join(notes)}]"
    metavar = "DURATION" if name.endswith("_s") else "INTEGER" if isinstance(default, int) else None
    flag = f"--{bare.replace('_', '-')}"
    return click.option(flag, name, multiple=many, help=text, metavar=metavar)
