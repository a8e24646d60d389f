"""FedBuff with real programs: participants that are slow, killed and back, and what the record of arrivals replays."""

import collections
import json
import os
import signal
import time

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from tests.federation import parties
from tests.federation.test_programs import (
    SILOS,
    Federation,
    local,
    place,  # noqa: F401 -- a fixture
    stable,
)

ROUNDS = 12
BUFFERED = [f"--rounds={ROUNDS}", "--buffer_size=2", "--max_staleness=8", "--rounds_per_evaluation=0"]
BUFFERED += ["--rounds_per_checkpoint=5"]


class Parties(Federation):
    """The parties, all of them forked."""

    def _start(self, name, command):
        self.parties.setdefault(name, None)
        return super()._start(name, command)

    def stop(self, name, number):
        os.kill(self.parties[name].process._process.pid, number)


def arrivals(run_dir):
    """The rounds that are in the record."""
    path = run_dir / "cohorts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def staleness(run_dir):
    """Of all reports."""
    return [record["round_num"] - 1 - version for record in arrivals(run_dir) for version in record["versions"]]


def wait_until(coordinator, is_so):
    deadline = time.monotonic() + 100
    while not is_so():
        assert time.monotonic() < deadline, coordinator.path.read_text()[-3000:]
        assert coordinator.process.poll() is None, coordinator.path.read_text()[-3000:]
        time.sleep(0.02)


@pytest.fixture
def federation(place):  # noqa: F811
    found = Parties(place)
    parties.make_kits(place / "certs", SILOS)
    yield found
    for name in {"north", "west"} & found.parties.keys():
        found.stop(name, signal.SIGCONT)
    found.close()


@pytest.mark.slow
def test_participants_come_and_go_and_the_record_of_their_arrivals_is_the_run(place, federation):  # noqa: F811
    """The west is slow (it stands still for some rounds), the south is killed and returns, then the coordinator."""
    run_dir = place / "runs" / "buffered"
    coordinator = federation.coordinate("runs/buffered", *BUFFERED)
    plan = coordinator.wait_for("^Plan (.*)$")
    for name in SILOS:
        federation.participate(name, plan)
    wait_until(coordinator, lambda: arrivals(run_dir))
    federation.stop("west", signal.SIGSTOP)
    first = len(arrivals(run_dir))
    wait_until(coordinator, lambda: len(arrivals(run_dir)) >= first + 3)  # nobody waits for it
    meanwhile = [client for record in arrivals(run_dir)[first : first + 3] for client in record["reported"]]
    assert sum(client.startswith("west/") for client in meanwhile) <= 2  # that were under way
    federation.parties["south"].kill()
    federation.stop("north", signal.SIGSTOP)  # or it might end the run before the west's update has come
    federation.stop("west", signal.SIGCONT)
    federation.participate("south", plan)
    wait_until(coordinator, lambda: len(arrivals(run_dir)) >= 6 and max(staleness(run_dir)) >= 2)
    federation.stop("north", signal.SIGCONT)
    coordinator.kill()
    coordinator = federation.coordinate("runs/buffered", *BUFFERED)
    assert coordinator.process.wait(100) == 0, coordinator.path.read_text()[-3000:]

    found, table = arrivals(run_dir), pd.read_csv(run_dir / "metrics.csv")
    assert [record["round_num"] for record in found] == [*range(1, ROUNDS + 1)]
    np.testing.assert_allclose(table["staleness/mean"], np.reshape(staleness(run_dir), [ROUNDS, 2]).mean(1))
    counts = collections.Counter(client.partition("/")[0] for record in found for client in record["reported"])
    assert all(counts[name] >= 1 for name in SILOS)
    assert table["staleness/max"].max() >= 1

    replay = [*BUFFERED, "--sampling=fixed", f"--cohorts={run_dir / 'cohorts.jsonl'}"]
    local(place, "runs/replayed", *replay)
    columns = [c for c in table if not c.startswith("time/")]
    pd.testing.assert_frame_equal(stable(place / "runs" / "replayed")[columns], stable(run_dir), rtol=1e-5, atol=1e-6)
    ours, theirs = (load_file(place / "runs" / name / "model/model.safetensors") for name in ("buffered", "replayed"))
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6)
