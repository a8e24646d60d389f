"""Forms of processes that were compiled before, in a directory.

A form is a function of the process, of this package's code and of the libraries that compile it, and is stored under
the digest of them all: what is found is what would be made, whichever configuration the process is from. The first
state is no part of it; it is made anew, and neither a model's weights nor the seed of private noise get to the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import zipfile

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core import files
from tff_tx.runtime.form import RoundForm

_MODULI, _INITIALIZE, _ENDING = "moduli", "initialize", ".form"


def compiled(process: tff.learning.templates.LearningProcess, directory: str, most: int = 16) -> RoundForm:
    """The form of a process, from the directory if it is there; otherwise it is made, and stored if that can be.

    Args:
      process: Without secrets among its constants.
      directory: It is made if it is missing, for its owner alone.
      most: Number of forms to store, those that were used last.
    """
    path = os.path.join(directory, _name(process))
    with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
        parts = _read(path) if _is_own(directory) and _is_own(path) else {}
        os.utime(path)
        moduli = tuple(json.loads(parts.pop(_MODULI)))
        return RoundForm({**parts, _INITIALIZE: RoundForm.initial(process)}, moduli)
    form = RoundForm.of(process)
    with contextlib.suppress(OSError):
        files.make_private(directory)
        if not _is_own(directory):
            return form
        parts = {name: part for name, part in form.computations.items() if name != _INITIALIZE}
        # Of processes that write the same form at once one may move another's file: an archive without its end is none.
        with files.atomic(path, "wb", durable=False, private=True) as file, zipfile.ZipFile(file, "w") as archive:
            for name, part in {**parts, _MODULI: json.dumps(form.moduli).encode()}.items():
                archive.writestr(name, part)
        forms = [entry.path for entry in os.scandir(directory) if entry.name.endswith(_ENDING)]
        for old in sorted(forms, key=os.path.getmtime)[:-most]:
            os.remove(old)
    return form


def _is_own(path):
    """Whether nobody else can have put a graph there, which could read and write this user's files."""
    found = os.stat(path)
    return found.st_uid == os.getuid() and not found.st_mode & 0o077


def _name(process):
    """Named by all that a form depends on."""
    found = hashlib.sha256()
    versions = platform.python_version(), tf.version.VERSION, tff.__version__, np.__version__
    found.update(repr(versions).encode())
    found.update(files.code_digest(os.path.dirname(__file__)).encode())
    found.update(tff.framework.serialize_computation(process.next).SerializeToString(deterministic=True))
    return found.hexdigest()[:40] + _ENDING


def _read(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}  # which checks that they are whole
