"""From language modeling to going on with it, and to classification: the weights that were learned are there."""

import collections
import json

import numpy as np
import pytest
import tensorflow as tf
import transformers
from tokenizers import pre_tokenizers

from tff_tx import datasets, models, tasks
from tff_tx.config.algorithm import ClientConfig

BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
GPT2 = {"n_embd": 8, "n_layer": 1, "n_head": 2}
TEXTS = ["a small text", "another text, which is somewhat longer than the first", "short", "and the last one"] * 5


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Twenty short texts in two classes."""
    path = tmp_path_factory.mktemp("texts") / "x.csv"
    path.write_text("text,label\n" + "".join(f'"{text}",{n % 2}\n' for n, text in enumerate(TEXTS)))
    return str(path)


def create(kind, texts, cache_dir, seed=0, **model):
    return tasks.create_task(
        kind,
        datasets.DataSpec("file", files=(texts,), num_clients=3, test_fraction=2, cache_dir=cache_dir),
        tasks.ModelSpec(max_length=32, **model),
        ClientConfig(batch_size=4),
        seed=seed,
        progress=False,
    )


def learned(task):
    """The weights of the part below the head, by name."""
    names = ((v.name.split("/", 1)[1], v.numpy()) for v in task.model.keras_model.weights)
    return {name: value for name, value in names if name.startswith(("bert/", "transformer/"))}


def save(task, directory):
    """As a run does, with other weights than a new model would have."""
    for v in task.model.keras_model.weights:
        v.assign_add(tf.random.stateless_normal(v.shape, [1, v.shape.num_elements()], stddev=0.1))
    models.save_pretrained(task.model.keras_model, directory, task.tokenizer)
    return learned(task)


def assert_same(found, expected):
    shared = found.keys() & expected.keys()
    assert len(shared) >= len(found) - 2  # a pooler is new
    for name in shared:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "architecture", "config"), [("masked_lm", "bert", BERT), ("causal_lm", "gpt2", GPT2)])
def test_what_was_learned_is_what_the_next_task_starts_from(kind, architecture, config, texts, cache_dir, tmp_path):
    first = create(kind, texts, cache_dir, architecture=architecture, config=config, tokenizer="bytes")
    directory = str(tmp_path)
    expected = save(first, directory)
    again = create(kind, texts, cache_dir, seed=5, pretrained=directory)
    assert_same(learned(again), expected)
    assert again.model.keras_model.fresh_weights == ()
    assert len(again.tokenizer) == len(first.tokenizer) == first.model.keras_model.config.vocab_size
    assert again.tokenizer.mask_token_id == first.tokenizer.mask_token_id
    classifier = create("sequence_classification", texts, cache_dir, seed=5, pretrained=directory)
    assert_same(learned(classifier), expected)
    fresh = classifier.model.keras_model.fresh_weights
    assert fresh
    assert all(any(part in name for part in ("classifier", "pooler", "score")) for name in fresh)
    assert classifier.label_names == ("0", "1")


def test_bytes_are_masked_with_a_token_of_their_own(texts, cache_dir):
    task = create("masked_lm", texts, cache_dir, architecture="bert", config=BERT, tokenizer="bytes")
    assert (task.tokenizer.mask_token, task.tokenizer.mask_token_id) == ("<mask>", 259)
    asked = masked = 0
    for client in task.train.client_ids:
        examples = task.train.create_tf_dataset_for_client(client)
        for x, y in task.preprocessing.train(lambda _, of=examples: of, tf.constant([1, 2], tf.int64), task.local):
            asked += (y.numpy() != models.IGNORED).sum()
            masked += (x["input_ids"].numpy() == 259).sum()
            assert y.numpy().max() < 259
    assert 0 < masked < asked


def published_gpt2(directory):
    """A tokenizer and a configuration as GPT-2's: nothing to pad with."""
    vocabulary = {token: n for n, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"])}
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.GPT2TokenizerFast(str(directory / "vocab.json"), str(directory / "merges.txt"))
    assert tokenizer.pad_token is None
    model = models.from_config("TFAutoModelForCausalLM", "gpt2", {**GPT2, "vocab_size": len(tokenizer)}, seed=1)
    assert model.config.pad_token_id is None
    models.save_pretrained(model, directory, tokenizer)


@pytest.mark.slow
def test_a_gpt_without_padding_classifies_by_the_texts_last_token(texts, cache_dir, tmp_path):
    """What padding there is beside a longer text changes nothing."""
    published_gpt2(tmp_path)
    task = create("sequence_classification", texts, cache_dir, pretrained=str(tmp_path))
    alone = list(TEXTS[2].encode())
    spec = task.train.element_type_structure

    def logits(*rows):
        data = tf.data.Dataset.from_generator(
            lambda: (collections.OrderedDict(input_ids=ids, label=0) for ids in rows), output_signature=spec
        )
        ((x, _),) = task.preprocessing.evaluate(data, tf.constant([1, 2], tf.int64), 10)
        return task.model.predict_on_batch(task.model.initial_weights, x, training=False).numpy()

    padded = logits(alone, list(range(len(alone) + 9)))
    np.testing.assert_allclose(padded[0], logits(alone)[0], atol=1e-5)
    assert np.abs(padded[0] - padded[1]).max() > 1e-4
