"""Simulated devices against examples by hand and against the laws they are to follow."""

import math
import statistics

import numpy as np
import pytest

from tff_tx.cohorts.devices import Devices
from tff_tx.core.errors import UserError

IDS = [f"client{i}" for i in range(2000)]
HOUR = 3600.0
DAY = 24 * HOUR


def simulate(devices, client_ids, examples=(), goal=None, round_num=1, start_time=0.0, attempt=0, num_bytes=0):
    goal = len(client_ids) if goal is None else goal
    examples = dict(zip(client_ids, examples))
    return devices.simulate(client_ids, examples, num_bytes, goal, round_num, start_time, attempt)


def five_sigma(probability, draws):
    return 5 * math.sqrt(probability * (1 - probability) / draws)


def test_by_default_all_report_at_once():
    devices = Devices()
    assert devices.select(IDS, 12345.0) == IDS
    assert devices.num_selected(7) == devices.candidates(7) == 7
    for goal in (1, len(IDS)):
        round_ = simulate(devices, IDS, goal=goal, num_bytes=10**9)
        assert (round_.reported, round_.dropped, round_.stragglers, round_.seconds) == (IDS, [], [], 0.0)


def test_an_empty_cohort_takes_the_overhead():
    for devices in (Devices(round_overhead_seconds=3), Devices(round_overhead_seconds=3, report_deadline=60)):
        round_ = simulate(devices, [])
        assert (round_.reported, round_.dropped, round_.stragglers, round_.seconds) == ([], [], [], 3.0)


class TestByHand:
    """Clients a to e train on 40, 10, 30, 10 and 20 examples of two seconds each, and move 100 bytes at 20 a second.

    So they report after 85, 25, 65, 25 and 45 seconds.
    """

    CLIENTS, EXAMPLES = list("abcde"), (40, 10, 30, 10, 20)

    def run(self, goal, **kwargs):
        devices = Devices(seconds_per_example=2, bytes_per_second=20, round_overhead_seconds=7, **kwargs)
        return simulate(devices, self.CLIENTS, self.EXAMPLES, goal, num_bytes=100)

    @pytest.mark.parametrize(
        ("goal", "kwargs", "reported", "seconds"),
        [
            # Without over-selection the round waits for all.
            (3, {}, "abcde", 85),
            # At the third report.
            (3, {"over_selection": 1.6}, "bde", 45),
            # Two report at once: the first in the cohort comes first.
            (1, {"over_selection": 5}, "b", 25),
            (5, {"over_selection": 2}, "abcde", 85),
            # More are needed than there are.
            (9, {"over_selection": 2}, "abcde", 85),
            # The deadline comes first; reporting at the deadline is in time.
            (4, {"over_selection": 1.25, "report_deadline": 64.9}, "bde", 64.9),
            (4, {"over_selection": 1.25, "report_deadline": 65}, "bcde", 65),
            (5, {"report_deadline": 30}, "bd", 30),
            # The goal comes first.
            (2, {"over_selection": 2.5, "report_deadline": 30}, "bd", 25),
            # Nobody is in time.
            (2, {"over_selection": 2.5, "report_deadline": 20}, "", 20),
        ],
    )
    def test_the_round_ends_with_the_goal_or_the_deadline(self, goal, kwargs, reported, seconds):
        round_ = self.run(goal, **kwargs)
        assert round_.reported == list(reported)
        assert round_.stragglers == [c for c in "abcde" if c not in reported]
        assert round_.dropped == []
        assert round_.seconds == pytest.approx(seconds + 7)

    def test_who_drops_out_is_not_waited_for_without_a_deadline(self):
        seen = set()
        for seed in range(40):
            whole = self.run(2, dropout_rate=0.5, seed=seed, over_selection=2.5)
            alive = [c for c in "abcde" if c not in whole.dropped]
            times = dict(zip("abcde", (85, 25, 65, 25, 45)))
            first = sorted(alive, key=times.get)[:2]
            assert whole.reported == sorted(first)
            assert whole.stragglers == [c for c in alive if c not in first]
            assert whole.seconds == pytest.approx(7 + max((times[c] for c in first), default=0))
            seen.add(len(alive))
        assert {1, 2, 3, 4} <= seen

    def test_who_drops_out_is_waited_for_until_the_deadline(self):
        for seed in range(40):
            whole = self.run(5, dropout_rate=0.5, seed=seed, report_deadline=100)
            assert whole.stragglers == []
            assert sorted(whole.reported + whole.dropped) == list("abcde")
            assert whole.seconds == pytest.approx(107 if whole.dropped else 92)


class TestDropout:
    """A Bernoulli draw a client, round and attempt."""

    DEVICES = Devices(dropout_rate=0.3, seed=5)

    def test_its_rate(self):
        dropped = [len(simulate(self.DEVICES, IDS, round_num=r).dropped) for r in range(1, 11)]
        assert np.mean(dropped) / 2000 == pytest.approx(0.3, abs=five_sigma(0.3, 20_000))

    def test_rounds_and_attempts_are_independent(self):
        base = set(simulate(self.DEVICES, IDS, round_num=3).dropped)
        for other in ({"round_num": 4}, {"round_num": 3, "attempt": 1}):
            both = base & set(simulate(self.DEVICES, IDS, **other).dropped)
            assert len(both) / 2000 == pytest.approx(0.09, abs=five_sigma(0.09, 2000))

    def test_a_client_does_not_depend_on_its_cohort_or_on_what_came_before(self):
        base = simulate(self.DEVICES, IDS, round_num=3).dropped
        assert simulate(Devices(dropout_rate=0.3, seed=5), IDS[::-1], round_num=3).dropped == base[::-1]
        assert simulate(self.DEVICES, IDS[:50], round_num=3).dropped == [c for c in base if c in IDS[:50]]
        assert simulate(Devices(dropout_rate=0.3, seed=6), IDS, round_num=3).dropped != base


class TestSpeed:
    """A client's device stays its device."""

    def test_it_is_log_normal(self):
        devices = Devices(seconds_per_example=3, speed_spread=0.5)
        logs = [math.log(devices.duration(c, 10, 0) / 30) for c in IDS]
        assert np.mean(logs) == pytest.approx(0, abs=5 * 0.5 / math.sqrt(2000))
        assert np.std(logs) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(4000))
        # Kolmogorov and Smirnov's distance, beyond which one sample in a million comes.
        law = statistics.NormalDist(0, 0.5)
        distance = max(abs(law.cdf(x) - (i + 0.5) / 2000) for i, x in enumerate(sorted(logs)))
        assert distance < math.sqrt(math.log(2e6) / 2 / 2000)

    def test_it_depends_on_seed_and_client_alone(self):
        devices = [
            Devices(seconds_per_example=1, speed_spread=0.5, seed=s, dropout_rate=d)
            for s, d in ((1, 0), (1, 0.5), (2, 0))
        ]
        one, same, other = ([d.duration(c, 1, 0) for c in IDS[:20]] for d in devices)
        assert one == same
        assert one != other

    def test_slow_devices_are_the_stragglers_of_every_round(self):
        devices = Devices(seconds_per_example=1, speed_spread=0.7, over_selection=1.25)
        rounds = [simulate(devices, IDS[:50], [10] * 50, 40, round_num=r) for r in range(1, 5)]
        slowest = sorted(IDS[:50], key=lambda c: devices.duration(c, 10, 0))[40:]
        assert all(set(r.stragglers) == set(slowest) for r in rounds)

    def test_examples_are_not_asked_for_if_they_take_no_time(self):
        assert Devices(bytes_per_second=10).simulate(["a"], {}, 50, 1, 1, 0.0).seconds == 5.0
        with pytest.raises(KeyError):
            Devices(seconds_per_example=1).simulate(["a"], {}, 50, 1, 1, 0.0)


class TestDiurnal:
    """Availability by the local hour."""

    DEVICES = Devices(availability="diurnal", seed=3, seconds_per_example=1)

    def test_the_curve_peaks_at_half_past_two_and_averages_to_a_half(self):
        client, hours = "client7", np.arange(0, 24, 0.25)
        curve = np.array([self.DEVICES.probability(client, h * HOUR) for h in hours])
        peak, trough = hours[curve.argmax()], hours[curve.argmin()]
        zone = (2.5 - peak) % 24
        assert zone == int(zone)
        assert abs(peak - trough) == 12
        assert (curve.max(), curve.min()) == (pytest.approx(0.8), pytest.approx(0.2))
        assert curve.mean() == pytest.approx(0.5)
        # A quarter of a day from the peak.
        assert self.DEVICES.probability(client, (peak + 6) * HOUR) == pytest.approx(0.5)
        assert self.DEVICES.probability(client, (peak + 24) * HOUR) == pytest.approx(0.8)

    def test_clients_are_available_as_often_as_the_curve_says(self):
        pairs = [
            (self.DEVICES.probability(c, t), self.DEVICES.is_available(c, t))
            for c in IDS
            for t in (day * DAY + (day * 5 % 24) * HOUR for day in range(12))
        ]
        probabilities, available = np.array(pairs).T
        assert available.mean() == pytest.approx(0.5, abs=five_sigma(0.5, len(pairs)))
        for low in (0.2, 0.35, 0.5, 0.65):
            here = (probabilities >= low) & (probabilities < low + 0.15)
            expected = probabilities[here].mean()
            assert available[here].mean() == pytest.approx(expected, abs=five_sigma(expected, here.sum()))

    def test_time_zones_are_all_as_likely(self):
        hours = range(24)
        peaks = [max(hours, key=lambda h: self.DEVICES.probability(c, (h + 0.5) * HOUR)) for c in IDS[:960]]
        counts = np.bincount(peaks, minlength=24)
        # Chi-squared with 23 degrees of freedom, whose 99.99th percentile is 58.
        assert ((counts - 40) ** 2 / 40).sum() < 58

    def test_a_client_is_available_without_a_break(self):
        """It comes at most once a day; draws by the minute would come and go hundreds of times."""
        steps = np.arange(0, 10 * DAY, 600.0)
        arrivals = []
        for client in IDS[:30]:
            available = np.array([self.DEVICES.is_available(client, t) for t in steps])
            arrivals.append((np.diff(available.astype(int)) == 1).sum())
        assert max(arrivals) <= 10
        assert np.mean(arrivals) > 5

    def test_select_keeps_order_and_stops_at_its_limit(self):
        some = self.DEVICES.select(IDS, 5 * HOUR)
        assert some == [c for c in IDS if self.DEVICES.is_available(c, 5 * HOUR)]
        assert self.DEVICES.select(iter(IDS), 5 * HOUR, 10) == some[:10]
        assert set(some) != set(self.DEVICES.select(IDS, 17 * HOUR))

    def test_of_100_000_candidates_it_looks_at_few(self):
        looked = []
        candidates = (looked.append(i) or f"client{i}" for i in range(100_000))
        assert len(self.DEVICES.select(candidates, 0.0, 50)) == 50
        assert len(looked) < 500

    def test_enough_candidates_are_drawn(self):
        devices = Devices(availability="diurnal", over_selection=1.2)
        assert (devices.num_selected(50), devices.candidates(50)) == (60, 300)
        for hour in range(24):
            assert len(devices.select(IDS[:300], hour * HOUR, 60)) == 60

    def test_who_is_no_longer_available_at_the_report_drops_out(self):
        cohort = self.DEVICES.select(IDS, 0.0, 200)
        short = simulate(self.DEVICES, cohort, [1] * 200)
        long = simulate(self.DEVICES, cohort, [int(4 * HOUR)] * 200)
        assert len(short.dropped) < 5
        assert long.dropped == [c for c in cohort if not self.DEVICES.is_available(c, 4 * HOUR)]
        assert 20 < len(long.dropped) < 180


def test_asking_rounds_up_but_not_for_the_sake_of_an_ulp():
    assert [Devices(over_selection=1.1).num_selected(goal) for goal in (1, 10, 31, 100)] == [2, 11, 35, 110]
    assert Devices(over_selection=1.3).num_selected(100) == 130


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("dropout_rate", 1.0, "dropout_rate=1.0: must be below 1"),
        ("dropout_rate", -0.1, "dropout_rate=-0.1: must be at least 0"),
        ("dropout_rate", math.nan, "dropout_rate=nan: must be a number"),
        ("report_deadline", 0, "report_deadline=0.0: must be above 0"),
        ("bytes_per_second", -1, "bytes_per_second=-1.0: must be at least 1e-06"),
        ("seconds_per_example", -1, "seconds_per_example=-1.0: must be at least 0"),
        ("seconds_per_example", math.nan, "seconds_per_example=nan: must be a number"),
        ("round_overhead_seconds", -1, "round_overhead_seconds=-1.0: must be at least 0"),
        ("speed_spread", -0.5, "speed_spread=-0.5: must be at least 0"),
        ("speed_spread", 11, "speed_spread=11.0: must be at most 10"),
        ("availability", "never", "availability=never: must be one of always, diurnal"),
    ],
)
def test_impossible_devices_are_rejected(field, value, sentence):
    with pytest.raises(UserError, match=f"^devices.{sentence}"):
        Devices(**{field: value})
