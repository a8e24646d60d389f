"""Which clients are added up together, and in which order: the same wherever sums are computed. And who starts when.

Floating-point sums depend on their order. So that a round's result does not depend on how many processes it runs on,
the cohort is cut into leaves, each is added up client by client, and the leaves' sums are merged along one binary tree.
Leaves and tree follow from the cohort and what its clients cost alone; who computes which part of them is free.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple


class Span(NamedTuple):
    """A node of the tree: leaves from `start` to before `end`."""

    start: int
    end: int

    @property
    def children(self) -> tuple[Span, Span]:
        """The halves; the left one is the larger."""
        middle = (self.start + self.end + 1) // 2
        return Span(self.start, middle), Span(middle, self.end)

    def contains(self, other: Span) -> bool:
        """Whether another span lies within this one."""
        return self.start <= other.start and other.end <= self.end


@dataclasses.dataclass(frozen=True)
class Leaf:
    """Clients that are added up one after another, in one place.

    Attributes:
      positions: Theirs in the cohort.
      cost: What they are expected to cost together.
      silo: Which silo has their data; None: they can be read anywhere.
    """

    positions: tuple[int, ...]
    cost: float
    silo: str | None = None


def cut(costs: Sequence[float], most: int) -> list[Leaf]:
    """Cuts a cohort into leaves of about the same cost, `most` at most, the most expensive clients first.

    Costs of clients are in any unit, 0 or more; those that cost the same stay in the order of the cohort.
    """
    order = sorted(range(len(costs)), key=lambda position: -costs[position])
    rest = sum(costs)
    leaves, positions, cost = [], [], 0.0
    for done, position in enumerate(order, start=1):
        positions.append(position)
        cost += costs[position]
        places = most - len(leaves)
        # A share of what is left, as a client above the mean takes a leaf for itself.
        if len(order) <= most or done == len(order) or (places > 1 and cost * places >= rest):
            leaves.append(Leaf(tuple(positions), cost))
            rest -= cost
            positions, cost = [], 0.0
    return leaves


def shares(costs: Sequence[float], speeds: Sequence[float]) -> list[Span]:
    """Deals leaves of some costs to workers: to each a run of neighbours, whose cost is in proportion to its speed.

    Neighbours merge where they are: what leaves a worker then grows with the logarithm of its leaves only.
    """
    total, all_speeds = sum(costs), sum(speeds)
    spans, start, reached, wanted = [], 0, 0.0, 0.0
    for number, speed in enumerate(speeds, start=1):
        wanted += total * speed / all_speeds
        end = start
        while end < len(costs) and (number == len(speeds) or reached + costs[end] / 2 <= wanted):
            reached += costs[end]
            end += 1
        spans.append(Span(start, end))
        start = end
    return spans


def start_order(costs: Sequence[float], threads: int) -> list[int]:
    """The order in which a cohort starts, if it is added up in its own order: each client to end as its turn comes.

    With all threads at work, the turn of a client comes when it and those before it are done: at sum_{q <= p} c_q /
    threads. It starts its cost before that, so that small clients do not wait behind a large one, which would let
    either memory grow or threads idle. The last few start with the largest, so that threads end at about the same time.
    Costs are in any unit, 0 or more.
    """
    turns = itertools.accumulate(costs)
    starts = [turn / threads - cost for turn, cost in zip(turns, costs)]
    order = sorted(range(len(costs)), key=starts.__getitem__)
    last = 2 * threads
    return order[:-last] + sorted(order[-last:], key=lambda position: -costs[position])


class Partials:
    """Sums of spans of one round, held in one place; halves of a node are merged, left first, once both are there."""

    def __init__(self, num_leaves: int, merge: Callable[[Any, Any], Any]):
        self._root, self._merge = Span(0, num_leaves), merge
        self.sums: dict[Span, Any] = {}

    def add(self, span: Span, value: Any) -> None:
        """Adds a leaf's sum, or another node's."""
        path = path_to(self._root, span)
        self.sums[span] = value
        for node in reversed(path[:-1]):
            left, right = node.children
            if left not in self.sums or right not in self.sums:
                return
            self.sums[node] = self._merge(self.sums.pop(left), self.sums.pop(right))


def path_to(root: Span, span: Span) -> list[Span]:
    """The nodes from the root to one of the tree, both included."""
    path = [root]
    while path[-1] != span:
        path.append(next(child for child in path[-1].children if child.contains(span)))
    return path
