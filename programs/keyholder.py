"""Holds the key of sums of ciphertexts: `python -m programs.keyholder --coordinator=HOST:PORT --certificate=DIR`.

For plans with --secure_aggregation=bfv. It only dials out, and stays; it needs no data, and gets no participant's
ciphertext. It decrypts one sum a round, of at least --least_participants. It must not be the coordinator's party: both
together read what each participant sent.
"""

from __future__ import annotations

from programs import cli, participate
from tff_tx.config.tools import KeyHolderConfig


def main(settings: cli.Settings) -> None:
    def made(own, approve):
        from tff_tx.run.assemble import secure

        secure.require_encryption()
        from tff_tx.run.key_holder import KeyHoldingMember

        return KeyHoldingMember(own, approve)

    participate.serve(settings[KeyHolderConfig], made, "coordinator", "certificate")


PROGRAM = cli.Program(main, KeyHolderConfig)

if __name__ == "__main__":
    PROGRAM.run()
