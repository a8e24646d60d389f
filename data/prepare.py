"""What the prepare scripts share: check a file against its checksum, then convert it."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Mapping
from typing import Callable

from tff_tx.core.errors import UserError

# (path of the input, path of the output, the switches by name) -> None
Convert = Callable[..., None]


def run(checksums: Mapping[str, str], convert: Convert | None = None, **switches: str) -> None:
    """The program of a prepare script; exits with code 2 if a file or a flag is wrong.

    Args:
      checksums: File name -> SHA-256. With one file `--input` is the file, whatever it is called; with several it is
        the folder that has them.
      convert: Writes the output from the input; None if the programs read the input as it is.
      **switches: Name of a flag that is on or off -> its help; a keyword argument of `convert`.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--input", required=True, help="The file, or the folder with the files, as downloaded.")
    if convert is not None:
        parser.add_argument("--output", required=True, help="Where to write the converted file.")
    for name, text in switches.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    arguments = parser.parse_args()
    try:
        for name, checksum in checksums.items():
            check(os.path.join(arguments.input, name) if len(checksums) > 1 else arguments.input, checksum)
        if convert is None:
            print(f"{arguments.input} is what README.md describes; train on it as it is.")
        else:
            _write(arguments.output, lambda path: convert(arguments.input, path, **_chosen(arguments, switches)))
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


def _chosen(arguments, switches) -> dict:
    return {name: getattr(arguments, name) for name in switches}


def _write(output: str, write_fn: Callable[[str], None]) -> None:
    scratch = output + ".tmp"
    try:
        write_fn(scratch)
        os.replace(scratch, output)
    except OSError as error:
        raise UserError(f"--output: cannot write {output} ({error.strerror}); name another place.") from error
    print(f"Wrote {output}.")


def check(path: str, checksum: str) -> None:
    """Checks a file's SHA-256.

    Raises:
      UserError: If there is no such file or it has other content.
    """
    if not os.path.isfile(path):
        raise UserError(f"--input: there is no file {path!r}; correct the path.")
    with open(path, "rb") as file:
        found = hashlib.sha256(file.read()).hexdigest()
    if found != checksum:
        raise UserError(
            f"--input: {path} has the SHA-256 {found[:12]}... and not {checksum[:12]}...; "
            "download it again from where README.md says."
        )
