"""Operations without Python stacks."""

import threading

import pytest
import tensorflow as tf

from tff_tx.runtime.internals import stacks


@pytest.fixture(autouse=True)
def outside(monkeypatch):
    """Where nothing has entered, other than in the session of the tests."""
    monkeypatch.setattr(stacks.tf_stack, "extract_stack", stacks._EXTRACT)
    monkeypatch.setattr(stacks, "_inside", 0)


def has_stack():
    with tf.Graph().as_default():
        return "has_stack" in [frame.name for frame in tf.constant(1).op.traceback]


def test_operations_are_made_without_stacks():
    assert has_stack()
    with stacks.without_stacks():
        assert not has_stack()
        with pytest.raises(ZeroDivisionError), stacks.without_stacks():
            1 / 0
        assert not has_stack()
    assert has_stack()


def test_threads_that_end_in_any_order_leave_stacks_as_they_were():
    entered, left = threading.Event(), threading.Event()

    def other():
        with stacks.without_stacks():
            entered.set()
            left.wait()

    thread = threading.Thread(target=other)
    with stacks.without_stacks():
        thread.start()
        entered.wait()
    assert not has_stack()
    left.set()
    thread.join()
    assert has_stack()
