"""Settings of federations whose parties know different things of the same people."""

from __future__ import annotations

import dataclasses

from tff_tx.config.option import Section, option

NORMALIZATIONS = ("text", "digits", "exact")
MATCHES = ("ecdh", "keyed")


@dataclasses.dataclass(frozen=True)
class AlignConfig(Section, name="align"):
    """Private set intersection."""

    ids: tuple[str, ...] = option(
        (), "Tables with identifiers, a party each; over a connection this party's own alone."
    )
    id_columns: tuple[str, ...] = option((), "Columns that together identify a row.")
    normalize: str = option(
        "text",
        "Normalization of identifiers: NFKC, case folding and single blanks (text); only the digits of that (digits); "
        "or none (exact).",
        choices=NORMALIZATIONS,
    )
    match: str = option(
        "ecdh",
        "How identifiers are compared: masked by a secret of each party, or as HMAC-SHA256 under {align.key_file}, "
        "whose holders can try any identifier.",
        choices=MATCHES,
    )
    key_file: str | None = option(None, "File with the secret that the parties share, with {align.match}=keyed.")
    output_dir: str = option("aligned", "Directory for the orders of rows, a file NAME.json for each party.")
    most_identifiers: int | None = option(
        None, "A party with more identifiers is rejected; default: ten times this party's own.", least=1
    )
    threads: int | None = option(None, "Threads; default: one per processor.", least=1, most=1024)
    address: str | None = option(None, "Address to listen at, host:port: this party coordinates.", is_address=True)
    peers: tuple[str, ...] = option((), "Names of the other parties' certificates, for {align.address}.")
    participants: str | None = option(
        None, "List of participants that programs.certs wrote; default: the one beside the kit of {align.certificate}."
    )
    coordinator: str | None = option(None, "Address of the party that coordinates, host:port.", is_address=True)
    certificate: str | None = option(None, "Directory of this party's kit (programs.certs).")


SECTIONS = (AlignConfig,)
