"""Settings and policies in force, as the text of a configuration file with comments."""

from collections.abc import Iterator, Sequence
from typing import Any

from sidecall._policy import field_of
from sidecall_server.checking import CheckedTool
from sidecall_server.cli.output import printable
from sidecall_server.config import Settings
from sidecall_server.config.file import file_settings
from sidecall_server.config.values import MASK, masked_url
from sidecall_server.config.written import duration_text, policy_values, rate_value, yaml_text

_BOUNDED = ("max_concurrency", "max_queue", "timeout", "queue_timeout")
"""Keys of policies for which the sidecar has a default."""


def config_lines(settings: Settings, tools: Sequence[CheckedTool]) -> Iterator[str]:
    """The lines of a file that says what is in force."""
    yield "# The values in force, and where each comes from."
    for key, (name, _) in file_settings().items():
        value = getattr(settings, name, None)
        if value is None:
            value = getattr(settings.limits, name)
        yield _line(key, _setting(settings, name, value), str(settings.origin(name)))
    yield from _tools_lines(settings)
    if settings.groups:
        yield "limits:"
    for name, group in settings.groups.items():
        given: dict[str, Any] = {}
        if group.max_concurrency is not None:
            given["max_concurrency"] = group.max_concurrency
        if group.rate is not None:
            given["rate"] = rate_value(group.rate)
        yield "  " + _line(yaml_text(name), given, str(settings.origin(f"limits.{name}")))
    if tools:
        yield "policies:"
    for tool in tools:
        yield f"  {yaml_text(tool.name)}:  # {printable(tool.location)}"
        for key, value in _policy_in_force(tool).items():
            yield "    " + _line(key, value, _policy_origin(settings, tool, key))


def _setting(settings: Settings, name: str, value: Any) -> Any:
    if name == "store":
        return MASK if settings.origin(name).secret else masked_url(value)
    return duration_text(value) if isinstance(value, float) else value


def _tools_lines(settings: Settings) -> Iterator[str]:
    origin = str(settings.origin("tools"))
    if not settings.tools and not settings.hosted:
        yield _line("tools", [], origin)
        return
    yield f"tools:  # {printable(origin)}"
    for source in settings.tools:
        yield f"  - python: {yaml_text(source)}"
    hosts = dict.fromkeys(settings.hosted.values())
    for host in hosts:
        tools = [tool for tool, name in settings.hosted.items() if name == host]
        yield f"  - host: {yaml_text({'name': host, 'tools': tools})}"


def _policy_in_force(tool: CheckedTool) -> dict[str, Any]:
    values = policy_values(tool.policy)
    values["max_concurrency"] = tool.max_concurrency
    values["max_queue"] = tool.max_queue
    values["timeout"] = duration_text(tool.timeout_s)
    values["queue_timeout"] = duration_text(tool.queue_timeout_s)
    return values


def _policy_origin(settings: Settings, tool: CheckedTool, key: str) -> str:
    said = getattr(tool.policy, field_of(key))
    if key in _BOUNDED and said is None:
        return _default_origin(settings, key)
    origin = "default"
    if key in tool.places:
        origin = tool.places[key]
    elif key in tool.policy.given:
        origin = f"declaration {tool.location}"
    if key == "max_concurrency" and said > tool.max_concurrency:
        origin += f" ({said}), at most half of what all tools share"
    return origin


def _default_origin(settings: Settings, key: str) -> str:
    origin = settings.origin(key if key.startswith("max_") else f"{key}_s")
    return "default" if origin.kind == "default" else f"{key} of {origin}"


def _line(key: str, value: Any, origin: str) -> str:
    return f"{key}: {yaml_text(value)}  # {printable(origin)}"
