"""The order of all policies, written once.

Two kinds. *Admission* policies are synchronous state that the scheduler asks before an
attempt exists; a call passes them in the order of `ADMISSION`. *Layers* wrap one
admitted attempt; the first of `layers` sees the attempt first. What is not configured is
left out.
"""

from collections.abc import Sequence

from sidecall_server.core.ports import BoundTool, Handler, Layer

ADMISSION = (
    "tool",  # without its tool a call has no schema and no limits
    "references",  # values come before their validation
    "arguments",  # an invalid call must not wait, nor take a permit
    "queue",  # a full queue answers at once
    "permits",  # last: whoever holds one runs
)
"""Names of the admission policies in the order in which a call passes them."""


def stack(*layers: Layer) -> Layer:
    """Combines layers; the first sees the attempt first."""

    def wrap(handler: Handler) -> Handler:
        for layer in reversed(layers):
            handler = layer(handler)
        return handler

    return wrap


def layers(tool: BoundTool) -> Sequence[Layer]:
    """The layers of one tool, outermost first. No policy of this version needs one."""
    del tool
    return ()
