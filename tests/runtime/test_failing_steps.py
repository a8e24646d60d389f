"""Steps that fail within the graphs of real architectures, hundreds of them, on several threads: nothing hangs."""

import collections
import concurrent.futures
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import processes
from tests.models import zoo
from tff_tx import algorithms, models, runtime
from tff_tx.runtime import LocalEngine, TooFewClientsError

END, PAD = 2, 1
SIDES = {
    f"{side}_{name}": size
    for side in ("encoder", "decoder")
    for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))
}
OWN = {
    "bart": dict(vocab_size=zoo.VOCABULARY, d_model=16, max_position_embeddings=32, eos_token_id=END, **SIDES),
    "longformer": dict(zoo._ENCODER, attention_window=4, sep_token_id=END),
}
OPTIONS = algorithms.Options(
    client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
    server_optimizer=algorithms.build_optimizer("sgd", 1.0),
)
WAYS = ("label", "unknown token", "negative token", "end of text", "data", "none")


def member(architecture):
    if architecture not in OWN:
        return zoo.BY_NAME[architecture]
    config = {**OWN[architecture], "pad_token_id": PAD}
    return zoo._member("TFAutoModelForSequenceClassification", architecture, models.classification(), config)


def client(way, number, x, y):
    """Three batches, one of which fails: in its pipeline, at the model's inputs, within the model, or at the loss."""
    x = collections.OrderedDict((name, np.stack([np.array(value)] * 3)) for name, value in x.items())
    y, at = np.stack([np.array(y)] * 3), (number % 3, number % 2, number % 5)
    ids = x["input_ids"]
    ids[..., -1] = END
    if way in ("label", "data"):
        y[number % 3] = 99 if way == "label" else 999
    elif way != "none":
        ids[at] = {"unknown token": zoo.VOCABULARY + number, "negative token": -1 - number, "end of text": END}[way]

    def checked(x, y):
        with tf.control_dependencies([tf.debugging.assert_less(y, 999)]):
            return x, tf.identity(y)

    return tf.data.Dataset.from_tensor_slices((x, y)).map(checked)


def fail(architecture, rounds):
    """Rounds of eight clients that fail in all ways, all of them in every other round; the others go on as ever."""
    runtime.configure_tensorflow()
    some, generator = member(architecture), np.random.default_rng(1)
    process = algorithms.build_fed_avg(some.functional(), OPTIONS)
    sample, ways, failed = some.sample(), WAYS[:-1], collections.Counter()
    with LocalEngine(process, threads=4) as engine:
        state = engine.initialize()
        for number in range(rounds):
            chosen = [str(way) for way in generator.choice(ways if number % 2 else WAYS, 8)]
            clients = [client(way, int(generator.integers(30)), *sample) for way in chosen]
            try:
                failures = engine.run_round(state, clients).failures
            except TooFewClientsError as error:
                failures = error.failures
            failed.update(chosen[position] for position in failures)
            assert not any(chosen[position] == "none" for position in failures), failures
    assert all(failed[way] for way in ("label", "unknown token", "data")), failed
    assert sum(failed.values()) > 4 * rounds, failed


def fail_step():
    """A thousand calls that fail at one of three places, with more to do behind and beside each."""
    runtime.configure_tensorflow()

    def step(x):
        checks = [
            tf.Assert(x[0] != 1, ["at once"]),
            tf.cond(x[0] > 1, lambda: tf.debugging.assert_less(x[0], 3.0), lambda: tf.no_op()),
            tf.while_loop(lambda i: i < 20, lambda i: (tf.ensure_shape(i, []) + 1,), (0,))[0],
        ]
        others = [tf.cond(x[0] > n, lambda n=n: x * n, lambda: x) for n in range(4)]
        with tf.control_dependencies(checks[:2]):
            return tf.gather(tf.add_n(others), tf.cast(x[0] * 2, tf.int32)) + tf.cast(checks[2], tf.float32)

    step = runtime.step_function(step, tf.TensorSpec([4]))

    def call(number):
        try:
            return step(tf.fill([4], float(number % 4))).numpy()
        except tf.errors.InvalidArgumentError:
            return None

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(call, range(1000)))
    assert [value is None for value in found] == [number % 4 != 0 for number in range(1000)]


def test_a_step_that_fails_on_many_threads_does_not_hang():
    assert processes.call(fail_step) == 0


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bart", "longformer"])
def test_hundreds_of_failing_steps_do_not_hang(architecture):
    assert processes.call(functools.partial(fail, architecture, 50)) == 0
