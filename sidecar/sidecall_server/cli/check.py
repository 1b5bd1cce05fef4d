"""`sidecall check`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from sidecall._loader import ToolLoadError
from sidecall._policy import ToolPolicy
from sidecall_server.checking import CheckedTool, check_store, check_tools
from sidecall_server.cli.errors import SettingsError
from sidecall_server.cli.output import (
    console,
    counted,
    plain_table,
    printable,
    tools_print_to_stderr,
)
from sidecall_server.cli.settings import read_settings, settings_options
from sidecall_server.config import OPTIONS, ConfigError, Settings
from sidecall_server.config.values import MASK, masked_url
from sidecall_server.config.written import duration_text, rate_value
from sidecall_server.core.tool import Group

_DAY_S = 24 * 3600.0
_MANY_DAYS = 3
_LEAST_S = 0.001
_MAX_TIME_CHARS = 9


@click.command("check")
@settings_options
def command(**flags: Any) -> None:
    """Check settings and tools without serving.

    It takes what `serve` takes, the configuration file too, and prints the tools with the
    limits in force. Files of tools are imported; nothing of theirs is started. The store is
    looked at, and may be in use. A mistake ends with exit code 64.
    """
    settings = read_settings(flags)
    tools = _checked(settings)
    out = console()
    if not tools:
        out.print("There are no tools: name files of tools with --tools, or have applications")
        out.print("attach and offer theirs.")
    for file, defined in _by_file(tools).items():
        out.print(_relative(file))
        out.print(_tools_table(defined))
        out.print()
    groups = _groups_table(settings.groups, tools) if settings.groups else None
    for table in (_policies_table(tools), groups):
        if table is not None:
            out.print(table)
            out.print()
    out.print(_settings_table(settings))
    warnings = settings.policies.warnings([tool.name for tool in tools])
    warnings += filter(None, map(_vain_retry, tools))
    out.print()
    for warning in warnings:
        out.print(f"warning: {printable(warning)}", soft_wrap=True)
    warned = f", {counted(len(warnings), 'warning')}" if warnings else ""
    out.print(f"ok: {counted(len(tools), 'tool')}, settings are right{warned}")


def _checked(settings: Settings) -> list[CheckedTool]:
    """The tools; raises SettingsError with the mistakes of tools and store."""
    mistakes: list[str] = []
    tools: list[CheckedTool] = []
    try:
        check_store(settings)
    except ConfigError as error:
        mistakes += error.mistakes
    try:
        with tools_print_to_stderr():
            tools = check_tools(settings)
    except ConfigError as error:
        mistakes += error.mistakes
    except ToolLoadError as error:
        mistakes.append(str(error))
    if mistakes:
        raise SettingsError(str(ConfigError(*mistakes)))
    return tools


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
            tool.policy.effects,
            str(tool.max_concurrency),
            _time(tool.timeout_s),
            _time(tool.queue_timeout_s),
        )
        for tool in tools
    ]
    return plain_table(("tool", "line", "effects", "at a time", "timeout", "queue timeout"), rows)


def _policies_table(tools: Sequence[CheckedTool]) -> Table | None:
    """What else is in force; None where nothing is."""
    said = {printable(tool.name): "; ".join(_policies(tool.policy)) for tool in tools}
    rows = [(name, printable(text)) for name, text in said.items() if text]
    return plain_table(("tool", "policies"), rows) if rows else None


def _policies(policy: ToolPolicy) -> Iterator[str]:
    """What else is in force for a tool, in a few words each."""
    if policy.approval == "required":
        yield "approval"
    if policy.isolation is not None:
        yield policy.isolation
    if policy.rate is not None:
        yield f"rate {_rate(policy.rate)}"
    if policy.limits:
        yield f"limits {' '.join(policy.limits)}"
    if policy.lane is not None:
        yield f"lane {policy.lane.template}"
    if policy.retry is not None:
        yield f"{policy.retry.max_attempts} attempts"
    if policy.breaker is not None:
        yield f"breaker at {policy.breaker.failure_ratio:.0%}"
    if policy.coalesce:
        yield "coalesce"
    if policy.cache_ttl_s is not None:
        yield f"cache {_time(policy.cache_ttl_s)}"
    if policy.max_result_bytes is not None:
        yield f"results {policy.large_result} at {policy.max_result_bytes} bytes"


def _groups_table(groups: Mapping[str, Group], tools: Sequence[CheckedTool]) -> Table:
    rows = [
        (
            printable(name),
            str(group.max_concurrency or "unbounded"),
            "unbounded" if group.rate is None else _rate(group.rate),
            str(sum(name in tool.policy.limits for tool in tools)),
        )
        for name, group in groups.items()
    ]
    return plain_table(("limit", "at a time", "rate", "tools"), rows)


def _rate(rate: Any) -> str:
    value = rate_value(rate)
    return value if isinstance(value, str) else f"{value['limit']} burst {value['burst']}"


def _settings_table(settings: Settings) -> Table:
    values = {name: getattr(settings, name) for name in OPTIONS} | asdict(settings.limits)
    values["store"] = MASK if settings.origin("store").secret else masked_url(settings.store)
    rows = [(name.removesuffix("_s"), _shown(value)) for name, value in values.items()]
    return plain_table(("setting", "value"), rows)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    return _time(value) if isinstance(value, float) else str(value)


def _time(seconds: float) -> str:
    """A duration for people: one that is absurd should look so."""
    if seconds >= _MANY_DAYS * _DAY_S:
        return f"{seconds / _DAY_S:.4g} days"
    if seconds < _LEAST_S:
        return f"{seconds * 1e6:.3g} us"
    text = duration_text(seconds)
    return text if len(text) <= _MAX_TIME_CHARS else f"{seconds:.4g}s"


def _vain_retry(tool: CheckedTool) -> str | None:
    """What is doubtful about a tool's retries; None where nothing is."""
    retry = tool.policy.retry
    if retry is None or retry.max_attempts == 1 or tool.policy.effects != "non_idempotent":
        return None
    place = tool.places.get("retry", tool.location)
    return (
        f"{place}: retry of {tool.name!r} never repeats what the tool itself fails with, since it "
        "is non_idempotent; only attempts that did not reach it are made again"
    )


def _relative(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
