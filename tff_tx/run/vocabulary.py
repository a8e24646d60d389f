"""A tokenizer learned from the words of a configuration's training clients."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from tqdm.auto import tqdm

from tff_tx import datasets, privacy
from tff_tx.analysis import vocabulary
from tff_tx.config import RunConfig
from tff_tx.config.run_config import describe
from tff_tx.config.tools import VocabularyConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run import directory
from tff_tx.run.assemble import tasks as task_parts

RECORD = "federated_vocabulary.json"


@dataclasses.dataclass(frozen=True)
class VocabularyReport:
    """A federated vocabulary.

    Attributes:
      path: Directory of the tokenizer.
      clients: Number of clients.
      words: Number of released words.
      entries: Number of entries of the vocabulary.
      privacy: What is guaranteed, as in `federated_vocabulary.json`; None: nothing.
    """

    path: str
    clients: int
    words: int
    entries: int
    privacy: Mapping[str, Any] | None

    def __str__(self) -> str:
        """The result and its guarantee, in two lines."""
        line = f"{self.words:,} words of {self.clients:,} clients; {self.entries:,} entries in {self.path}"
        return f"{line}\n{_describe_guarantee(self.privacy)}"


def learn_vocabulary(config: RunConfig, settings: VocabularyConfig, progress: bool = True) -> VocabularyReport:
    """Learns a tokenizer and writes it, with a record of how it was made.

    Each training client contributes a bounded number of its words, sums over cohorts tell how many clients have each,
    and pieces of the released words become the vocabulary. With `privacy.target_epsilon` the counts are noised and
    those below a threshold are not released, which gives client-level (epsilon, delta)-differential privacy; without
    it, a word that a single client has may be in the vocabulary.

    Raises:
      UserError: If the tokenizer cannot be written, settings do not fit together, or no word is released.
    """
    _check(config, settings)
    bounds = vocabulary.Bounds(settings.max_words_per_client, settings.max_word_bytes)
    encoder = vocabulary.WordsEncoder(settings.tokenizer_type, settings.lowercase, bounds)
    clients = datasets.load(task_parts.data_spec(config), encoder, progress=progress).train
    num_clients = len(clients.client_ids)
    mechanism, guarantee = _privacy(config, settings, num_clients)
    words = _count(clients, bounds, config, settings, progress)
    if mechanism is not None:
        scale_factor = guarantee["population"] / guarantee["clients_here"]
        words = vocabulary.release(words, mechanism, scale_factor=scale_factor, seed=config.privacy.noise_seed)
    if not words:
        raise UserError(
            f"no word passes the threshold of {mechanism.threshold:,.0f} clients: raise "
            f"{setting('privacy.target_epsilon')} or {setting('privacy.population')}, or lower "
            f"{setting('vocabulary.max_words_per_client')}={bounds.max_words}."
        )
    tokenizer = vocabulary.build_tokenizer(settings.tokenizer_type, words, settings.size, settings.lowercase)
    report = VocabularyReport(settings.output, num_clients, len(words), len(tokenizer), guarantee)
    _write(tokenizer, report, config, settings)
    return report


def _check(config, settings):
    output = settings.output
    name = f"{setting('vocabulary.output')}={output}"
    if not output:
        raise UserError(f"{setting('vocabulary.output')} is not set: name a directory for the tokenizer.")
    if os.path.exists(output) and not os.path.exists(os.path.join(output, RECORD)):
        raise UserError(f"{name} exists and is no federated vocabulary: choose another directory.")
    if settings.lowercase and settings.tokenizer_type != "wordpiece":
        raise UserError(
            f"{setting('vocabulary.lowercase')} has no effect with {setting('vocabulary.tokenizer_type')}="
            f"{settings.tokenizer_type}: remove it, or use wordpiece."
        )
    vocabulary.check_size(settings.tokenizer_type, settings.size, settings.lowercase)
    for path in ("privacy.target_delta", "privacy.population", "privacy.noise_seed"):
        if config.privacy.target_epsilon is None and config.is_set(path):
            raise UserError(
                f"{describe(config, path)} has no effect without {setting('privacy.target_epsilon')}: set that too, or "
                "remove it."
            )


def _privacy(config, settings, num_clients):
    """Noise and threshold, and what they guarantee; (None, None) without a target."""
    target = config.privacy
    if target.target_epsilon is None:
        return None, None
    population = target.population or num_clients
    if population < num_clients:
        raise UserError(
            f"{describe(config, 'privacy.population')} is fewer than the {num_clients} training clients: raise it."
        )
    delta = privacy.delta_for(population, target.target_delta)
    mechanism = privacy.find_sparse_histogram(settings.max_words_per_client, target.target_epsilon, delta)
    return mechanism, {
        "epsilon": target.target_epsilon,
        "delta": delta,
        "unit": "a client with all of its data",
        "adjacency": "data with and without one client",
        "setting": "central: the server is trusted to add the noise, and sees sums over cohorts without it",
        "output": "the tokenizer",
        "mechanism": "Gaussian noise on the number of clients that have a word, and a threshold (sparse histogram)",
        "population": population,
        "clients_here": num_clients,
        "words_per_client": mechanism.max_items,
        "count_per_word_and_client": 1,
        "noise_stddev": mechanism.noise_stddev,
        "threshold": mechanism.threshold,
        "release_probability_of_one_clients_word": mechanism.release_probability(1),
        "noise_seed_given": target.noise_seed is not None,
        "outside": "the number of clients, and what is learned by running this again on the same clients",
    }


def _count(clients, bounds, config, settings, progress):
    total = len(clients.client_ids)
    with tqdm(total=total, desc="Counting words", unit=" clients", dynamic_ncols=True, disable=not progress) as bar:
        return vocabulary.count_words(
            clients,
            bounds,
            clients_per_cohort=min(settings.clients_per_cohort, total),
            threads=config.engine.num_threads,
            on_progress=lambda done: bar.update(done - bar.n),
        )


def _write(tokenizer, report, config, settings):
    parent, name = os.path.split(os.path.abspath(settings.output))
    files.make_directory(parent, setting("vocabulary.output"))
    record = {
        "settings": {**config.changed(), **{f.path: getattr(settings, f.name) for f in settings.fields()}},
        "versions": directory.versions(),
        "clients": report.clients,
        "words": report.words,
        "vocab_size": report.entries,
        "privacy": report.privacy,
    }

    def save(path):
        tokenizer.save_pretrained(path)
        files.write_json(os.path.join(path, RECORD), record)

    files.write_directory(parent, name, save)


def _describe_guarantee(guarantee):
    if guarantee is None:
        return "No privacy: counts are exact and not thresholded. A target epsilon adds noise and a threshold."
    seeded = ""
    if guarantee["noise_seed_given"]:
        seeded = " The noise was seeded, which gives no protection against those who know the seed."
    return (
        f"({guarantee['epsilon']:g}, {guarantee['delta']:.3g})-differential privacy of {guarantee['unit']}, "
        f"{guarantee['adjacency']}, for {guarantee['population']:,} clients: each contributes at most "
        f"{guarantee['words_per_client']:,} words, once; the number of clients that have a word is noised with "
        f"standard deviation {guarantee['noise_stddev']:.4g} and released from {guarantee['threshold']:.4g} on. A word "
        f"of a single client is released with probability "
        f"{guarantee['release_probability_of_one_clients_word']:.2g}. The server is trusted with sums.{seeded}"
    )
