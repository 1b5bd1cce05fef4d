"""`sidecall check`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from sidecall_server.app import CheckedTool, check_tools
from sidecall_server.backends.loader import ToolLoadError
from sidecall_server.cli.errors import SettingsError
from sidecall_server.cli.output import (
    console,
    counted,
    plain_table,
    printable,
    tools_print_to_stderr,
)
from sidecall_server.cli.settings import load_settings, settings_options
from sidecall_server.config import OPTIONS, ConfigError, Settings


@click.command("check")
@settings_options
def command(**flags: Any) -> None:
    """Check settings and tools without serving.

    It takes what `serve` takes and prints the tools with the limits in force. Files of
    tools are imported; nothing of theirs is started. A mistake ends with exit code 64.
    """
    settings = load_settings(flags)
    try:
        with tools_print_to_stderr():
            tools = check_tools(settings)
    except (ConfigError, ToolLoadError) as error:
        raise SettingsError(str(error)) from None
    out = console()
    for file, defined in _by_file(tools).items():
        out.print(_relative(file))
        out.print(_tools_table(defined))
        out.print()
    out.print(_settings_table(settings))
    out.print(f"\nok: {counted(len(tools), 'tool')}, settings are right")


def _by_file(tools: Sequence[CheckedTool]) -> dict[str, list[CheckedTool]]:
    files: dict[str, list[CheckedTool]] = {}
    for tool in tools:
        files.setdefault(tool.location.rpartition(":")[0], []).append(tool)
    return files


def _tools_table(tools: Sequence[CheckedTool]) -> Table:
    rows = [
        (
            printable(tool.name),
            tool.location.rpartition(":")[2],
            tool.effects,
            str(tool.max_concurrency),
            f"{tool.timeout_s:g}s",
            f"{tool.queue_timeout_s:g}s",
        )
        for tool in tools
    ]
    return plain_table(("tool", "line", "effects", "at a time", "timeout", "queue timeout"), rows)


def _settings_table(settings: Settings) -> Table:
    values = {name: getattr(settings, name) for name in OPTIONS} | asdict(settings.limits)
    rows = [(name, _shown(name, value)) for name, value in values.items()]
    return plain_table(("setting", "value"), rows)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    return f"{value:g}s" if name.endswith("_s") else str(value)


def _relative(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
