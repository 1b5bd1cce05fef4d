"""`python -m sidecall_server` is the command `sidecall`."""

from sidecall_server.cli import main

if __name__ == "__main__":
    main()
