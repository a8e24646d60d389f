"""How every program starts and ends: a sentence instead of a traceback for a mistake."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Callable, NoReturn

from absl import app, flags, logging

import programs
from tff_tx.core.errors import UserError

# What the shell gets to see for a wrong flag or wrong data; any other failure is 1.
USER_ERROR_CODE = 2


def run(main: Callable[[list], object]) -> NoReturn:
    """Parses the flags, runs `main(argv)` and ends the process.

    The exit code is 0 when `main` returns None (or what it returns), 2 for a wrong flag, a
    left-over argument or a `UserError`, whose message goes to stderr, and 1 with a traceback for
    anything else.
    """
    if "tensorflow_federated" in sys.modules:
        # Ends what TFF has started when the program ends. Programs that do without it need not wait for it.
        importlib.import_module("tff_tx.runtime")
    gc.freeze()  # what is imported stays
    gc.set_threshold(*programs.usual_gc_threshold)
    app.run(_guarded(main), flags_parser=_parse)


def flag_values() -> dict:
    """The values of this project's flags, by name."""
    by_module = flags.FLAGS.flags_by_module_dict()
    ours = [m for m in by_module if m.startswith("programs") or m == sys.argv[0]]
    return {f.name: f.value for m in ours for f in by_module[m]}


def _guarded(main: Callable) -> Callable:
    def guarded(argv: list):
        try:
            if len(argv) > 1:
                raise UserError(f"The argument {argv[1]!r} belongs to no flag; write --flag=value, see --help.")
            return main(argv)
        except UserError as error:
            print(f"Error: {error}", file=sys.stderr)
            return USER_ERROR_CODE

    return guarded


def _print_help() -> None:
    """The program's own words and its flags, room by room."""
    main = sys.modules["__main__"]
    rooms = sorted(m for m in flags.FLAGS.flags_by_module_dict() if m.startswith("programs."))
    print(f"{main.__doc__ or ''}\n")
    for room in (sys.argv[0], *rooms):
        print(flags.FLAGS.module_help(room))
    print("\nWith --flagfile=FILE flags are read from a file. --helpfull lists the flags of all libraries too.")


def _parse(argv: list) -> list:
    if "--help" in argv[1:] or "-help" in argv[1:]:
        _print_help()
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        print(f"Error: {error}; see --help.", file=sys.stderr)
        sys.exit(USER_ERROR_CODE)
    if flags.FLAGS["verbosity"].using_default_value:
        # Otherwise absl turns INFO on, and libraries' notes drown the program's own words.
        flags.FLAGS.verbosity = logging.WARNING
    return rest
