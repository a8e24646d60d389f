"""Models of speech: a recording is what it is by itself, whatever its company; CTC against its definition."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tff_tx import models
from tff_tx.core.errors import UserError

SPEECH = "tff_tx.models.speech:TFAutoModelForSpeechRecognition"
CLASSES = "TFAutoModelForAudioClassification"
TINY = {
    **dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=5),
    **dict(conv_dim=[8, 8], conv_kernel=[10, 3], conv_stride=[5, 2], num_feat_extract_layers=2, layerdrop=0.0),
    **dict(num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=8, mask_time_length=2),
    **dict(pad_token_id=0, apply_spec_augment=False),
}
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
SPEC = collections.OrderedDict(
    attention_mask=tf.TensorSpec([None, None], tf.int32),
    input_values=tf.TensorSpec([None, None]),
    **{models.SEED: tf.TensorSpec([2], tf.int64)},
)


def batch(*lengths, padding=0):
    """Recordings of these lengths, each the same wherever it comes."""
    longest = max(lengths) + padding
    waves = [np.random.default_rng(n).standard_normal(n).astype(np.float32) for n in lengths]
    return collections.OrderedDict(
        attention_mask=tf.constant([[1] * n + [0] * (longest - n) for n in lengths], tf.int32),
        input_values=tf.constant([np.pad(wave, (0, longest - len(wave))) for wave in waves]),
    )


def noisy(auto_class, architecture, config):
    model, generator = models.from_config(auto_class, architecture, config), np.random.default_rng(0)
    for variable in model.weights:
        variable.assign_add(tf.constant(0.1 * generator.standard_normal(variable.shape), variable.dtype))
    return model


def rows(model, logits, lengths):
    """What there is of each recording."""
    if logits.shape.rank == 2:
        return list(logits.numpy())
    return [row[: models.num_frames(model.config, n)].numpy() for row, n in zip(logits, lengths)]


KINDS = [
    pytest.param(CLASSES, "wav2vec2", {}, id="classes"),
    pytest.param(SPEECH, "hubert", STABLE, id="ctc", marks=pytest.mark.slow),
    pytest.param(SPEECH, "wav2vec2", {}, id="ctc-group", marks=pytest.mark.slow),
    pytest.param(SPEECH, "hubert", {}, id="hubert-group", marks=pytest.mark.slow),
    pytest.param(CLASSES, "wav2vec2", STABLE, id="classes-layer", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("auto_class", "architecture", "changes"), KINDS)
def test_a_recording_does_not_depend_on_its_company(auto_class, architecture, changes):
    model = noisy(auto_class, architecture, TINY | changes)
    lengths = (90, 47, 60)
    # By itself and without a mask: a plain model of transformers.
    alone = [rows(model, model(batch(n)["input_values"], training=False).logits, [n])[0] for n in lengths]
    for padding in (0, 33):
        together = models.call_padded(model, batch(*lengths, padding=padding)).logits
        for found, expected in zip(rows(model, together, lengths), alone):
            np.testing.assert_allclose(found, expected, atol=1e-5)
    functional = models.functional_model(
        model, models.classification() if auto_class == CLASSES else models.ctc(0), SPEC
    )
    x = {**batch(*lengths), models.SEED: tf.constant([1, 2], tf.int64)}
    logits = functional.predict_on_batch(functional.initial_weights, x, training=False)
    for found, expected in zip(rows(model, logits, lengths), alone):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    # All weights are trained but the one of SpecAugment, which is off.
    assert [name.rpartition("/")[2] for name in functional.non_trainable_names] == ["masked_spec_embed:0"]


def probability(logits, tokens, blank):
    """Of a transcript: the sum over all paths that are it without repetitions and blanks."""
    chances, total = tf.nn.softmax(logits).numpy().astype(np.float64), 0.0
    for path in itertools.product(range(logits.shape[1]), repeat=logits.shape[0]):
        if [t for t, _ in itertools.groupby(path) if t != blank] == list(tokens):
            total += np.prod(chances[np.arange(len(path)), path])
    return total


@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_is_the_sum_over_all_paths(blank):
    logits = np.random.default_rng(1).standard_normal((3, 5, 3)).astype(np.float32)
    objective, none = models.ctc(blank), models.IGNORED
    first, second = (t for t in range(3) if t != blank)
    # The last row only completes a batch.
    labels = np.array([[5, first, first, second], [3, second, none, none], [none] * 4], np.int32)
    expected = [probability(logits[i, :n], t, blank) for i, n, t in ((0, 5, [first, first, second]), (1, 3, [second]))]
    loss = objective.loss_fn(tf.constant(logits), tf.constant(labels))
    assert float(loss) == pytest.approx(-np.log(expected).sum() / 4, rel=1e-5)
    # What is behind a recording counts for nothing.
    logits[1, 3:] = 50.0
    assert float(objective.loss_fn(tf.constant(logits), tf.constant(labels))) == pytest.approx(float(loss), rel=1e-6)


def test_the_error_rate_is_the_edit_distance_of_the_best_path():
    logits = 9.0 * tf.one_hot([[1, 1, 0, 1, 2, 2], [2, 0, 2, 3, 0, 1]], 4)
    labels = tf.constant([[6, 1, 2, 2], [3, 2, models.IGNORED, models.IGNORED]])
    sums = models.ctc(0).sums_fn(logits, labels, tf.constant(1.0))
    # 1 1 2 instead of 1 2 2, and 2 2 instead of 2.
    assert (int(sums["errors"]), int(sums["items"]), int(sums["examples"])) == (2, 4, 2)
    assert float(models.ctc(0).finalize_fn(sums)["token_error_rate"]) == 0.5


@pytest.mark.parametrize(
    "change", [{"add_adapter": True}, {"conv_dim": [8, 4]}, {"apply_spec_augment": True, "mask_feature_prob": 0.1}]
)
def test_what_tensorflow_computes_otherwise_is_rejected(change):
    config = models.planned_config(SPEECH, None, "wav2vec2", TINY | change)
    with pytest.raises(UserError, match=next(reversed(change))):
        models.check_speech_config(config)


def test_the_fewest_samples_make_one_frame():
    config = models.planned_config(SPEECH, None, "wav2vec2", {})
    assert models.least_samples(config) == 400
    assert models.num_frames(config, 400) == 1
    assert models.num_frames(config, 399) == 0
