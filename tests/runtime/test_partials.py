"""Leaves, the tree of their sums, and how workers share them; sums are strings, so that they show their order."""

import heapq
import random

import numpy as np
import pytest

from tff_tx.runtime.partials import Partials, Span, cut, path_to, shares, start_order


def expected(start, end):
    if end - start == 1:
        return str(start)
    middle = (start + end + 1) // 2
    return f"({expected(start, middle)}+{expected(middle, end)})"


@pytest.mark.parametrize("num_leaves", [1, 2, 3, 7, 16, 33])
def test_any_order_of_arrival_gives_the_same_sum(num_leaves):
    rng = random.Random(num_leaves)
    for _ in range(20):
        partials = Partials(num_leaves, lambda left, right: f"({left}+{right})")
        for leaf in rng.sample(range(num_leaves), num_leaves):
            partials.add(Span(leaf, leaf + 1), str(leaf))
        assert partials.sums == {Span(0, num_leaves): expected(0, num_leaves)}


def test_neighbours_in_one_place_leave_few_sums():
    """A run of n of N leaves is made of at most 2 log2(N) nodes, whatever n; here 2 * 10."""
    for start, end in [(1, 1023), (3, 700), (511, 513)]:
        partials = Partials(1024, lambda left, right: left + right)
        for leaf in range(start, end):
            partials.add(Span(leaf, leaf + 1), 1)
        assert len(partials.sums) <= 20
        assert sum(partials.sums.values()) == end - start
        for span in partials.sums:
            assert path_to(Span(0, 1024), span)[-1] == span


def test_a_small_cohort_is_a_leaf_a_client_the_most_expensive_first():
    leaves = cut([1.0, 5.0, 2.0, 5.0], most=10)
    assert [leaf.positions for leaf in leaves] == [(1,), (3,), (2,), (0,)]
    assert [leaf.cost for leaf in leaves] == [5.0, 5.0, 2.0, 1.0]


def test_a_large_cohort_is_cut_into_leaves_of_the_same_cost_but_for_giants():
    costs = [1.0] * 10_000
    costs[77] = 5000.0
    leaves = cut(costs, most=100)
    assert leaves[0].positions == (77,)
    assert len(leaves) <= 100
    assert sorted(p for leaf in leaves for p in leaf.positions) == list(range(10_000))
    assert max(leaf.cost for leaf in leaves[1:]) <= 102
    assert min(leaf.cost for leaf in leaves[1:]) >= 100


def test_free_clients_make_leaves_too():
    assert sorted(p for leaf in cut([0.0] * 7, most=3) for p in leaf.positions) == list(range(7))
    assert cut([], most=3) == []


def test_shares_are_runs_in_proportion_to_speed():
    assert shares([1.0] * 12, [1.0, 1.0, 2.0]) == [Span(0, 3), Span(3, 6), Span(6, 12)]
    assert shares([9.0, 1.0, 1.0, 1.0], [1.0, 1.0]) == [Span(0, 1), Span(1, 4)]
    assert shares([], [1.0]) == [Span(0, 0)]
    spans = shares([3.0, 2.0, 2.0], [1.0] * 5)
    assert [i for span in spans for i in range(span.start, span.end)] == [0, 1, 2]


def makespan(costs, threads, order):
    """When the last client ends, with three clients a thread under way or waiting to be added up, as in LocalEngine."""
    order, in_flight, at_work, turn, now = iter(order), {}, [], 0, 0.0
    while turn < len(costs):
        while len(in_flight) < 3 * threads:
            last = len(in_flight) == 3 * threads - 1 and turn not in in_flight
            position = turn if last else next((p for p in order if p >= turn and p not in in_flight), None)
            if position is None:
                break
            in_flight[position] = None
        for position in [p for p, end in in_flight.items() if end is None][: threads - len(at_work)]:
            in_flight[position] = now + costs[position]
            heapq.heappush(at_work, (in_flight[position], position))
        now, _ = heapq.heappop(at_work)
        while (end := in_flight.get(turn)) is not None and end <= now:
            del in_flight[turn]
            turn += 1
    return now


@pytest.mark.parametrize(("threads", "share"), [(1, 1.0), (2, 0.98), (8, 0.94)])
def test_threads_end_together_and_do_not_wait_behind_a_large_client(threads, share):
    """At costs that differ as much as e to the normal deviate; in the order of the cohort 0.91 and 0.69 are busy."""
    rng, busy, in_order = np.random.default_rng(threads), [], []
    for _ in range(20):
        costs = rng.lognormal(0, 1, 200)
        order = start_order(costs, threads)
        assert sorted(order) == list(range(200))
        least = max(sum(costs) / threads, max(costs))
        busy.append(least / makespan(costs, threads, order))
        in_order.append(least / makespan(costs, threads, range(200)))
    assert np.mean(busy) >= share - 1e-9
    assert np.mean(in_order) < share or threads == 1


def test_clients_that_cost_the_same_start_in_order():
    assert start_order([2.0] * 50, 2) == list(range(50))
    assert start_order([], 2) == []
