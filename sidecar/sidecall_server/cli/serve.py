"""`sidecall serve`."""

import os
import signal
from typing import Any

import click
import uvloop

from sidecall_server.app import serve
from sidecall_server.backends.loader import ToolLoadError
from sidecall_server.cli.connection import stop_signals
from sidecall_server.cli.errors import SettingsError, StartError
from sidecall_server.cli.parent import tied_to_parent
from sidecall_server.cli.settings import load_settings, log_to_stderr, settings_options
from sidecall_server.config import ConfigError
from sidecall_server.transport.addresses import AddressError


@click.command("serve")
@settings_options
def command(**flags: Any) -> None:
    """Serve tools over gRPC until SIGTERM or SIGINT.

    On a signal, new batches are refused and running ones finish; a second signal answers
    them with what they have. A wrong setting or a file of tools that cannot be loaded
    ends with exit code 64 before anything is listened on.

    Every option can also be set in the environment. A duration is a number of seconds or
    text like 5s, 250ms or 2m.
    """
    settings = load_settings(flags)
    log_to_stderr(settings)
    if signal.SIGHUP in stop_signals():
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        with tied_to_parent():
            uvloop.run(serve(settings))
    except (ConfigError, ToolLoadError) as error:
        raise SettingsError(str(error)) from None
    except AddressError as error:
        raise StartError(str(error)) from None
