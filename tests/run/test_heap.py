"""What a run does about garbage."""

import contextlib
import gc
import weakref

import pytest

from tff_tx.run import loop
from tff_tx.run.loop import _settled_heap  # the suite runs without, see conftest


class Cycle:
    """It refers to itself."""

    def __init__(self):
        self.self = self


def test_a_program_that_froze_its_imports_keeps_them_so():
    garbage = weakref.ref(Cycle())
    frozen = gc.get_freeze_count()
    assert frozen, "by conftest, as by a program"
    with _settled_heap():
        assert garbage() is None
        assert gc.get_freeze_count() == pytest.approx(frozen, rel=0.01), "but for what nobody refers to any more"
    assert gc.get_freeze_count() == pytest.approx(frozen, rel=0.01)


def test_elsewhere_what_is_there_is_not_looked_through_while_a_run_lasts(monkeypatch):
    called = []
    monkeypatch.setattr(loop.gc, "get_freeze_count", lambda: 0)
    for name in ("freeze", "unfreeze"):
        monkeypatch.setattr(loop.gc, name, lambda name=name: called.append(name))
    with contextlib.suppress(KeyError), _settled_heap():
        assert called == ["freeze"]
        raise KeyError
    assert called == ["freeze", "unfreeze"]
