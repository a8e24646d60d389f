"""The laws of sampling, their independence of history, and their replay."""

import collections
import concurrent.futures
import itertools
import json

import numpy as np
import pytest

from tff_tx.cohorts import SAMPLERS, build_sampler
from tff_tx.cohorts.log import CohortLog
from tff_tx.core.errors import UserError

IDS = [f"client{i}" for i in range(20)]
SIZES = {c: i + 1 for i, c in enumerate(IDS)}
ROUNDS = 4000
RANDOM = ("uniform", "poisson", "by_size")


def sampler(name, seed=1, size=5):
    return build_sampler(name, IDS, size, seed, sizes=SIZES)


def inclusion(sample, ids, rounds=ROUNDS):
    """How often each client is asked."""
    counts = collections.Counter(itertools.chain.from_iterable(sample(r) for r in range(1, rounds + 1)))
    return np.array([counts[c] for c in ids]) / rounds


def five_sigma(probability, rounds=ROUNDS):
    return 5 * np.sqrt(np.asarray(probability) * (1 - np.asarray(probability)) / rounds)


@pytest.mark.parametrize("name", RANDOM)
class TestEverySampler:
    """What holds whatever the law."""

    def test_cohorts_are_distinct_known_clients(self, name):
        for round_num in range(1, 50):
            cohort = sampler(name)(round_num)
            assert len(set(cohort)) == len(cohort)
            assert set(cohort) <= set(IDS)

    def test_a_round_depends_on_nothing_before_it(self, name):
        forth = [sampler(name)(r) for r in range(1, 30)]
        one = sampler(name)
        back = [one(r) for r in reversed(range(1, 30))][::-1]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            threaded = list(pool.map(one, range(1, 30)))
        assert forth == back == threaded

    def test_rounds_attempts_and_seeds_draw_anew(self, name):
        sample = sampler(name)
        draws = [sample(r, a) for r in range(1, 8) for a in range(4)] + [sampler(name, seed=2)(1)]
        # Of 20 clients 5 can be drawn in 15,504 ways: few pairs of 29 draws may agree by chance.
        assert len({frozenset(d) for d in draws}) >= len(draws) - 2
        assert sample(1, 0) == sample(1) != sample(1, 1) != sample(1, 2)

    def test_attempts_are_independent(self, name):
        """A retry asks those of the first attempt as often as the law asks them, not more and not less."""
        sample = sampler(name)
        chance = inclusion(sample, IDS)
        shared = [len(set(sample(r)) & set(sample(r, 1))) for r in range(1, 1001)]
        assert np.mean(shared) == pytest.approx((chance**2).sum(), abs=5 * np.std(shared) / np.sqrt(1000))

    def test_more_clients_than_there_are_is_told(self, name):
        with pytest.raises(UserError, match="cohort.clients_per_round=21 is more than the 20 training clients"):
            sampler(name, size=21)

    def test_all_clients_can_be_asked(self, name):
        assert sorted(sampler(name, size=20)(1)) == sorted(IDS)


@pytest.mark.parametrize("name", ["uniform", "by_size"])
def test_sizes_are_kept(name):
    assert {len(sampler(name)(r)) for r in range(1, 100)} == {5}


def test_uniform_asks_all_equally_and_in_any_order():
    sample = sampler("uniform")
    np.testing.assert_allclose(inclusion(sample, IDS), 0.25, atol=five_sigma(0.25))
    first = collections.Counter(sample(r)[0] for r in range(1, ROUNDS + 1))
    np.testing.assert_allclose([first[c] / ROUNDS for c in IDS], 0.05, atol=five_sigma(0.05))


def test_poisson_sizes_are_binomial():
    sample = sampler("poisson")
    np.testing.assert_allclose(inclusion(sample, IDS), 0.25, atol=five_sigma(0.25))
    sizes = np.array([len(sample(r)) for r in range(1, ROUNDS + 1)])
    mean, variance = 20 * 0.25, 20 * 0.25 * 0.75
    assert sizes.mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / ROUNDS))
    # The fourth central moment of the binomial gives the spread of the sample variance.
    fourth = variance * (1 + 3 * (20 - 2) * 0.25 * 0.75)
    assert sizes.var() == pytest.approx(variance, abs=5 * np.sqrt((fourth - variance**2) / ROUNDS))


def test_poisson_draws_clients_independently():
    sample = sampler("poisson")
    together = np.mean([{"client3", "client7"} <= set(sample(r)) for r in range(1, ROUNDS + 1)])
    assert together == pytest.approx(1 / 16, abs=five_sigma(1 / 16))


def test_poisson_may_ask_nobody():
    empty = np.mean([not sampler("poisson", size=1)(r) for r in range(1, 1001)])
    assert empty == pytest.approx(0.95**20, abs=five_sigma(0.95**20, 1000))


def test_by_size_draws_one_after_another_in_proportion():
    """Against the probability of every ordered draw, written out."""
    sizes = {"a": 1, "b": 2, "c": 3, "d": 10}
    ordered = {}
    for draw in itertools.permutations(sizes, 2):
        ordered[draw] = sizes[draw[0]] / 16 * sizes[draw[1]] / (16 - sizes[draw[0]])
    assert sum(ordered.values()) == pytest.approx(1)
    exact = [sum(p for draw, p in ordered.items() if c in draw) for c in sizes]
    sample = build_sampler("by_size", list(sizes), 2, 3, sizes=sizes)
    np.testing.assert_array_less(np.abs(inclusion(sample, list(sizes)) - exact), five_sigma(exact))
    drawn = collections.Counter(tuple(sample(r)) for r in range(1, ROUNDS + 1))
    found, law = np.array([drawn[d] / ROUNDS for d in ordered]), np.array(list(ordered.values()))
    np.testing.assert_array_less(np.abs(found - law), five_sigma(law))


def test_by_size_gives_clients_in_the_order_of_the_draws():
    sample = sampler("by_size", size=12)
    first = collections.Counter(sample(r)[0] for r in range(1, ROUNDS + 1))
    law = np.array([SIZES[c] / 210 for c in IDS])
    np.testing.assert_array_less(np.abs(np.array([first[c] / ROUNDS for c in IDS]) - law), five_sigma(law))


def test_by_size_never_asks_clients_without_examples():
    sizes = {**SIZES, "client0": 0}
    sample = build_sampler("by_size", IDS, 19, 1, sizes=sizes)
    assert set(sample(1)) == set(IDS[1:])
    with pytest.raises(UserError, match="more than the 19 training clients that have examples"):
        build_sampler("by_size", IDS, 20, 1, sizes=sizes)


class Counted(list):
    """A list that counts how many of its elements are read."""

    reads = 0

    def __getitem__(self, index):
        Counted.reads += 1
        return super().__getitem__(index)

    def __iter__(self):
        for element in super().__iter__():
            Counted.reads += 1
            yield element


@pytest.mark.parametrize("name", RANDOM)
def test_of_100_000_clients_a_round_touches_those_it_asks(name):
    ids = [str(i) for i in range(100_000)]
    sample = build_sampler(name, ids, 50, 1, sizes=dict.fromkeys(ids, 3))
    (held,) = (cell for cell in sample.__closure__ if isinstance(cell.cell_contents, list))
    held.cell_contents = Counted(held.cell_contents)
    Counted.reads = 0
    cohort = sample(1)
    assert Counted.reads == len(cohort) < 100


def lines(path, *records):
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in records))
    return str(path)


class TestFixed:
    """Replaying a record."""

    def test_replay_equals_the_record(self, tmp_path):
        sample = sampler("poisson")
        with CohortLog(str(tmp_path)) as log:
            for round_num in range(1, 6):
                cohort = sample(round_num, 2)
                log.append(round_num, 2, cohort, cohort[:1], dropped=cohort[1:])
        replay = build_sampler("fixed", IDS, 5, 9, path=str(tmp_path / "cohorts.jsonl"), rounds=5)
        assert [replay(r) for r in (5, 1, 2, 3, 4)] == [sample(r, 2) for r in (5, 1, 2, 3, 4)]

    def test_a_cohort_handed_out_can_be_changed(self, tmp_path):
        replay = SAMPLERS["fixed"](IDS, lines(tmp_path / "c", {"round_num": 1, "clients": ["client3"]}))
        replay(1).clear()
        assert replay(1) == ["client3"]

    @pytest.mark.parametrize("torn", ['{"round_num": 2, "clie', '{"round_num": 2, "clients": ["client1"]', "\0\0\0"])
    def test_a_torn_last_line_is_passed_over(self, tmp_path, torn):
        path = lines(tmp_path / "c", {"round_num": 1, "clients": []}, torn)
        replay = SAMPLERS["fixed"](IDS, path, 1)
        assert replay(1) == []
        with pytest.raises(UserError, match="no cohort for round 2"):
            replay(2)

    def test_a_last_line_without_end_counts(self, tmp_path):
        path = lines(tmp_path / "c", '{"round_num": 1, "clients": ["client1"]}')
        assert SAMPLERS["fixed"](IDS, path)(1) == ["client1"]

    @pytest.mark.parametrize(
        ("bad", "sentence"),
        [
            ("{nonsense\n", "line 2: not valid JSON; correct the line"),
            ("\udcff\n", "line 2: not valid JSON"),
            ("\n", "line 2: not valid JSON"),
            ("[1]\n", "line 2: must be an object with a whole number as round_num"),
            ({"clients": []}, "line 2: must be an object with a whole number as round_num"),
            ({"round_num": "2", "clients": []}, "line 2: must be an object with a whole number"),
            ({"round_num": True, "clients": []}, "line 2: must be an object with a whole number"),
            ({"round_num": 2}, "line 2: clients must be a list of client ids"),
            ({"round_num": 2, "clients": "client1"}, "line 2: clients must be a list"),
            ({"round_num": 2, "clients": [1]}, "line 2: clients must be a list"),
            ({"round_num": 2, "clients": ["client1", "client2", "client1"]}, "line 2: client 'client1' is named twice"),
            ({"round_num": 2, "clients": ["nobody"]}, "line 2: client 'nobody' is not among the 20 training clients"),
            ({"round_num": 1, "clients": ["client2"]}, "line 2: round 1 is recorded for the second time"),
        ],
    )
    def test_a_bad_line_is_told_with_its_number(self, tmp_path, bad, sentence):
        good = json.dumps({"round_num": 1, "clients": ["client1"]}) + "\n"
        bad = bad if isinstance(bad, str) else json.dumps(bad) + "\n"
        (tmp_path / "c").write_bytes((good + bad).encode(errors="surrogateescape"))
        with pytest.raises(UserError) as told:
            build_sampler("fixed", IDS, 5, 1, path=str(tmp_path / "c"))
        assert str(told.value).startswith(f"cohort.cohorts={tmp_path / 'c'}, {sentence}")

    def test_a_missing_round_is_told_before_the_run(self, tmp_path):
        path = lines(tmp_path / "c", *({"round_num": r, "clients": ["client1"]} for r in (1, 2, 4)))
        build_sampler("fixed", IDS, 5, 1, path=path, rounds=2)
        with pytest.raises(UserError, match=r"^cohort.cohorts=.*c has no cohort for round 3: lower run.rounds"):
            build_sampler("fixed", IDS, 5, 1, path=path, rounds=4)

    def test_there_is_no_other_cohort_to_retry_with(self, tmp_path):
        replay = SAMPLERS["fixed"](IDS, lines(tmp_path / "c", {"round_num": 1, "clients": ["client1"]}))
        with pytest.raises(
            UserError, match="one cohort for round 1, and too few of it reported: lower cohort.min_clients"
        ):
            replay(1, 1)

    def test_a_file_that_cannot_be_read_is_told(self, tmp_path):
        with pytest.raises(
            UserError, match=r"cohort.cohorts=.*absent cannot be read \(No such file or directory\): name"
        ):
            SAMPLERS["fixed"](IDS, str(tmp_path / "absent"))
        with pytest.raises(UserError, match="Is a directory"):
            SAMPLERS["fixed"](IDS, str(tmp_path))


class TestMinSeparation:
    """At most one participation in any so many rounds, evenly dealt."""

    def sample(self, separation=4, size=5, seed=1, ids=IDS):
        return build_sampler("min_separation", ids, size, seed, separation=separation)

    @pytest.mark.parametrize(("separation", "size"), [(1, 5), (3, 5), (4, 5), (6, 3)])
    def test_nobody_is_asked_again_too_early(self, separation, size):
        sample = self.sample(separation, size)
        last = {}
        for round_num in range(1, 60):
            cohort = sample(round_num)
            assert len(set(cohort)) == size
            for client in cohort:
                assert round_num - last.get(client, -separation) >= separation
                last[client] = round_num

    def test_attempts_keep_to_the_group(self):
        sample = self.sample(separation=2, size=3)
        groups = [set().union(*(sample(r, a) for r in (first, first + 2) for a in range(20))) for first in (1, 2)]
        assert sample(1, 0) != sample(1, 1)
        assert len(groups[0]) == len(groups[1]) == 10
        assert not groups[0] & groups[1]

    def test_all_take_part_equally(self):
        np.testing.assert_allclose(inclusion(self.sample(separation=4, size=2), IDS), 0.1, atol=five_sigma(0.1))

    def test_groups_follow_the_seed_and_not_history(self):
        forth = [self.sample()(r) for r in range(1, 10)]
        one = self.sample()
        assert [one(r) for r in reversed(range(1, 10))][::-1] == forth
        assert [self.sample(seed=2)(r) for r in range(1, 10)] != forth

    def test_too_few_clients_a_group_are_told(self):
        with pytest.raises(
            UserError, match="cohort.min_separation=7 leaves 2 of the 20 .* cohort.clients_per_round=3: lower"
        ):
            self.sample(separation=7, size=3)
