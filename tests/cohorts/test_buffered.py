"""The schedule of clients that do not wait for each other, by hand and by its laws."""

import collections

import numpy as np
import pytest

from tff_tx import cohorts
from tff_tx.cohorts import buffered as asynchrony
from tff_tx.cohorts import devices as participation
from tff_tx.cohorts.devices import Devices
from tff_tx.core.errors import UserError

IDS = [f"client{i}" for i in range(60)]
EXAMPLES = {c: 5 + i for i, c in enumerate(IDS)}


def schedule(devices=None, sample=None, examples=EXAMPLES, concurrency=12, buffer_size=4, max_staleness=100):
    return asynchrony.AsyncSchedule(
        sample or cohorts.uniform(IDS, concurrency + buffer_size - 1, 1),
        devices or Devices(seconds_per_example=1, speed_spread=1.0, dropout_rate=0.2, seed=1),
        concurrency=concurrency,
        buffer_size=buffer_size,
        max_staleness=max_staleness,
        num_examples=examples,
    )


def pairs(buffer):
    return [(arrival.client_id, arrival.version) for arrival in buffer.arrivals]


class TestByHand:
    """Clients a, b, c and d take 2, 3, 10 and 2 seconds; three work at a time; two reports make an update.

    At 0 a, b and c start. At 2 a reports, and d starts (a has a report in the buffer). At 3 b reports: update 1, and a
    starts. At 4 d reports, and b starts. At 5 a reports: update 2, and a starts again. At 7 b, who started first, and a
    report: update 3, and both start. At 9 a reports, and d starts. At 10 c, who has missed three updates, and b report.
    """

    EXPECTED = [([("a", 0), ("b", 0)], 3.0), ([("d", 0), ("a", 1)], 2.0), ([("b", 1), ("a", 2)], 2.0)]

    def run(self, max_staleness, rounds, **devices):
        line = schedule(
            Devices(seconds_per_example=1, **devices),
            sample=lambda number: list("abcd"),
            examples=dict(a=2, b=3, c=10, d=2),
            concurrency=3,
            buffer_size=2,
            max_staleness=max_staleness,
        )
        return [line.buffer(r) for r in range(1, rounds + 1)]

    def test_who_arrives_when_and_from_which_version(self):
        for buffer, (arrivals, seconds) in zip(self.run(1, 3), self.EXPECTED):
            assert (pairs(buffer), buffer.seconds, buffer.stale) == (arrivals, seconds, [])

    @pytest.mark.parametrize(
        ("max_staleness", "arrivals", "stale"), [(2, [("a", 3), ("b", 3)], ["c"]), (3, [("a", 3), ("c", 0)], [])]
    )
    def test_who_is_too_stale_is_thrown_away(self, max_staleness, arrivals, stale):
        last = self.run(max_staleness, 4)[-1]
        assert (pairs(last), last.stale, last.seconds) == (arrivals, stale, 3.0)

    def test_the_cohort_has_pairs_of_argument_and_staleness(self):
        line = schedule(
            Devices(seconds_per_example=1),
            sample=lambda number: list("abcd"),
            examples=dict(a=2, b=3, c=10, d=2),
            concurrency=3,
            buffer_size=2,
            max_staleness=2,
        )
        cohort_fn = asynchrony.build_cohort_fn(line, lambda ids, round_num: [(c, round_num) for c in ids])
        cohort = cohort_fn(4, 0, 7.0)
        assert cohort.reported == ["a", "b"]
        assert cohort.arguments == [(("a", 4), 0), (("b", 4), 0)]
        assert (cohort.selected, cohort.stragglers, cohort.seconds) == (["a", "b", "c"], ["c"], 3.0)
        # d started when round 1 was going on, and has missed that update.
        assert cohort_fn(2, 0, 3.0).arguments == [(("d", 1), 1), (("a", 2), 0)]
        with pytest.raises(UserError, match="lower cohort.min_clients"):
            cohort_fn(4, 1, 7.0)


def test_a_record_is_replayed_with_its_versions_and_who_did_not_count(tmp_path):
    line = schedule(max_staleness=2)
    path = str(tmp_path / cohorts.LOG)
    with cohorts.CohortLog(str(tmp_path)) as log:
        for number in range(1, 21):
            cohort = asynchrony.build_cohort_fn(line, lambda ids, r: ids)(number)
            lists = cohort.selected, cohort.reported, cohort.dropped, cohort.stragglers
            log.append(number, 0, *lists, seconds=cohort.seconds, versions=cohort.versions)
    assert [asynchrony.RecordedSchedule(path, 2).buffer(number) for number in range(1, 21)] == [
        line.buffer(number) for number in range(1, 21)
    ]
    assert any(line.buffer(number).stale for number in range(1, 21))
    with pytest.raises(UserError, match=r"line \d+: a report is staler than cohort.max_staleness=1: raise it"):
        asynchrony.RecordedSchedule(path, 1)
    with cohorts.CohortLog(str(tmp_path)) as log:
        log.append(1, 0, ["a"], ["a"])
    with pytest.raises(UserError, match="line 1: has no version of the model for each report"):
        asynchrony.RecordedSchedule(path, 2)


def test_the_order_of_asking_changes_nothing():
    line = schedule()
    forward = [line.buffer(r) for r in range(1, 31)]
    again = schedule()
    assert [again.buffer(r) for r in range(30, 0, -1)] == forward[::-1]
    assert schedule(Devices(seconds_per_example=1, speed_spread=1.0, seed=2)).buffer(30) != forward[-1]


def test_equally_fast_clients_are_the_synchronous_cohorts():
    devices = Devices(bytes_per_second=10, dropout_rate=0.0)
    line = asynchrony.AsyncSchedule(
        cohorts.uniform(IDS, 15, 1), devices, concurrency=8, buffer_size=8, max_staleness=0, bytes_per_client=30
    )
    synchronous = participation.build_cohort_fn(
        cohorts.uniform(IDS, 8, 1), lambda ids, r: [(c, r) for c in ids], devices=devices, bytes_per_client=30
    )
    asynchronous = asynchrony.build_cohort_fn(line, lambda ids, r: [(c, r) for c in ids])
    for r in range(1, 20):
        ours, theirs = asynchronous(r, 0, 0.0), synchronous(r, 0, 0.0)
        assert ours.reported == theirs.reported
        assert ours.arguments == [(a, 0) for a in theirs.arguments]
        assert ours.seconds == theirs.seconds == 3.0


def test_nobody_is_twice_at_work_or_in_a_buffer_or_trains_twice_on_a_version():
    line, seen = schedule(), collections.Counter()
    for r in range(1, 200):
        arrivals = pairs(line.buffer(r))
        assert len(arrivals) == 4
        assert len({c for c, _ in arrivals}) == 4
        seen.update(arrivals)
    assert max(seen.values()) == 1
    assert max(r for r in (v for _, v in seen)) <= 199


def test_so_many_are_always_at_work():
    """Little's law: work done, in client-seconds, is concurrency times the time that passed."""
    devices = Devices(seconds_per_example=1, speed_spread=0.5, seed=1)
    line, work, time = schedule(devices), 0.0, 0.0
    for r in range(1, 500):
        buffer = line.buffer(r)
        work += sum(devices.duration(c, EXAMPLES[c], 0) for c, _ in pairs(buffer))
        time += buffer.seconds
    assert work / time == pytest.approx(12, rel=0.02)


def test_it_is_as_fast_as_the_median_not_the_slowest():
    devices = Devices(seconds_per_example=1, speed_spread=1.0, seed=1)
    line = schedule(devices)
    synchronous = participation.build_cohort_fn(
        cohorts.uniform(IDS, 12, 1), lambda ids, r: ids, devices=devices, num_examples=EXAMPLES
    )
    reports_a_second = 400 / sum(line.buffer(r).seconds for r in range(1, 101))
    synchronously = 1200 / sum(synchronous(r, 0, 0.0).seconds for r in range(1, 101))
    assert reports_a_second > 2 * synchronously


def test_dropouts_have_their_rate_and_may_come_back():
    line = schedule(Devices(seconds_per_example=1, dropout_rate=0.3, seed=1), concurrency=30, buffer_size=10)
    buffers = [line.buffer(r) for r in range(1, 301)]
    dropped = [c for b in buffers for c in b.dropped]
    rate = len(dropped) / (len(dropped) + 3000)
    assert rate == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / 3000))
    assert len(dropped) > len(set(dropped)) == 60


def test_who_sleeps_is_not_started():
    devices = Devices(seconds_per_example=60, availability="diurnal", seed=1)
    line = schedule(devices, sample=cohorts.uniform(IDS, 60, 1))
    hours = sum(line.buffer(r).seconds for r in range(1, 301)) / 3600
    assert hours > 24
    always = schedule(Devices(seconds_per_example=60, seed=1), sample=cohorts.uniform(IDS, 60, 1))
    assert line.buffer(1).arrivals != always.buffer(1).arrivals


def test_a_population_smaller_than_the_buffer_is_told():
    line = schedule(Devices(seconds_per_example=1), sample=lambda number: IDS[:3], concurrency=3, buffer_size=4)
    with pytest.raises(UserError, match="cohort.buffer_size=4 reports never arrive"):
        line.buffer(1)


def test_a_population_of_the_size_of_the_buffer_will_do():
    line = schedule(
        Devices(seconds_per_example=1, dropout_rate=0.5), sample=lambda number: IDS[:4], concurrency=4, buffer_size=4
    )
    assert all(sorted(c for c, _ in pairs(line.buffer(r))) == IDS[:4] for r in range(1, 20))
