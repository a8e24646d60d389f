"""What a store of clients' own arrays knows of itself, and what a round of it costs."""

import os

import numpy as np
import pytest

from tff_tx.cohorts import ClientStore


def arrays(size):
    return [np.arange(size, dtype=np.float32)]


@pytest.mark.parametrize("seed", range(5))
def test_what_a_store_knows_is_what_is_on_the_disk(tmp_path, seed):
    """Through rounds that count, that are tried again, and resumes from checkpoints that lie further back."""
    rng, store, round_num, expected = np.random.default_rng(seed), ClientStore(str(tmp_path), 4), 0, [{}]
    newest = 0
    store.rewind(0)
    for _ in range(60):
        event = rng.choice(["counts", "fails", "resumes"], p=[0.7, 0.2, 0.1])
        if event == "resumes":
            round_num = max(0, newest - 3, round_num - int(rng.integers(3)))
            store = rng.choice([store, ClientStore(str(tmp_path), 4)])
            store.rewind(round_num)
            del expected[round_num + 1 :]
            continue
        own = {f"{k}": int(rng.integers(1, 9)) for k in rng.integers(12, size=3)}
        for client, size in own.items():
            store.write(client, round_num + 1, arrays(size))
        if event == "fails":
            store.rewind(round_num)
        else:
            round_num += 1
            newest = max(newest, round_num)
            expected.append({**expected[-1], **own})
        assert store.checksum(round_num) == ClientStore(str(tmp_path), 4).checksum(round_num)
        found = {str(k): store.read(str(k), round_num) for k in range(12)}
        assert {k: len(value[0]) for k, value in found.items() if value} == expected[-1]


def test_a_round_costs_what_its_own_clients_do(tmp_path, monkeypatch):
    looked_at = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: looked_at.append(path) or listdir(path))
    costs = []
    for population in (3, 30):
        store = ClientStore(str(tmp_path / f"{population}"), 2)
        for k in range(population):
            store.write(f"{k}", 0, arrays(2))
        store.rewind(0)
        looked_at.clear()
        for round_num in (1, 2):  # the first is tried twice
            for _ in range(3 - round_num):
                store.rewind(round_num - 1)
                for k in range(3):
                    store.read(f"{k}", round_num - 1)
                    store.write(f"{k}", round_num, arrays(2))
            store.checksum(round_num)
        costs.append(len(looked_at))
    assert costs[0] == costs[1] > 0
