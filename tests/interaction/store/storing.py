"""A process that keeps records in a store; the parent kills it, or fills its disk.

It prints a line for each thing that the store confirmed.
"""

import asyncio
import resource
import sys
from pathlib import Path

from sidecall_server.core.outcome import Success
from sidecall_server.core.records import BATCH, Record, Scope, ScopeKind
from sidecall_server.store.errors import StoreError
from sidecall_server.store.keeper import StoreOptions
from sidecall_server.store.sqlite import SqliteStore

RETENTION_S = 3600


def scope(number: int) -> Scope:
    """The scope of a batch."""
    return Scope(ScopeKind.REQUEST, "someone", "", str(number))


def record(number: int, *, done: bool) -> Record:
    """The record of its call."""
    outcome = Success("x" * (number % 5000)) if done else None
    return Record(b"digest", started=True, outcome=outcome, attempts=1)


def say(*words: object) -> None:
    """Prints a line that is there even when the process is killed next."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def put_for_ever(store: SqliteStore, first: int, stride: int) -> None:
    """Puts batches; says `started N` and `done N` when that was confirmed."""
    number = first
    while True:
        store.put(scope(number), BATCH, Record(b"batch"))
        store.put(scope(number), 0, record(number, done=False))
        if await store.flush():
            say("started", number)
        store.put(scope(number), 0, record(number, done=True))
        if await store.flush():
            say("done", number)
        number += stride


async def fill_the_disk(store: SqliteStore, path: Path) -> None:
    """Commits, fails to while files may not grow, and commits again."""
    store.put(scope(0), 0, record(4999, done=True))
    say("before", await store.flush())
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(file.stat().st_size for file in path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    for number in range(1, 100):
        store.put(scope(number), 0, record(4999, done=True))
    say("during", await store.flush())
    say("in memory", len(await store.load(scope(5)) or {}))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    say("after", await store.flush())
    await store.close()


async def main(what: str, path: Path, first: int) -> None:
    """Does what the parent asks for."""
    try:
        store = await SqliteStore.open(StoreOptions(path, RETENTION_S))
    except StoreError as error:
        say("refused", error)
        return
    say("open")
    if what == "put":
        await asyncio.gather(*(put_for_ever(store, first + lane, 8) for lane in range(8)))
    elif what == "fill":
        await fill_the_disk(store, path)
    else:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
