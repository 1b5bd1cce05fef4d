"""`sidecall serve`."""

import os
import signal
from functools import partial
from typing import Any

import click
import uvloop

from sidecall._loader import ToolLoadError
from sidecall_server.app import serve
from sidecall_server.cli.connection import stop_signals
from sidecall_server.cli.errors import SettingsError, StartError
from sidecall_server.cli.parent import tied_to_parent
from sidecall_server.cli.settings import (
    checked_settings,
    log_to_stderr,
    read_settings,
    settings_options,
)
from sidecall_server.config import ConfigError
from sidecall_server.store.errors import StoreError, StoreInUseError
from sidecall_server.transport.addresses import AddressError


@click.command("serve")
@settings_options
def command(**flags: Any) -> None:
    """Serve tools over gRPC until SIGTERM or SIGINT.

    On a signal, new batches are refused and running ones finish; a second signal answers
    them with what they have. A wrong setting or a file of tools that cannot be loaded
    ends with exit code 64 before anything is listened on.

    SIGHUP, and a change of the configuration file or of a file of tools, puts tools,
    policies and limits in force as they are then: all of them, or none where one is
    wrong. Batches keep the tools that they began with. What tools import, and every other
    setting, stays until a restart. Where standard input is a terminal, SIGHUP means that
    the terminal is gone, and ends the sidecar as SIGTERM does.

    Every option can also be set in the environment. A duration is a number of seconds or
    text like 5s, 250ms or 2m.
    """
    reload_on = _reload_signals()
    settings = read_settings(flags)
    log_to_stderr(settings)
    try:
        with tied_to_parent():
            uvloop.run(serve(settings, partial(checked_settings, flags), reload_on))
    except (ConfigError, ToolLoadError) as error:
        raise SettingsError(str(error)) from None
    except (AddressError, StoreInUseError) as error:
        raise StartError(str(error)) from None
    except StoreError as error:
        raise SettingsError(f"{settings.where('store')}: {error}") from None


def _reload_signals() -> list[signal.Signals]:
    """Decides what SIGHUP means, and keeps it from ending the process until it is obeyed."""
    if not os.isatty(0):
        signal.signal(signal.SIGHUP, lambda *_: None)
        return [signal.SIGHUP]
    if signal.SIGHUP in stop_signals():
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    return []
