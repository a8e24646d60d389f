"""Checkpoints as people have them: shards, pickles, adapters, hub ids with a revision, and tokenizers of all kinds."""

import json
import pathlib
import shutil

import huggingface_hub
import numpy as np
import pytest
import safetensors.numpy
import sentencepiece
import tensorflow as tf
import tensorflow_federated as tff
import tokenizers
import transformers

from tests.models import zoo
from tests.models.test_torch_file import Tensor, write  # noqa: F401 -- a fixture
from tff_tx import datasets, models
from tff_tx.core.errors import UserError
from tff_tx.models import checkpoints

AUTO = "TFAutoModelForSequenceClassification"
IDS = tf.constant([[4, 5, 6, 7, 8]])


@pytest.fixture(scope="module")
def model():
    return zoo.BY_NAME["distilbert"].build()


def assert_same(directory, expected):
    found = models.from_pretrained(AUTO, str(directory))
    assert found.fresh_weights == ()
    np.testing.assert_allclose(found(IDS).logits, expected(IDS).logits, atol=1e-6)


def shards(directory, model, suffix, save):
    """Replaces the weights of a saved model by two files of half of them, and an index."""
    models.save_pretrained(model, str(directory))
    tensors = safetensors.numpy.load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    stem, index = ("model", {}) if suffix == "safetensors" else ("pytorch_model", {})
    for number in (0, 1):
        name = f"{stem}-0000{number + 1}-of-00002.{suffix}"
        part = {key: tensors[key] for key in sorted(tensors)[number::2]}
        save(part, directory / name)
        index |= dict.fromkeys(part, name)
    (directory / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def test_safetensors_in_shards(model, tmp_path):
    def save(part, path):
        safetensors.numpy.save_file(part, path, metadata={"format": "pt"})

    shards(tmp_path, model, "safetensors", save)
    assert_same(tmp_path, model)


def test_pickles_in_shards_and_alone(model, tmp_path, write):  # noqa: F811
    def save(part, path):
        flat = {key: np.ascontiguousarray(value).reshape(-1) for key, value in part.items()}
        strides = {key: [s // value.itemsize for s in value.strides] for key, value in part.items()}
        pickled = {k: Tensor(flat[k], 0, part[k].shape, tuple(strides[k])) for k in part}
        shutil.move(write(pickled), path)

    (tmp_path / "several").mkdir()
    shards(tmp_path / "several", model, "bin", save)
    assert_same(tmp_path / "several", model)
    models.save_pretrained(model, str(tmp_path / "one"))
    weights = tmp_path / "one" / "model.safetensors"
    save(safetensors.numpy.load_file(weights), tmp_path / "one" / "pytorch_model.bin")
    weights.unlink()
    assert_same(tmp_path / "one", model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["distilbert", "gpt2"])
def test_an_adapter_is_a_start(name, tmp_path):
    member = zoo.BY_NAME[name]
    lora = models.Lora(ranks=(3,), alpha=6.0)
    model = models.functional_model(member.build(), member.objective, member.x_spec(), trainable="lora", lora=lora)
    models.save_pretrained(model.keras_model, str(tmp_path / "base"))
    generator = np.random.default_rng(0)
    trainable, frozen = model.initial_weights
    trainable = [w + 0.3 * generator.standard_normal(w.shape).astype(np.float32) for w in trainable]
    (tmp_path / "adapter").mkdir()
    weights = tff.learning.models.ModelWeights(tuple(trainable), tuple(frozen))
    models.save_adapter(model, weights, str(tmp_path / "adapter"), str(tmp_path / "base"))
    model.assign(weights)
    auto = AUTO if name == "distilbert" else "TFAutoModelForCausalLM"
    found = models.from_pretrained(auto, str(tmp_path / "adapter"))
    assert found.fresh_weights == ()
    np.testing.assert_allclose(found(IDS).logits, model.keras_model(IDS).logits, atol=1e-5)
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace('"LORA"', '"IA3"'))
    with pytest.raises(UserError, match=r"model.pretrained=.* describes no LoRA"):
        models.from_pretrained(auto, str(tmp_path / "adapter"))


def test_a_revision_of_a_hub_id(model, tmp_path, monkeypatch):
    """With what was downloaded before, as the network is out of reach."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--org--name"
    for revision, commit in (("main", "a" * 40), ("v1", "b" * 40)):
        models.save_pretrained(model, str(folder / "snapshots" / commit))
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / revision).write_text(commit)
    try:
        assert pathlib.Path(checkpoints.local("org/name")).name == "a" * 40
        assert pathlib.Path(checkpoints.local("org/name@v1")).name == "b" * 40
        assert_same("org/name@v1", model)
        with pytest.raises(UserError, match="model.pretrained=org/name@v2 cannot be loaded"):
            models.from_pretrained(AUTO, "org/name@v2")
        with pytest.raises(UserError, match="is a directory, which has no revisions"):
            models.from_pretrained(AUTO, f"{tmp_path}@v1")
    finally:
        checkpoints.local.cache_clear()


PIECES = {
    "XLMRobertaTokenizer": "sentencepiece.bpe.model",
    "DebertaV2Tokenizer": "spm.model",
    "T5Tokenizer": "spiece.model",
    "PegasusTokenizer": "spiece.model",
    "AlbertTokenizer": "spiece.model",
}
SENTENCES = ["the cat sat on the mat", "a dog and a cat", "where is the dog now", "the mat is here"]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A model of SentencePiece."""
    directory = tmp_path_factory.mktemp("pieces")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_prefix=str(directory / "it"),
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": 3},
    )
    return directory / "it.model"


@pytest.mark.parametrize("name", PIECES)
def test_sentence_pieces(name, pieces, tmp_path):
    shutil.copy(pieces, tmp_path / PIECES[name])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    found = models.load_tokenizer(str(tmp_path))
    expected = getattr(transformers, name).from_pretrained(str(tmp_path))
    assert found(SENTENCES)["input_ids"] == expected(SENTENCES)["input_ids"]
    assert found.decode(found(SENTENCES[0])["input_ids"], skip_special_tokens=True) == SENTENCES[0]
    found.save_pretrained(tmp_path / "saved")
    assert models.load_tokenizer(str(tmp_path / "saved"))(SENTENCES)["input_ids"] == found(SENTENCES)["input_ids"]


def test_sentence_pieces_of_marian(pieces, tmp_path):
    names = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    vocabulary = {names.id_to_piece(i): i for i in range(len(names))}
    (tmp_path / "vocab.json").write_text(json.dumps({**vocabulary, "</s>": 1, "<unk>": 2, "<pad>": len(vocabulary)}))
    for file in ("source.spm", "target.spm"):
        shutil.copy(pieces, tmp_path / file)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MarianTokenizer"}))
    found = models.load_tokenizer(str(tmp_path))
    ids = found(SENTENCES[0])["input_ids"]
    assert ids == [*names.encode(SENTENCES[0]), 1]
    assert [*next(datasets.Tokenize(found).targets(SENTENCES[:1], 99))] == ids


@pytest.mark.parametrize("kind", ["GPT2TokenizerFast", "RobertaTokenizerFast", "PreTrainedTokenizerFast"])
def test_byte_level_bpe_takes_words(kind, tmp_path):
    bpe = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(SENTENCES * 5, vocab_size=300, min_frequency=2, special_tokens=special)
    bpe.save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": kind, "pad_token": "<pad>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    plain, found = models.load_tokenizer(str(tmp_path)), models.load_tokenizer(str(tmp_path), of_words=True)
    words = SENTENCES[0].split()
    ((ids, owners),) = datasets.word_pieces(found, [words])
    inside = [i for i, owner in zip(ids, owners) if owner is not None]
    assert inside == plain(" " + SENTENCES[0], add_special_tokens=False)["input_ids"]
    assert sorted({owner for owner in owners if owner is not None}) == list(range(len(words)))
    found.save_pretrained(tmp_path / "saved")
    again = models.load_tokenizer(str(tmp_path / "saved"), of_words=True)
    assert datasets.word_pieces(again, [words]) == [(ids, owners)]
