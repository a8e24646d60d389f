"""How programs start and end: flags made of the configuration, and a sentence for a mistake."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NoReturn

from absl import app, flags, logging

import programs
from programs import interrupts, scratch
from tff_tx.config import FIELDS, SECTIONS, RunConfig, Section, flag_of, show
from tff_tx.core.errors import Interrupted, UserError, name_settings
from tff_tx.core.text import one_line, show_controls

FLAGS = flags.FLAGS

USER_ERROR_CODE = 2
"""Exit code of a wrong flag or wrong data; any other failure is 1."""

_IMPORT = "import"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the command line says.

    Attributes:
      config: The configuration of a run.
      sections: The program's own sections, by class.
      given: Paths of the settings that the command line names.
    """

    config: RunConfig
    sections: dict[type[Section], Section]
    given: frozenset[str]

    def __getitem__(self, section: type[Section]) -> Any:
        return self.sections[section]


class Program:
    """A program with flags for some settings.

    Args:
      main: Of `Settings`.
      *own: The program's own sections.
      settings: Paths of settings of a run that it has flags for, or names of whole sections.
      resumes: Whether the same command goes on where it was interrupted.
    """

    def __init__(
        self, main: Callable[[Settings], None], *own: type[Section], settings: Sequence[str] = (), resumes: bool = False
    ):
        self._main, self._own, self._resumes = main, own, resumes
        names = {path.partition(".")[0] for path in settings}
        of_run = [s for s in SECTIONS if s.section in names]
        chosen = {p for p, f in FIELDS.items() if p in settings or f.section in settings}
        self._groups = [(s.title(), [f for f in s.fields() if f.path in chosen]) for s in of_run]
        self._groups = [*((s.title(), list(s.fields())) for s in own), *self._groups]
        self.fields = {field.path: field for _, group in self._groups for field in group}

    def run(self) -> NoReturn:
        """Parses the command line, runs `main` and ends the process.

        The exit code is 0 when `main` returns, 2 for a wrong flag, a left-over argument or a `UserError`, whose message
        goes to standard error, 128 and its number for a signal, and 1 with a traceback for anything else.
        """
        interrupts.install()
        with interrupts.ending():
            try:
                scratch.use()
            except OSError:
                print(f"Error: {scratch.problem()}", file=sys.stderr)
                sys.exit(USER_ERROR_CODE)
            name_settings(self._name)
            show_controls(sys.stdout, "")
            show_controls(sys.stderr, "\r")  # progress bars go back to the beginning of their line
            app.run(self._guarded, flags_parser=self._parse)

    def _guarded(self, argv: list) -> int | None:
        try:
            if len(argv) > 1:
                raise UserError(f"The argument {argv[1]!r} belongs to no flag; write --flag=value, see --help.")
            self._main(self._settings())
            return None
        except UserError as error:
            print(f"Error: {self._remedy(error)}", file=sys.stderr)
            return USER_ERROR_CODE
        except (Interrupted, KeyboardInterrupt) as interruption:
            return self._stopped(str(interruption))
        except MemoryError as error:
            print(f"Error: the memory is too small ({one_line(error)}): lower the sizes that are set.", file=sys.stderr)
            return USER_ERROR_CODE
        except Exception:
            if interrupts.exit_code(0):  # libraries make errors of their own of an interrupt
                return self._stopped()
            if (problem := scratch.problem()) is None:
                raise
            print(f"Error: {problem}", file=sys.stderr)
            return USER_ERROR_CODE

    def _stopped(self, why: str = "") -> int:
        more = "; the same command resumes it" if self._resumes else ""
        print(f"\n{why or interrupts.describe()}{more}.", file=sys.stderr)
        return interrupts.exit_code()

    def _settings(self) -> Settings:
        given = {path: FLAGS[field.flag].value for path, field in self.fields.items() if FLAGS[field.flag].present}
        own = {
            section: section(**{f.name: given[f.path] for f in section.fields() if f.path in given})
            for section in self._own
        }
        config = RunConfig.of({path: value for path, value in given.items() if path in FIELDS})
        return Settings(config, own, frozenset(given))

    def _name(self, path: str) -> str:
        return f"--{self.fields[path].flag}" if path in self.fields else flag_of(path)

    def _remedy(self, error: UserError) -> str:
        """The message of an error; of programs for trained runs with that settings without a flag are the run's."""
        named: list[str] = []
        text = error.describe(lambda path: named.append(path) or self._name(path))
        flags = {field.flag for field in self.fields.values()}
        lacking = [FIELDS[path] for path in dict.fromkeys(named) if path in FIELDS and FIELDS[path].flag not in flags]
        of_run = not self._resumes and any(field.name == "run_dir" for field in self.fields.values())
        if not (lacking and of_run) or "train with" in text:
            return text
        text += f" This program has no {' or '.join(f'--{field.flag}' for field in lacking)}: it goes by what the run "
        of_files = any(field.section == "data" for field in lacking)
        return text + "was trained with" + ("; write files as those of training are written." if of_files else ".")

    def _parse(self, argv: list) -> list:
        try:
            argv = FLAGS.read_flags_from_files(argv)
            _import_plugins(argv)
            self._define()
            if "--help" in argv[1:] or "-help" in argv[1:]:
                print("\n".join(self._help()))
                sys.exit(0)
            rest = FLAGS(argv)
        except (flags.Error, UserError) as error:
            print(f"Error: {self._explain(error)}", file=sys.stderr)
            sys.exit(USER_ERROR_CODE)
        if FLAGS["verbosity"].using_default_value:
            # Otherwise absl turns INFO on, and libraries' notes drown the program's own words.
            FLAGS.verbosity = logging.WARNING
        return rest

    def _define(self):
        flags.DEFINE_multi_string(_IMPORT, [], "Module of plug-ins to import before flags are parsed; may be repeated.")
        for field in self.fields.values():
            define = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float}
            define = define.get(field.type, flags.DEFINE_string)
            if field.type is tuple:
                define = flags.DEFINE_multi_string if field.option.repeated else flags.DEFINE_list
            define(field.flag, None, field.option.help)

    def _explain(self, error: Exception) -> str:
        if isinstance(error, UserError):
            return error.describe(self._name)
        name = getattr(error, "flagname", "")
        for field in (*self.fields.values(), *FIELDS.values()):
            for former in field.option.formerly:
                if name in (former, f"no{former}"):
                    return f"--{former} was renamed: use --{field.flag}."
        return f"{error}; see --help."

    def _help(self) -> Iterator[str]:
        yield (sys.modules[self._main.__module__].__doc__ or "").strip()
        for title, group in self._groups:
            yield f"\n{title}:"
            for field in group:
                facts = [show(choice) for choice in field.option.choices or ()]
                default = "" if field.default in (None, (), {}) else f"; default: {show(field.default)}"
                head = f"  --{'[no]' if field.type is bool else ''}{field.flag}{default}"
                text = field.help(self._name) + (f" One of: {', '.join(facts)}." if facts else "")
                yield from (head, *textwrap.wrap(text, 110, initial_indent="      ", subsequent_indent="      "))
        yield "\n--import=MODULE imports plug-ins first. --flagfile=FILE reads flags from a file."


def end_of_imports() -> None:
    """To be called when all is imported: garbage collection becomes what is usual."""
    gc.freeze()  # what is imported stays
    gc.set_threshold(*programs.usual_gc_threshold)


def _import_plugins(argv: list) -> None:
    """Imports the modules of --import, which may register algorithms, aggregators, tasks and file formats."""
    sys.path.insert(0, os.getcwd())
    for argument, following in zip(argv[1:], [*argv[2:], ""]):
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == _IMPORT:
            module = value if equals else following
            try:
                importlib.import_module(module)
            except (ImportError, ValueError) as error:
                raise UserError(f"--import={module} cannot be imported ({error}): check its name and path.") from error
