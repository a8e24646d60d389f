"""Weights read from a file by a graph: the same to the bit, in little of the graph, also in another process."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tff_tx import algorithms, models, runtime
from tff_tx.models.weights_file import WeightsFile

RNG = np.random.default_rng(0)
ARRAYS = [
    RNG.normal(size=[3, 5]).astype(np.float32),
    RNG.normal(size=[700, 600]).astype(np.float32),
    RNG.normal(size=[2, 1000, 500]).astype(tf.bfloat16.as_numpy_dtype),
    RNG.normal(size=[4]).astype(tf.bfloat16.as_numpy_dtype),
    np.arange(400_000, dtype=np.int32).reshape(1000, 400)[:, ::-1],  # not contiguous
    np.float32(3.0),
]


@pytest.fixture(scope="module")
def written():
    return WeightsFile(ARRAYS)


def test_the_graph_gives_the_arrays(written):
    with tf.Graph().as_default() as graph:
        tensors = written.tensors()
        found = tf.compat.v1.Session().run(tensors)
    for array, tensor, value in zip(ARRAYS, tensors, found):
        assert tensor.shape == array.shape
        assert value.dtype == array.dtype
        np.testing.assert_array_equal(value, array)
    assert len(graph.as_graph_def().SerializeToString()) < 50_000 < sum(a.nbytes for a in ARRAYS)


def test_a_graph_outlives_what_it_was_made_of_and_equal_arrays_share_a_file(written):
    with tf.Graph().as_default() as graph:
        tensors = WeightsFile(ARRAYS).tensors()
        gc.collect()
        found = tf.compat.v1.Session(graph=graph).run(tensors[1])
    np.testing.assert_array_equal(found, ARRAYS[1])
    assert WeightsFile(ARRAYS)._file is written._file
    assert WeightsFile(ARRAYS[:2])._file is not written._file


@pytest.mark.slow
def test_another_process_can_run_it_and_no_file_has_a_name(written, tmp_path):
    with tf.Graph().as_default() as graph:
        names = [t.name for t in written.tensors()]
    (tmp_path / "graph").write_bytes(graph.as_graph_def().SerializeToString())
    code = (
        "import sys, tensorflow as tf\n"
        "d = tf.compat.v1.GraphDef.FromString(open(sys.argv[1], 'rb').read())\n"
        "with tf.Graph().as_default():\n"
        "    t = tf.import_graph_def(d, return_elements=[sys.argv[2]])\n"
        "    print(float(tf.compat.v1.Session().run(t)[0].sum()))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "graph"), names[4]]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "HOME": "/"})
    assert float(told.stdout) == ARRAYS[4].sum()
    assert "(deleted)" in os.readlink(f"/proc/{os.getpid()}/fd/{written._file.fileno()}")


@pytest.mark.parametrize("engine", [runtime.LocalEngine, runtime.NativeEngine])
def test_a_process_begins_with_them_on_every_engine(engine):
    model = tf.keras.Sequential([tf.keras.layers.Input([700]), tf.keras.layers.Dense(600)])
    functional = models.functional_model(model, models.classification("classification"), tf.TensorSpec([None, 700]))
    assert functional.initial_weights[0][0].nbytes > 1_000_000
    options = algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        client_learning_rate=0.1,
    )
    with engine(algorithms.build_fed_avg(functional, options)) as running:
        weights = running.model_weights(running.initialize())
    for value, expected in zip(weights.trainable, functional.initial_weights[0]):
        np.testing.assert_array_equal(value, expected)
