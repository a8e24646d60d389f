"""Words of clients, counted by sums in TFF's runtime and by hand; and what may be released of them."""

import collections

import numpy as np
import pandas as pd
import pytest

from tff_tx import datasets
from tff_tx.analysis.vocabulary import Bounds, WordsEncoder, count_words, release
from tff_tx.privacy import SparseHistogram, find_sparse_histogram

BOUNDS = Bounds(max_words=4, max_bytes=9)
TEXTS = {
    "O'Brien é": ["To be, or not to be", "be to"],
    "b": ["be be be be it so; so so it it", "über über über extraordinarily"],
    "c": ["it is über"],
    "d": ["only"],
}


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """The words of four clients in a store."""
    place = tmp_path_factory.mktemp("words")
    rows = [(client, text) for client, texts in TEXTS.items() for text in texts]
    pd.DataFrame(rows, columns=["client", "text"]).to_csv(place / "x.csv", index=False)
    spec = datasets.DataSpec(
        "file", files=(str(place / "x.csv"),), client_column="client", test_fraction=0.0, cache_dir=str(place)
    )
    return datasets.load(spec, WordsEncoder("wordpiece", False, BOUNDS), progress=False).train


def words_of(clients, client):
    (example,) = clients.create_tf_dataset_for_client(client)
    return [word.decode() for word in example["words"].numpy()]


def test_a_client_names_its_most_frequent_words(clients):
    assert words_of(clients, "O'Brien é") == ["be", "to", ",", "To"]  # three times, twice, and once each
    assert words_of(clients, "b") == ["be", "it", "so", "über"]
    assert words_of(clients, "c") == ["is", "it", "über"]


def test_words_that_are_too_long_are_left_out():
    encoder = WordsEncoder("wordpiece", False, Bounds(10, 4))
    rows = pd.DataFrame({"text": ["üüü aaaaa üü aaaa"]})
    assert [w.decode() for w in encoder.encode(rows)[0]["words"]] == ["aaaa", "üü"]
    assert encoder.encode(pd.DataFrame({"text": ["aaaaa"]})) == []
    (example,) = WordsEncoder("bpe", False, Bounds(10, 4)).encode(pd.DataFrame({"text": ["a\0 b"]}))
    assert list(example["words"]) == [b" b", b"a"]


def test_what_decides_the_words_decides_the_fingerprint():
    made = [
        WordsEncoder("wordpiece", False, BOUNDS),
        WordsEncoder("wordpiece", True, BOUNDS),
        WordsEncoder("bpe", False, BOUNDS),
        WordsEncoder("bpe", False, Bounds(4, 8)),
    ]
    assert len({encoder.fingerprint for encoder in made}) == 4


@pytest.mark.slow
def test_counts_are_those_of_counting_by_hand(clients):
    """Cohorts of three and of one, as there are four clients; a name with a quote and one beyond ASCII."""
    expected = collections.Counter(word for client in clients.client_ids for word in words_of(clients, client))
    done = []
    found = count_words(clients, BOUNDS, clients_per_cohort=3, on_progress=done.append)
    assert found == dict(expected)
    assert found["be"] == 2
    assert found["über"] == 2
    assert done == [3, len(clients.client_ids)]


@pytest.mark.slow
def test_tff_holds_to_the_bounds_whatever_the_data_say(clients):
    """Clients that name more than they may: TFF's own client computation cuts."""
    found = count_words(clients, Bounds(max_words=2, max_bytes=9), clients_per_cohort=4)
    assert sum(found.values()) == 2 + 2 + 2 + 1


def test_noise_is_of_its_deviation_and_released_from_the_threshold_on():
    counts = {f"w{n:05d}": 50 for n in range(20_000)}
    mechanism = SparseHistogram(noise_stddev=5.0, threshold=46.0, max_items=1)
    found = release(counts, mechanism, seed=3)
    # Counts of 50 with noise 5, seen from 46 on: Phi(0.8) of them.
    assert len(found) / len(counts) == pytest.approx(0.7881, abs=0.01)
    assert mechanism.release_probability(50) == pytest.approx(0.7881, abs=1e-4)
    assert min(found.values()) >= 46
    everything = np.array(list(release(counts, SparseHistogram(5.0, -1e9, 1), seed=3).values()))
    assert everything.std() == pytest.approx(5.0, rel=0.02)
    assert everything.mean() == pytest.approx(50, abs=0.15)


def test_seeded_noise_repeats_whatever_the_order_and_other_noise_does_not():
    counts, mechanism = {"b": 3, "a": 9}, SparseHistogram(1.0, -100.0, 1)
    first = release(counts, mechanism, seed=1)
    assert first == release(dict(reversed(counts.items())), mechanism, seed=1)
    assert list(first) == ["a", "b"]
    assert first != release(counts, mechanism, seed=2)
    assert release(counts, mechanism) != release(counts, mechanism)


def test_a_word_of_one_client_is_released_as_rarely_as_delta_says():
    """20,000 federations, each with a client whose ten words nobody else has."""
    delta = 0.02
    mechanism = find_sparse_histogram(10, 1.0, delta)
    federations = 20_000
    found = release({f"{n}/{word}": 1 for n in range(federations) for word in range(10)}, mechanism, seed=5)
    told = {word.split("/")[0] for word in found}
    sampling_error = 3 * (delta / federations) ** 0.5
    assert 0.8 * delta < len(told) / federations < delta + sampling_error
    everyone = release({"the": 500}, mechanism, seed=5)
    assert everyone["the"] == pytest.approx(500, abs=6 * mechanism.noise_stddev)


def test_clients_that_stand_for_others_count_as_many():
    mechanism = SparseHistogram(noise_stddev=10.0, threshold=150.0, max_items=1)
    found = release({"two": 2, "one": 1}, mechanism, scale_factor=100.0, seed=1)
    assert list(found) == ["two"]
    assert found["two"] == pytest.approx(2, abs=0.5)
