"""The end of TFF's default context, which prints an error when it is left to the end of Python.

TFF sets it when it is imported, used or not. Its destructor needs modules that Python has deleted by then: it fails
with a message, and leaves its worker, if there is one, to outlive the program.
"""

from __future__ import annotations

import atexit
import signal

import psutil
import tensorflow_federated as tff
from tensorflow_federated.python.core.impl.context_stack import set_default_context

_stack = tff.framework.get_context_stack()
_default = _stack.current


@atexit.register
def _let_go() -> None:
    """Lets go of the default context, so that its destructor runs while it can and ends its own worker, if any.

    A context that was set by the program since is left alone, and so are all other processes.
    """
    global _default
    if _stack.current is _default and not _would_wait_for_ever():
        set_default_context.set_no_default_context()
    _default = None


def _would_wait_for_ever() -> bool:
    """Whether the destructor would: it interrupts a worker that ignores it, as in `nohup python x.py &`."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return ignored and any("worker_binary" in child.name() for child in psutil.Process().children())
