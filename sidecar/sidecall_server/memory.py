"""Garbage collection of a process that is nothing but a sidecar."""

import gc

_YOUNG_OBJECTS = 20_000
_MIDDLE_COLLECTIONS = 20


def relax_garbage_collection() -> None:
    """Makes full garbage collections rare; call it once, when all tools are loaded.

    A batch of 10 000 calls makes enough objects to trigger one with Python's defaults, and
    it stalls the event loop for some 30 ms. What was loaded at the start is never garbage;
    batches break their own cycles and are freed by reference counting.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _MIDDLE_COLLECTIONS, _MIDDLE_COLLECTIONS)


def collect_replaced() -> None:
    """Frees what was loaded and then replaced: modules are cycles, those of the start frozen."""
    is_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.collect()
    if is_frozen:
        gc.freeze()
