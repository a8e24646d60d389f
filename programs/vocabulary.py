"""Learns a vocabulary from clients' texts: `python -m programs.vocabulary --vocab_size=2000 --output=runs/vocabulary`.

Each training client names a bounded number of its words, sums count how many clients have each, and pieces of those
words become a Hugging Face tokenizer in --output, for `programs.train --tokenizer`. With --target_epsilon counts are
noised and words below a threshold are left out, so that every client has (epsilon, delta)-differential privacy; the
guarantee is printed, and in federated_vocabulary.json beside the tokenizer. Without it there is none: a word that one
client alone has may be in the vocabulary.
"""

from __future__ import annotations

from programs import cli
from tff_tx.config.tools import VocabularyConfig


def main(settings: cli.Settings) -> None:
    from tff_tx.run import vocabulary

    cli.end_of_imports()
    print(vocabulary.learn_vocabulary(settings.config, settings[VocabularyConfig]))


PROGRAM = cli.Program(
    main,
    VocabularyConfig,
    settings=[
        *("data", "run.seed", "privacy.target_epsilon", "privacy.target_delta", "privacy.population"),
        "privacy.noise_seed",
    ],
)

if __name__ == "__main__":
    PROGRAM.run()
