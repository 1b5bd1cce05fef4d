"""The tie between a command and the sidecar that it starts: the one ends with the other.

The command holds one end of a pipe, the sidecar's stdin. However the command ends, the
system closes it.
"""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

FOLDER_VARIABLE = "SIDECALL_EMBEDDED_FOLDER"
"""Says that a sidecar is tied to its parent, and which folder it removes when that is gone."""


@contextmanager
def tied_to_parent() -> Iterator[None]:
    """Ends this process with SIGTERM when its parent is gone, where it is tied to it."""
    # Taken out: what tools start is tied to nobody.
    folder = os.environ.pop(FOLDER_VARIABLE, None)
    if folder is None:
        yield
        return
    # Moved away: tools find an empty stdin.
    pipe = os.dup(0)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    gone = threading.Event()
    threading.Thread(
        target=_watch, args=(pipe, folder, gone), name="sidecall-parent", daemon=True
    ).start()
    try:
        yield
    finally:
        if gone.is_set():
            # Again: one that was just starting has made it anew.
            shutil.rmtree(folder, ignore_errors=True)


def _watch(pipe: int, folder: str, gone: threading.Event) -> None:
    while os.read(pipe, 1):
        pass
    gone.set()
    # Before the signal, which may end the process where it stands.
    shutil.rmtree(folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
