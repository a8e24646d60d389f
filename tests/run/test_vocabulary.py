"""Federated vocabularies: what is released, guaranteed, written and rejected."""

import json
import os

import pytest
import transformers

from tests.vocabularies import COMMON, write_clients
from tff_tx.analysis.vocabulary import TOKEN_NAMES
from tff_tx.config import RunConfig
from tff_tx.config.tools import VOCABULARIES, VocabularyConfig
from tff_tx.core.errors import UserError
from tff_tx.privacy import default_delta, find_sparse_histogram
from tff_tx.run import vocabulary

NOISED = {"privacy.target_epsilon": 6, "privacy.noise_seed": 4}


@pytest.fixture
def place(tmp_path):
    """Where the file of the clients is."""
    write_clients(tmp_path / "x.csv")
    return tmp_path


@pytest.fixture
def learn(place, cache_dir):
    """Learns a vocabulary, with settings of privacy by path and of the vocabulary by name."""

    def learn(values=None, **settings):
        data = {
            **{"data.dataset": "file", "data.files": (str(place / "x.csv"),), "data.client_column": "client"},
            **{"data.test_fraction": 2, "data.cache_dir": str(cache_dir)},
        }
        settings = {"size": 300, "max_words_per_client": 20, "output": str(place / "words"), **settings}
        config = RunConfig.of({**data, **(values or {})})
        return vocabulary.learn_vocabulary(config, VocabularyConfig(**settings), progress=False)

    return learn


def record(place):
    return json.loads((place / "words" / vocabulary.RECORD).read_text())


@pytest.mark.slow
def test_words_of_clients_become_a_tokenizer(place, learn):
    report = learn(clients_per_cohort=7)
    tokenizer = transformers.AutoTokenizer.from_pretrained(place / "words")
    assert tokenizer.tokenize("the cat sat") == ["the", "cat", "sat"]
    assert (report.clients, report.words, report.entries) == (18, len(set(COMMON.split())) + 18, len(tokenizer))
    assert f"18 clients; {len(tokenizer)} entries in {place / 'words'}" in str(report)
    assert "No privacy" in str(report)
    assert record(place)["privacy"] is None
    assert record(place)["words"] == report.words
    assert record(place)["settings"]["vocabulary.clients_per_cohort"] == 7
    assert sorted(path.name for path in place.iterdir()) == ["words", "x.csv"]


@pytest.mark.slow
def test_with_an_epsilon_words_of_one_client_are_not_released(place, learn):
    report = learn(NOISED)
    found, delta = record(place)["privacy"], default_delta(18)
    mechanism = find_sparse_histogram(20, 6.0, delta)
    assert (found["epsilon"], found["delta"], found["population"]) == (6.0, delta, 18)
    assert (found["noise_stddev"], found["threshold"]) == (mechanism.noise_stddev, mechanism.threshold)
    assert found["noise_seed_given"]
    assert f"(6, {delta:.3g})-differential privacy of a client with all of its data" in str(report)
    assert "for 18 clients: each contributes at most 20 words" in str(report)
    assert "The noise was seeded" in str(report)
    assert f"8 words of 18 clients; 173 entries in {place / 'words'}" in str(report)
    tokens = transformers.AutoTokenizer.from_pretrained(place / "words").get_vocab()
    assert {"the", "cat", "sat"} < tokens.keys()
    assert not {chr(97 + n) * 5 for n in range(20)} & tokens.keys()


@pytest.mark.slow
def test_a_larger_population_drowns_the_noise(place, learn):
    report = learn({**NOISED, "privacy.population": 50_000})
    assert record(place)["privacy"]["threshold"] == find_sparse_histogram(20, 6.0, default_delta(50_000)).threshold
    assert report.words == len(set(COMMON.split())) + 18
    assert "for 50,000 clients" in str(report)


@pytest.mark.slow
def test_the_same_noise_gives_the_same_tokenizer_and_too_much_of_it_none(place, learn):
    learn(NOISED)
    first = (place / "words" / "tokenizer.json").read_text()
    learn(NOISED)
    assert (place / "words" / "tokenizer.json").read_text() == first
    # At a smaller epsilon noise drowns everything.
    with pytest.raises(UserError, match="no word passes the threshold"):
        learn({**NOISED, "privacy.target_epsilon": 0.1, "privacy.target_delta": 1e-6})
    assert (place / "words" / "tokenizer.json").read_text() == first


@pytest.mark.parametrize(
    ("values", "settings", "sentence"),
    [
        ({}, {"output": None}, "vocabulary.output is not set"),
        ({}, {"output": "."}, "vocabulary.output=. exists and is no federated vocabulary"),
        ({}, {"size": 20}, "vocabulary.size=20: must be at least"),
        ({}, {"tokenizer_type": "bpe", "lowercase": True}, "vocabulary.lowercase has no effect with"),
        ({"privacy.population": 100}, {}, "privacy.population=100 has no effect without privacy.target_epsilon"),
        ({"privacy.noise_seed": 0}, {}, "privacy.noise_seed=0 has no effect without privacy.target_epsilon"),
        (
            {"privacy.target_epsilon": 1, "privacy.population": 3},
            {},
            "privacy.population=3 is fewer than the 18 training clients",
        ),
        (
            {"privacy.target_epsilon": 1, "privacy.target_delta": 0.5},
            {},
            "privacy.target_delta=0.5 is more than one over the 18 clients",
        ),
    ],
)
def test_wrong_settings_are_rejected(place, learn, values, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        learn(values, **settings)
    assert os.listdir(place) == ["x.csv"]


def test_every_type_of_tokenizer_can_be_chosen():
    assert set(VOCABULARIES) == set(TOKEN_NAMES)
