"""Signals that end a program: the first as Ctrl-C, wherever it is; a second one at once.

A program ends by itself as soon as what is registered for its end has run: while Python takes itself apart, and
libraries their threads, which can take seconds, a signal would find nobody and kill the process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator

from programs import scratch
from tff_tx.core.interruption import received as _received

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SOON = 0.05  # seconds

_codes: list = []


def install() -> None:
    """Has signals raise KeyboardInterrupt, but for those that are ignored, as after `nohup`."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    if sys.excepthook is not _on_exception:
        sys.excepthook, sys.unraisablehook = _on_exception, _on_lost_exception
        atexit.register(_at_exit)  # before all others, so that it is called after them


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Remembers the exit code of the program that ends here."""
    try:
        yield
    except SystemExit as end:
        _codes.append(end.code or 0)
        raise


def exit_code(default: int = 1) -> int:
    """128 and the signal's number, if one has come."""
    return 128 + _received[0] if _received else default


def describe() -> str:
    """What has ended the program, for its last sentence."""
    return f"stopped by {signal.Signals(_received[0]).name}" if _received else "stopped"


def _on_signal(number, frame):
    _received.append(number)
    if number == signal.SIGHUP:
        _leave_terminal()
    if len(_received) > 1:
        _end(exit_code())
    raise KeyboardInterrupt


def _leave_terminal():
    """Sends what would be written to a terminal that is gone nowhere."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(nowhere, descriptor)


def _on_exception(kind, error, traceback):
    """While a program is imported, or ends, nobody else catches the interrupt."""
    if not issubclass(kind, KeyboardInterrupt) or not _received:
        sys.__excepthook__(kind, error, traceback)
        return
    print(f"{describe()}.", file=sys.stderr)
    _codes.append(exit_code())


def _at_exit():
    """Ends the process, also one whose interrupt nobody has caught, if its exit code is known."""
    if _codes:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        code = _codes[-1]
        try:
            sys.stdout.flush()
        except (OSError, ValueError) as error:  # nobody reads it, it is closed, or the disk is full
            code = code or 2
            with contextlib.suppress(OSError, ValueError):
                print(f"Error: the output cannot be written ({getattr(error, 'strerror', error)}).", file=sys.stderr)
        _end(code)


def _on_lost_exception(lost):
    """Sends a signal again whose exception was raised where Python drops it, as in a destructor."""
    if issubclass(lost.exc_type, KeyboardInterrupt) and _received:
        threading.Timer(_SOON, os.kill, (os.getpid(), _received.pop())).start()
    else:
        sys.__unraisablehook__(lost)


def _end(code):
    """Ends the process at once, without its temporary files."""
    scratch.remove()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)
