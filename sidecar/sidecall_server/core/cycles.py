"""Which calls of a batch wait for themselves."""

from collections.abc import Iterator, Mapping, Sequence

Edges = Mapping[int, Sequence[int]]
"""The calls that each call depends on, for those that have any."""


def cyclic(edges: Edges) -> set[int]:
    """The calls that lie on a cycle."""
    found: set[int] = set()
    for _ in find_cyclic(edges, found):
        pass
    return found


def find_cyclic(edges: Edges, found: set[int]) -> Iterator[None]:
    """Adds the calls that lie on a cycle to a set, in short steps."""
    if all(dependency < index for index, deps in edges.items() for dependency in deps):
        return
    for component in _Components(edges):
        if len(component) > 1 or (component and component[0] in edges[component[0]]):
            found.update(component)
        yield


class _Components:
    """Strongly connected components (Tarjan 1972), without recursion: batches are deep.

    Iterating gives an empty one where only a step was taken.
    """

    def __init__(self, graph: Edges) -> None:
        self._graph = graph
        self._order: dict[int, int] = {}
        self._low: dict[int, int] = {}
        self._stack: list[int] = []
        self._on_stack: set[int] = set()

    def __iter__(self) -> Iterator[list[int]]:
        for root in self._graph:
            if root not in self._order:
                yield from self._explore(root)

    def _explore(self, root: int) -> Iterator[list[int]]:
        path = [(root, self._enter(root))]
        while path:
            node, successors = path[-1]
            for successor in successors:
                if successor not in self._order:
                    path.append((successor, self._enter(successor)))
                    yield []
                    break
                if successor in self._on_stack:
                    self._low[node] = min(self._low[node], self._order[successor])
            else:
                path.pop()
                if path:
                    parent = path[-1][0]
                    self._low[parent] = min(self._low[parent], self._low[node])
                if self._low[node] == self._order[node]:
                    yield self._leave(node)

    def _enter(self, node: int) -> Iterator[int]:
        self._order[node] = self._low[node] = len(self._order)
        self._stack.append(node)
        self._on_stack.add(node)
        return (d for d in self._graph[node] if d in self._graph)

    def _leave(self, node: int) -> list[int]:
        component: list[int] = []
        while not component or component[-1] != node:
            component.append(self._stack.pop())
        self._on_stack.difference_update(component)
        return component
