"""What the prepare scripts share: check a file against its checksum, then convert it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Callable

from absl import flags

from programs import cli
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

# (path of the input, path of the output) -> None
Convert = Callable[[str, str], None]


def run(checksums: Mapping[str, str], convert: Convert | None = None) -> None:
    """The program of a prepare script.

    Args:
        checksums: File name -> SHA-256. With one file `--input` is the file, whatever it is called;
            with several it is the folder that has them.
        convert: Writes the output from the input; None if the programs read the input as it is.
    """
    flags.DEFINE_string("input", None, "The file, or the folder with the files, as downloaded.")
    if convert is not None:
        flags.DEFINE_string("output", None, "Where to write the converted file.")

    def main(_) -> None:
        if not FLAGS.input:
            raise UserError("--input is missing; name what you downloaded, see README.md.")
        if convert is not None and not FLAGS.output:
            raise UserError("--output is missing; name the file to write.")
        for name, checksum in checksums.items():
            check(os.path.join(FLAGS.input, name) if len(checksums) > 1 else FLAGS.input, checksum)
        if convert is None:
            print(f"{FLAGS.input} is what README.md describes; train on it as it is.")
            return
        scratch = FLAGS.output + ".tmp"
        try:
            convert(FLAGS.input, scratch)
        except OSError as error:
            raise UserError(f"--output: cannot write {FLAGS.output} ({error.strerror}); name another place.") from error
        os.replace(scratch, FLAGS.output)
        print(f"Wrote {FLAGS.output}.")

    cli.run(main)


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
