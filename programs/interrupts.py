"""Signals that end a program: the first as Ctrl-C, wherever it is; a second one at once."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import stat
import sys
import threading

from programs import scratch

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SOON = 0.05  # seconds

_received: list = []
_uncaught: list = []


def install() -> None:
    """Has signals raise KeyboardInterrupt, but for those that are ignored, as after `nohup`."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    sys.excepthook, sys.unraisablehook = _on_exception, _on_lost_exception
    atexit.register(_at_exit)  # before all others, so that it is called after them


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
        _end()
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
    _uncaught.append(error)


def _at_exit():
    """Gives a program that nobody has caught the interrupt of its exit code."""
    if _uncaught:
        _end()


def _on_lost_exception(lost):
    """Sends a signal again whose exception was raised where Python drops it, as in a destructor."""
    if issubclass(lost.exc_type, KeyboardInterrupt) and _received:
        threading.Timer(_SOON, os.kill, (os.getpid(), _received.pop())).start()
    else:
        sys.__unraisablehook__(lost)


def _end():
    """Ends the process at once, without its temporary files."""
    scratch.remove()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(exit_code())
