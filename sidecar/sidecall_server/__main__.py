"""`sidecall` and `python -m sidecall_server`: runs the command line and tells how it failed."""

import os
import sys

_INTERRUPTED = 130  # 128 and the number of the signal, as shells count
_NOBODY_READS = 1  # as click has it
_USAGE, _INTERNAL, _IO = 64, 70, 74

# What the extra `server` installs, by the names that are imported.
_SERVER_EXTRA = {
    "click",
    "grpc_health",
    "grpc_reflection",
    "jsonschema_rs",
    "rapidfuzz",
    "rich",
    "uvloop",
}


def main() -> int:
    """Runs the command line and returns its exit code; the last place for any error."""
    try:
        return _run()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return _NOBODY_READS
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _SERVER_EXTRA:
            return _fail(error, f"internal error: {_described(error)}", _INTERNAL)
        text = f"{error.name} is missing; install the service with pip install 'sidecall[server]'"
        return _fail(error, text, _USAGE)
    except OSError as error:
        _discard_output()
        return _fail(error, str(error), _IO)
    except Exception as error:
        return _fail(error, f"internal error: {_described(error)}", _INTERNAL)


def _run() -> int:
    from sidecall_server.cli import main as run  # noqa: PLC0415  inside of what explains errors

    try:
        return run()
    finally:
        # What cannot be written is told here, not in the interpreter's last breath.
        if sys.stdout is not None:
            sys.stdout.flush()


def _described(error: Exception) -> str:
    first_line = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first_line}"


def _fail(error: Exception, text: str, code: int) -> int:
    hint = ""
    if os.environ.get("SIDECALL_DEBUG"):
        import traceback  # noqa: PLC0415  only where it is wanted

        traceback.print_exception(error)
    elif code == _INTERNAL:
        hint = " (SIDECALL_DEBUG=1 shows the traceback)"
    if sys.stderr is not None:
        sys.stderr.write(f"sidecall: {text}{hint}\n")
    return code


def _discard_output() -> None:
    """Lets what is still buffered go nowhere: the interpreter would try to write it again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
