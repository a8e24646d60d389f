"""How clients' pipelines run."""

import tensorflow as tf

from tff_tx import runtime


def test_numbered_is_enumerate():
    letters = tf.data.Dataset.from_tensor_slices(["a", "b", "c"])
    numbered, enumerated = runtime.numbered(letters), letters.enumerate()
    assert numbered.element_spec == enumerated.element_spec
    pairs = list(numbered.as_numpy_iterator())
    assert pairs == list(enumerated.as_numpy_iterator()) == [(0, b"a"), (1, b"b"), (2, b"c")]


def test_numbered_ends_with_the_elements():
    assert not list(runtime.numbered(tf.data.Dataset.range(0)))
    assert len(list(runtime.numbered(tf.data.Dataset.range(3).repeat(4)))) == 12
