"""How clients' pipelines run."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tff_tx import algorithms, runtime
from tff_tx.core.errors import UserError
from tff_tx.runtime.form import RoundForm

ATTRIBUTE = "experimental_ints_on_device"


def test_numbered_is_enumerate():
    letters = tf.data.Dataset.from_tensor_slices(["a", "b", "c"])
    numbered, enumerated = runtime.numbered(letters), letters.enumerate()
    assert numbered.element_spec == enumerated.element_spec
    pairs = list(numbered.as_numpy_iterator())
    assert pairs == list(enumerated.as_numpy_iterator()) == [(0, b"a"), (1, b"b"), (2, b"c")]


def test_numbered_ends_with_the_elements():
    assert not list(runtime.numbered(tf.data.Dataset.range(0)))
    assert len(list(runtime.numbered(tf.data.Dataset.range(3).repeat(4)))) == 12


def batches_of(client_id):
    """Draws, nested pipelines, strings and numbers of several types."""
    seed = tf.stack([tf.constant(3, tf.int64), tf.strings.to_hash_bucket_fast(client_id, 1000)])

    def drawn(i):
        row_seed = tf.random.experimental.stateless_fold_in(seed, i)
        return collections.OrderedDict(
            i=tf.cast(i, tf.int32),
            name=tf.strings.join([client_id, tf.strings.as_string(i)]),
            x=tf.random.stateless_normal([2], row_seed) * tf.cast(i, tf.float32),
        )

    passes = tf.data.Dataset.range(2).flat_map(
        lambda epoch: tf.data.Dataset.range(5).map(lambda i: i + 10 * epoch).map(drawn)
    )
    return passes.filter(lambda row: tf.not_equal(row["i"], 3)).batch(4)


def functions(graph):
    """Name -> whether it is built for one device, of all functions of a graph."""
    return {f.signature.name: f.attr[ATTRIBUTE].b for f in graph.as_graph_def().library.function}


def test_a_reader_reads_what_the_pipeline_has():
    reader = runtime.ClientReader(batches_of)
    assert reader.element_spec == batches_of(tf.constant("")).element_spec
    for client_id in ("a", "b"):
        found, expected = list(reader(client_id)), list(batches_of(tf.constant(client_id)))
        assert len(found) == len(expected) == 3
        tf.nest.map_structure(np.testing.assert_array_equal, found, expected)
    graph = reader._variant._function._function.graph
    assert len(functions(graph)) > 3
    assert all(functions(graph).values())


def test_a_reader_tells_what_cannot_be_read():
    def unreadable(client_id):
        return tf.data.Dataset.from_tensors(client_id).map(lambda c: tf.strings.to_number(c))

    reader = runtime.ClientReader(unreadable)
    assert [x.numpy() for x in reader("2")] == [2.0]
    with pytest.raises(UserError, match="the data of the client 'two' cannot be read .* convert string: two"):
        next(reader("two"))


def test_only_functions_of_pipelines_are_simplified(digits_task):
    task = tiny.linear_digits_task(digits_task)
    options = algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
    )
    form = RoundForm.of(task.process(algorithms.build_fed_avg(task.model, options)))
    graph = form.graph("work").graph
    step = next(op for op in graph.get_operations() if op.type == "ReduceDataset").get_attr("f").name
    simple = functions(graph)
    called = {op.get_attr("f").name for op in graph.get_operations() if op.type in ("MapDataset", "FlatMapDataset")}
    assert step not in called
    assert len(called) > 1
    assert all(simple[name] for name in called)
    assert not simple[step]
    assert not any(functions(form.graph("update").graph).values())
