"""A plug-in that sends its own program a signal when it comes to a phase: `--import=tests.programs.signalled`.

The phase is named by the environment, as module:function.
"""

import importlib
import os
import signal
import sys

_module, _, _path = os.environ["SIGNALLED_PHASE"].partition(":")
_owner = importlib.import_module(_module)
*_classes, _name = _path.split(".")
for _class in _classes:
    _owner = getattr(_owner, _class)
_phase = getattr(_owner, _name)


def _signalled(*arguments, **more):
    os.kill(os.getpid(), signal.SIGTERM)
    return _phase(*arguments, **more)


setattr(_owner, _name, _signalled)
for _importer in list(sys.modules.values()):  # modules that have the function by `from ... import`
    if getattr(_importer, _name, None) is _phase:
        setattr(_importer, _name, _signalled)
