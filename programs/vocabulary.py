"""Learns a vocabulary from clients' texts: `python -m programs.vocabulary --vocab_size=2000 --output=runs/vocabulary`.

Each training client names a bounded number of its words, sums tell how many clients have each, and pieces of those
words become a Hugging Face tokenizer in --output, for `programs.train --tokenizer`. With --target_epsilon counts get
noise and words below a threshold are left out, so that (epsilon, delta)-differential privacy hides every client; what
is guaranteed is printed, and in federated_vocabulary.json beside the tokenizer. Without it nothing is hidden: a word
that one client alone has may be found in the vocabulary.
"""

from __future__ import annotations

import os

import tqdm
from absl import flags

from programs import cli, data_flags
from tff_tx import datasets, privacy, runtime
from tff_tx.analysis import vocabulary
from tff_tx.core import files
from tff_tx.core.errors import UserError
from tff_tx.run import directory as run_directory

FLAGS = flags.FLAGS
RECORD = "federated_vocabulary.json"

flags.DEFINE_string("output", None, "Directory for the tokenizer; one that this program wrote is replaced.")
flags.DEFINE_integer("vocab_size", 4096, "Entries of the vocabulary, at most.", lower_bound=1)
flags.DEFINE_enum(
    "tokenizer_type",
    "wordpiece",
    vocabulary.MODELS,
    "WordPiece, as BERT has it, or byte-level BPE, as GPT-2 has it, which keeps white space.",
)
flags.DEFINE_boolean("lowercase", False, "Puts texts into lower case and drops accents; WordPiece only.")
flags.DEFINE_integer(
    "max_words_per_client",
    500,
    "Different words that a client names, its most frequent ones; noise grows with the root of it.",
    lower_bound=1,
)
flags.DEFINE_integer("max_word_bytes", 20, "Longer words are left out.", lower_bound=1)
flags.DEFINE_integer(
    "clients_per_cohort", 10, "Clients whose words are added up at once; memory and time grow with it.", lower_bound=1
)
flags.DEFINE_float("target_epsilon", None, "Hides every client within this epsilon; default: no noise.")
flags.DEFINE_float("target_delta", None, "Delta of the guarantee; default: population^-1.1.")
flags.DEFINE_integer(
    "population",
    None,
    "Number of clients that the guarantee is for: each one here stands for as many alike ones; default: those here.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "dp_noise_seed",
    None,
    "Seed of the noise, for runs that can be repeated: protects nobody from those who know it. Default: the system's "
    "randomness.",
)
flags.DEFINE_integer("seed", 1, "Decides dealing and splitting, as that of programs.train.", lower_bound=0)


def main(_) -> None:
    """Counts words, releases those that may be known, and writes the tokenizer."""
    _check()
    runtime.configure_tensorflow()
    bounds = vocabulary.Bounds(FLAGS.max_words_per_client, FLAGS.max_word_bytes)
    encoder = vocabulary.WordsEncoder(FLAGS.tokenizer_type, FLAGS.lowercase, bounds)
    clients = datasets.load(data_flags.data_spec(FLAGS.seed), encoder).train
    mechanism, guarantee = _privacy(len(clients.client_ids))
    words = _release(_count(clients, bounds), mechanism, guarantee)
    if not words:
        raise UserError(
            f"no word passes the threshold of {mechanism.threshold:,.0f} clients: raise --target_epsilon, name fewer "
            f"words a client than --max_words_per_client={bounds.max_words}, or have a larger --population."
        )
    tokenizer = vocabulary.build_tokenizer(FLAGS.tokenizer_type, words, FLAGS.vocab_size, FLAGS.lowercase)
    record = {
        "flags": cli.flag_values(),
        "versions": run_directory.versions(),
        "clients": len(clients.client_ids),
        "words": len(words),
        "vocab_size": len(tokenizer),
        "privacy": guarantee,
    }
    _write(tokenizer, record)
    print(f"{len(words):,} words of {len(clients.client_ids):,} clients; {len(tokenizer):,} entries in {FLAGS.output}")
    print(_told(guarantee))


def _check():
    if not FLAGS.output:
        raise UserError("--output is missing: name a directory for the tokenizer.")
    if os.path.exists(FLAGS.output) and not os.path.exists(os.path.join(FLAGS.output, RECORD)):
        raise UserError(f"--output={FLAGS.output} exists, and this program did not write it: name another directory.")
    if FLAGS.lowercase and FLAGS.tokenizer_type != "wordpiece":
        raise UserError(
            f"--lowercase is for --tokenizer_type=wordpiece, and {FLAGS.tokenizer_type} keeps texts as they are: drop "
            "it."
        )
    vocabulary.check_size(FLAGS.tokenizer_type, FLAGS.vocab_size, FLAGS.lowercase)
    if FLAGS.target_epsilon is None:
        for name in ("target_delta", "population", "dp_noise_seed"):
            if FLAGS[name].value is not None:
                raise UserError(
                    f"--{name}={FLAGS[name].value} means nothing without --target_epsilon: give that too, or drop it."
                )


def _privacy(num_clients):
    """Noise and threshold, and what they guarantee; (None, None) without --target_epsilon."""
    if FLAGS.target_epsilon is None:
        return None, None
    population = FLAGS.population or num_clients
    if population < num_clients:
        raise UserError(f"--population={population} is less than the {num_clients} clients there are: raise it.")
    delta = privacy.delta_for(population, FLAGS.target_delta)
    mechanism = privacy.find_sparse_histogram(FLAGS.max_words_per_client, FLAGS.target_epsilon, delta)
    return mechanism, {
        "epsilon": FLAGS.target_epsilon,
        "delta": delta,
        "unit": "a client with all of its data",
        "adjacency": "data with and without one client",
        "setting": "central: the server is trusted to add the noise, and sees sums over cohorts without it",
        "output": "the tokenizer",
        "mechanism": "Gaussian noise on how many clients have a word, and a threshold (sparse histogram)",
        "population": population,
        "clients_here": num_clients,
        "words_per_client": mechanism.max_items,
        "count_per_word_and_client": 1,
        "noise_stddev": mechanism.noise_stddev,
        "threshold": mechanism.threshold,
        "release_probability_of_one_clients_word": mechanism.release_probability(1),
        "noise_seed_given": FLAGS.dp_noise_seed is not None,
        "outside": "the number of clients, and what is learned by running this again on the same clients",
    }


def _count(clients, bounds):
    with tqdm.tqdm(total=len(clients.client_ids), desc="Counting words", unit=" clients", dynamic_ncols=True) as bar:
        return vocabulary.count_words(
            clients,
            bounds,
            clients_per_cohort=min(FLAGS.clients_per_cohort, len(clients.client_ids)),
            threads=len(os.sched_getaffinity(0)),
            on_progress=lambda done: bar.update(done - bar.n),
        )


def _release(counts, mechanism, guarantee):
    if mechanism is None:
        return counts
    return vocabulary.release(
        counts, mechanism, stands_for=guarantee["population"] / guarantee["clients_here"], seed=FLAGS.dp_noise_seed
    )


def _write(tokenizer, record):
    parent, name = os.path.split(os.path.abspath(FLAGS.output))
    files.make_directory(parent, "--output")

    def save(directory):
        tokenizer.save_pretrained(directory)
        files.write_json(os.path.join(directory, RECORD), record)

    files.write_directory(parent, name, save)


def _told(guarantee):
    if guarantee is None:
        return "No noise: nothing hides a client. --target_epsilon does."
    seeded = (
        " The noise was seeded, which protects nobody from those who know the seed."
        if guarantee["noise_seed_given"]
        else ""
    )
    return (
        f"({guarantee['epsilon']:g}, {guarantee['delta']:.3g})-differential privacy of {guarantee['unit']}, "
        f"{guarantee['adjacency']}, for {guarantee['population']:,} clients: each names "
        f"{guarantee['words_per_client']:,} words at most, once; noise of standard deviation "
        f"{guarantee['noise_stddev']:.4g} on how many clients have a word, and none below "
        f"{guarantee['threshold']:.4g} is released. A word of one client alone is released with probability "
        f"{guarantee['release_probability_of_one_clients_word']:.2g}. The server is trusted with sums.{seeded}"
    )


if __name__ == "__main__":
    cli.run(main)
