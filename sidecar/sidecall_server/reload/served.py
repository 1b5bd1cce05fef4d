"""The tools in force: loaded, replaced as a whole, and retired when nobody uses them."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sidecall._loader import ToolLoadError
from sidecall._modules import Modules, file_of
from sidecall._tool import Tool
from sidecall_server.backends.python import PythonBackend
from sidecall_server.backends.tool_specs import tool_spec
from sidecall_server.config import ConfigError, Settings
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.rejection import Rejection, RejectionReason
from sidecall_server.core.tool import Effects
from sidecall_server.engine.engine import Engine
from sidecall_server.hosts.host import Offer, expected_tool
from sidecall_server.hosts.pool import HostPool
from sidecall_server.memory import collect_replaced
from sidecall_server.reload.files import Identity, identify_all
from sidecall_server.reload.threads import in_thread

_log = logging.getLogger("sidecall.tools")

_START_S = 300.0
"""Seconds that new tools may take to start while others serve: one that hangs must not keep
its own repair from being loaded."""

_RETIRE_S = 30.0
"""Seconds that the lifespans of tools which nobody uses any more may take to end."""

_CANCELLED_S = 1.0
"""Seconds for what is cancelled after its grace."""


@dataclass(frozen=True, slots=True)
class _ToolSet:
    """Tools that were loaded together.

    Attributes:
        backend: Runs them.
        sources: Files and modules that they were loaded from.
        files: What those files were then.
    """

    backend: PythonBackend
    sources: tuple[str, ...]
    files: Mapping[Path, Identity | None]


class ServedTools:
    """The tools that the engine runs, and those that it ran before until nobody uses them.

    Attributes:
        bound: The tools in force.
    """

    def __init__(
        self, engine: Engine, hosts: HostPool, given: Sequence[Tool[..., Any]] = ()
    ) -> None:
        """Takes the engine, applications, and tools that are served whatever the settings say."""
        self._engine = engine
        self._given = given
        self._hosts = hosts
        self._own: Sequence[BoundTool] = ()
        self._settings: Settings | None = None
        hosts.on_change = self._on_hosts_changed
        hosts.on_forget = self._on_host_forgotten
        self._current: _ToolSet | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.bound: Sequence[BoundTool] = ()

    @property
    def retiring(self) -> int:
        """Sets of tools that were replaced and are still used."""
        return len(self._retiring)

    def statistics(self) -> Mapping[str, int]:
        """What the tools in force use: threads and processes."""
        return {} if self._current is None else self._current.backend.statistics()

    async def put_in_force(self, settings: Settings) -> None:
        """Serves the tools of some settings with their policies; all of it, or nothing changes.

        Code is loaded anew where files of tools have changed, or a tool moves from one way
        to run it to another. Otherwise the same tools go on with other policies.

        Raises:
            ToolLoadError: A tool cannot be loaded.
            ConfigError: A tool is declared wrongly, or its policy is wrong.
        """
        try:
            await self._put_in_force(settings)
        except ToolLoadError as error:
            raise ToolLoadError(settings.with_places(str(error), error.sources)) from error
        for warning in settings.policies.warnings([tool.spec.name for tool in self.bound]):
            _log.warning("%s", warning)
        made = self._current
        found = await in_thread(partial(_identified, settings))
        if made is not None and self._current is made:
            # Files of modules may be known only now.
            self._current = replace(made, files={**found, **made.files})

    async def _put_in_force(self, settings: Settings) -> None:
        files = await in_thread(partial(_identified, settings))
        current = self._current
        if current is not None and (current.sources, current.files) == (settings.tools, files):
            bound = current.backend.rebind(settings.policies.apply)
            if bound is not None:
                self._swap(bound, settings)
                return
        modules = Modules(anew=current is not None)
        backend = PythonBackend(
            settings.tools,
            self._engine.limits,
            self._engine.clock,
            self._given,
            settings.policies.apply,
            modules,
        )
        await self._start(backend, settings, None if current is None else _START_S)
        modules.keep()
        self._current = _ToolSet(backend, settings.tools, files)
        if current is not None:
            self._retire(current)

    async def _start(
        self, backend: PythonBackend, settings: Settings, timeout_s: float | None
    ) -> None:
        try:
            async with asyncio.timeout(timeout_s) as timeout:
                bound = await backend.start()
        except TimeoutError:
            if not timeout.expired():
                raise
            raise ToolLoadError(f"the tools had not started after {timeout_s:g} s") from None
        try:
            self._swap(bound, settings)
        except BaseException:
            await backend.discard()
            raise

    def _swap(self, own: Sequence[BoundTool], settings: Settings) -> None:
        """Puts the sidecar's own tools in force, and those of applications with them."""
        try:
            expected = [expected_tool(name, host) for name, host in settings.hosted.items()]
            offers = self._hosts.expected(expected, {tool.spec.name for tool in own})
            bound = self._exchange(own, offers.values(), settings)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self._hosts.keep(offers)
        self._own, self._settings = own, settings
        before, self.bound = self.bound, bound
        if before:
            _log.info("%s", _describe(before, bound, self._engine.registry.revision))

    def _exchange(
        self, own: Sequence[BoundTool], offers: Iterable[Offer], settings: Settings
    ) -> Sequence[BoundTool]:
        """Has the engine run these tools; all of it, or nothing changes.

        Raises:
            ConfigError: A policy does not fit its tool.
            ValueError: As `Engine.swap`.
        """
        hosted = [(offer, _hosted(offer, settings)) for offer in offers]
        bound = [*own, *(tool for _, tool in hosted)]
        self._engine.swap(bound, settings.groups)
        for offer, tool in hosted:
            offer.is_repeatable = tool.spec.effects is not Effects.NON_IDEMPOTENT
        return bound

    def _on_hosts_changed(self) -> None:
        """Puts what applications offer now in force.

        Raises:
            Rejection: A tool cannot be in force.
        """
        settings = self._settings
        if settings is None or self._stopping.done():
            return
        own = {tool.spec.name: tool for tool in self._own}
        for name, offer in self._hosts.offers.items():
            if name in own:
                raise Rejection(
                    RejectionReason.TOOL_NAME_TAKEN,
                    f"{name!r} is offered by {offer.tool.location}, and {own[name].source} has a "
                    "tool of that name already",
                    "tools",
                )
        try:
            bound = self._exchange(self._own, self._hosts.offers.values(), settings)
        except (ConfigError, ToolLoadError, ValueError) as error:
            raise Rejection(RejectionReason.REQUEST_INVALID, f"tools: {error}", "tools") from None
        before, self.bound = self.bound, bound
        if {tool.spec.name for tool in before} != {tool.spec.name for tool in bound}:
            _log.info("%s", _describe(before, bound, self._engine.registry.revision))

    def _on_host_forgotten(self) -> None:
        if self._settings is not None and not self._stopping.done():
            self._swap(self._own, self._settings)

    def _retire(self, old: _ToolSet) -> None:
        task = asyncio.create_task(self._stop_unused(old), name="sidecall-retiring-tools")
        self._retiring.add(task)
        task.add_done_callback(self._on_retired)

    def _on_retired(self, task: asyncio.Task[None]) -> None:
        self._retiring.discard(task)
        if not self._stopping.done():
            collect_replaced()

    async def _stop_unused(self, old: _ToolSet) -> None:
        unused = asyncio.create_task(self._engine.wait_open_ended())
        try:
            waits: set[asyncio.Future[Any]] = {unused, self._stopping}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            unused.cancel()
            await old.backend.stop(self._stopping.result() if self._stopping.done() else _RETIRE_S)

    async def stop(self, grace_s: float) -> None:
        """Ends all tools, each within about `grace_s` seconds. Idempotent."""
        if not self._stopping.done():
            self._stopping.set_result(grace_s)
        ends = set(self._retiring)
        current, self._current = self._current, None
        if current is not None:
            ends.add(asyncio.create_task(current.backend.stop(grace_s)))
        if ends:
            # Lifespans that were ending before have their own time, and not more than this.
            await asyncio.wait(ends, timeout=2 * grace_s + _CANCELLED_S)
        for task in self._retiring:
            task.cancel()


def _describe(before: Sequence[BoundTool], after: Sequence[BoundTool], revision: str) -> str:
    old, new = ({tool.spec.name for tool in tools} for tools in (before, after))
    parts = [f"{len(new)} tool{'' if len(new) == 1 else 's'} in force"]
    for word, names in (("added", new - old), ("removed", old - new)):
        if names:
            parts.append(f"{word}: {', '.join(sorted(names))}")
    return f"{'; '.join(parts)}; revision {revision}"


def _hosted(offer: Offer, settings: Settings) -> BoundTool:
    """A tool that applications offer, with the policy in force."""
    policy = settings.policies.apply(offer.tool)
    if policy.isolation is not None:
        where = settings.policies.places(offer.tool).get("isolation", offer.tool.location)
        raise ConfigError(
            f"{where}: tool {offer.tool.name!r}: an application runs it, so that it cannot have "
            f"isolation {policy.isolation!r}"
        )
    return BoundTool(tool_spec(offer.tool, policy), offer.run, None, offer.tool.location, offer)


def _identified(settings: Settings) -> dict[Path, Identity | None]:
    return identify_all(source_files(settings))


def source_files(settings: Settings) -> list[Path]:
    """The files that the tools of some settings are loaded from."""
    found = [file_of(name) for name in settings.tools]
    return [path for path in found if path is not None]
