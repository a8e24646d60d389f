"""Predictors against the models' own outputs, for every task that predicts from texts and images."""

import dataclasses
import io
import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from tests import tiny
from tff_tx import datasets, inference, models, tasks
from tff_tx.core.errors import UserError
from tff_tx.inference.predictor import TableRow

WORDS = ("ann", "bob", "is", "was", "here", "there")
TEXTS = ["ann is here", "bob was there is ann", "bob"]
BERT = dict(vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
SPEC = tasks.ModelSpec(max_length=8)


@pytest.fixture(scope="module")
def tokenizer():
    found = tiny.words_tokenizer(WORDS)
    found.add_special_tokens({"mask_token": "[MASK]"})
    return found


def bert(kind, **fields):
    fields = {**BERT, "max_position_embeddings": 32, "initializer_range": 1.0, **fields}
    return models.from_config(tasks.task_kind(kind).auto_class, "bert", fields, seed=3)


def named(*names):
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def predicted(kind, model, tokenizer, inputs=TEXTS, **options):
    return list(inference.build_predictor(kind, model, SPEC, tokenizer=tokenizer, **options).predict(inputs))


def logits(model, tokenizer, text):
    return model(dict(tokenizer(text, return_tensors="tf")), training=False).logits.numpy()[0]


def test_classes_of_texts(tokenizer):
    model = bert("sequence_classification", **named("bad", "good", "odd"))
    found = predicted("sequence_classification", model, tokenizer, top_k=2, batch_size=2)
    for text, prediction in zip(TEXTS, found, strict=True):
        probabilities = tf.nn.softmax(logits(model, tokenizer, text)).numpy()
        first, second = np.argsort(-probabilities)[:2]
        names = model.config.id2label
        assert (prediction["text"], prediction["label"]) == (text, names[first])
        expected = {names[i]: float(probabilities[i]) for i in (first, second)}
        assert prediction["probabilities"] == pytest.approx(expected, abs=1e-4)


def test_entities_of_texts(tokenizer):
    model = bert("token_classification", **named("O", "B-P", "I-P"))
    texts = [" ".join(np.random.default_rng(n).choice(WORDS, 6)) for n in range(8)]
    found = predicted("token_classification", model, tokenizer, texts)
    assert any(prediction["entities"] for prediction in found)
    for text, prediction in zip(texts, found, strict=True):
        tags = np.argmax(logits(model, tokenizer, text), -1)[1:-1]  # a token a word
        words, inside = text.split(), sum(len(entity["text"].split()) for entity in prediction["entities"])
        assert inside == sum(tags != 0)
        starts = [i for i, tag in enumerate(tags) if tag == 1 or tag == 2 and (i == 0 or tags[i - 1] == 0)]
        assert [entity["text"].split()[0] for entity in prediction["entities"]] == [words[i] for i in starts]


def test_punctuation_is_apart_from_the_words_of_a_text(tokenizer):
    model = bert("token_classification", **named("O", "B-P", "I-P"))
    text = 'He ("Ann") left the U.S., with Coca-Cola: 東京。 It cost 3.5.'
    (found,) = predicted("token_classification", model, tokenizer, [text])
    words = ["He", "(", '"', "Ann", '"', ")", "left", "the", "U.S.", ",", "with", "Coca-Cola", ":", "東", "京", "。"]
    words += ["It", "cost", "3.5", "."]
    assert found["words"] == words
    assert len(found["tags"]) == len(found["scores"]) == len(words)
    for entity in found["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]


def test_tags_by_a_tokenizer_in_python():
    """A word's tag is that of its first byte, as in training."""
    model = bert("token_classification", **named("O", "B-P", "I-P"), vocab_size=259)
    spec, bytes_of = tasks.ModelSpec(max_length=32), models.load_tokenizer("bytes")
    predictor = inference.build_predictor("token_classification", model, spec, tokenizer=bytes_of, batch_size=2)
    for text, found in zip(TEXTS, predictor.predict(TEXTS), strict=True):
        words = text.split()
        ids = [byte + 3 for byte in "".join(words).encode()] + [bytes_of.eos_token_id]
        tags = np.argmax(model(tf.constant([ids]), training=False).logits[0], -1)
        firsts = np.cumsum([0, *map(len, words[:-1])])
        assert found["tags"] == [model.config.id2label[tag] for tag in tags[firsts]]


def test_words_behind_masks(tokenizer):
    model = bert("masked_lm")
    (found,) = predicted("masked_lm", model, tokenizer, ["ann [MASK] here [MASK]"], top_k=1)
    best = np.argmax(logits(model, tokenizer, "ann [MASK] here [MASK]"), -1)
    assert [list(filling) for filling in found["fillings"]] == [[tokenizer.decode([best[i]])] for i in (2, 4)]
    with pytest.raises(UserError, match=r"has no \[MASK\] to fill in"):
        predicted("masked_lm", model, tokenizer, ["ann"])


def test_a_mask_that_the_model_does_not_see_is_told(tokenizer):
    """A text that is cut has fewer masks than it had, and no word for the others."""
    spec = tasks.ModelSpec(max_length=6)
    predictor = inference.build_predictor("masked_lm", bert("masked_lm"), spec, tokenizer=tokenizer, on_bad_rows="skip")
    texts = ["ann [MASK] here [MASK]", "ann [MASK] here is here [MASK]"]
    assert [len(one["fillings"]) for one in predictor.predict(texts)] == [2]
    assert predictor.left_out
    predictor = inference.build_predictor("masked_lm", bert("masked_lm"), spec, tokenizer=tokenizer)
    with pytest.raises(UserError, match=r"behind its first 6 tokens, which are all that the model sees: shorten"):
        list(predictor.predict(texts))


def gpt2():
    config = dict(n_embd=8, n_layer=1, n_head=2, n_positions=6, vocab_size=11, initializer_range=1.0)
    return models.from_config("TFAutoModelForCausalLM", "gpt2", config, seed=1)


@pytest.mark.slow
def test_continuations(tokenizer):
    model = gpt2()
    (found,) = predicted("causal_lm", model, tokenizer, TEXTS[:1], max_new_tokens=9)
    ids = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    for _ in range(9):  # of the 6 positions that the model has
        ids.append(int(np.argmax(model(input_ids=tf.constant([ids[-6:]]), training=False).logits[0, -1])))
    assert found == {"text": TEXTS[0], "continuation": tokenizer.decode(ids[3:])}


@pytest.mark.slow
def test_sampled_continuations_are_of_the_seed(tokenizer):
    model = gpt2()
    sampled = [
        predicted("causal_lm", model, tokenizer, TEXTS, max_new_tokens=9, temperature=3.0, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert sampled[0] == sampled[1] != sampled[2]


def test_images_are_made_to_fit(tmp_path):
    config = {**tiny.VIT, "image_size": 8, "num_channels": 1, **named("no", "yes")}
    model = models.from_config("TFAutoModelForImageClassification", "vit", config, seed=1)
    grey = np.random.default_rng(0).random((1, 8, 8), np.float32)
    large = np.repeat(np.kron(grey, np.ones([1, 2, 2], np.float32)), 3, 0)
    one, other = predicted("image_classification", model, None, [grey, large], batch_size=1)
    assert one["label"] == other["label"]
    assert one["probabilities"] == pytest.approx(other["probabilities"], abs=0.02)
    for name in ("a", "b"):
        Image.fromarray((grey[0] * 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    predictor = inference.build_predictor("image_classification", model, SPEC)
    found = list(predictor.predict(predictor.read(files=[str(tmp_path)])))
    assert [(image["file"], image["label"]) for image in found] == [
        (str(tmp_path / f"{name}.png"), one["label"]) for name in ("a", "b")
    ]


@pytest.mark.parametrize("kind", ["sequence_classification", "masked_lm"])
def test_a_saved_model_predicts_the_same_in_batches_of_any_size(kind, tokenizer, tmp_path):
    model = bert(kind, **(named("a", "b") if kind == "sequence_classification" else {}))
    models.save_pretrained(model, str(tmp_path), tokenizer)
    texts = [f"{text} [MASK]" for text in TEXTS] if kind == "masked_lm" else TEXTS
    expected = predicted(kind, model, tokenizer, texts)
    assert predicted(kind, str(tmp_path), None, texts, batch_size=1) == expected


def test_records_are_read_by_the_names_of_the_data(tmp_path):
    columns = {"numeric_features": ["age"], "categorical_features": ["ward"], "categories": [["a", "b"]]}
    config = {**columns, "hidden_size": 4, "num_attention_heads": 1, **named("no", "yes")}
    model = models.from_config(tasks.task_kind("tabular_classification").auto_class, "ft_transformer", config, seed=1)
    pd.DataFrame({"ward": ["a", "c", "b"], "more": [0, 0, 0], "age": [1.0, 2.0, 3.0]}).to_csv(tmp_path / "x.csv")
    predictor = inference.build_predictor("tabular_classification", model, SPEC, batch_size=2, top_k=1)
    found = list(predictor.predict(predictor.read(files=[str(tmp_path / "x.csv")])))
    x = {"numbers": tf.constant([[1.0], [2.0], [3.0]]), "categories": tf.constant([[1], [0], [2]])}
    best = np.argmax(model(x, training=False), -1)
    assert [prediction["label"] for prediction in found] == [("no", "yes")[i] for i in best]


@pytest.mark.parametrize(
    ("kind", "given", "sentence"),
    [
        ("sequence_classification", {}, "there is nothing to predict"),
        ("sequence_classification", {"files": ["nowhere.txt"]}, "nowhere.txt cannot be read"),
        ("image_classification", {"texts": ["a"]}, "takes images"),
        ("question_answering", {"texts": ["a"]}, "answers questions"),
        ("question_answering", {"texts": ["a"], "question": "b", "files": ["c"]}, "answers questions"),
        ("forecasting", {"texts": ["a"]}, "takes records"),
        ("next_item", {}, "takes records"),
        ("tabular_classification", {"files": ["x.csv"], "question": "b"}, "takes records"),
    ],
)
def test_inputs_that_a_model_does_not_take(kind, given, sentence):
    """Without loading a model: there is none in the directory."""
    predictor = inference.build_predictor(kind, "nowhere", SPEC, data=datasets.DataSpec())
    with pytest.raises(UserError, match=sentence):
        predictor.read(**given)


@pytest.mark.parametrize("kind", ["forecasting", "next_item"])
def test_records_out_of_the_order_of_time_are_refused_or_sorted(tmp_path, kind):
    (tmp_path / "x.csv").write_text("who,date,v\na,2024-01-02,2\na,2024-01-01,1\n")
    spec = {"client_column": "who", "numeric_columns": ("v",), "label_column": "v"}
    data = datasets.DataSpec("file", files=("x",), **spec)
    predictor = inference.build_predictor(kind, "nowhere", SPEC, data=data)
    with pytest.raises(UserError, match=r"line 3: the column 'date' has '2024-01-01' after '2024-01-02'"):
        list(predictor.read(files=[str(tmp_path / "x.csv")]))
    predictor.data = dataclasses.replace(data, time_column="date")
    (chunk,) = predictor.read(files=[str(tmp_path / "x.csv")])
    assert [row["v"] for row in chunk["row"]] == ["1", "2"]


def test_scores_have_the_columns_that_the_task_names(tokenizer):
    config = dict(vocab_size=11, pad_token_id=0, decoder_start_token_id=2, eos_token_id=3)
    t5 = dict(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    written = models.from_config("TFAutoModelForSeq2SeqLM", "t5", {**config, **t5})
    records = pd.DataFrame({"text": TEXTS, "target": TEXTS, "question": TEXTS, "context": TEXTS, "answers": [[]] * 3})
    for kind, model in (("sequence_to_sequence", written), ("question_answering", bert("question_answering"))):
        definition = tasks.task_kind(kind)
        predictor = inference.build_predictor(
            kind, model, tasks.ModelSpec(max_length=16, context_overlap=2), tokenizer=tokenizer
        )
        scores = predictor.score(records[list(definition.scored_columns)])
        assert list(scores) == [metric.name for metric in definition.score_metrics]
        assert len(scores) == len(records)


def test_predictions_are_no_formulas():
    found = inference.as_text([{"label": "=HYPERLINK(1)", "+x": "-1", "score": -2.0}], "y.csv")
    assert found == "label,'+x,score\n'=HYPERLINK(1),-1,-2.0\n"


@pytest.mark.parametrize("path", ["y.csv", "y.tsv", None])
def test_labels_and_clients_control_no_terminal(path):
    hostile = "a\x1b[2J\x9b1m\u202e\udc80"
    found = inference.as_text([{"label": hostile, "client": hostile, hostile: 1, "words": [hostile]}], path)
    assert found.isascii()
    assert "\x1b" not in found
    assert path or json.loads(found)["label"] == hostile


def test_a_file_that_a_table_names_is_its_path():
    """In the table's own column, without the one that reading adds."""
    row = {"path": {"path": "clips/a.wav"}, "audio": {"path": "clips/a.wav"}, "n": 1}
    assert TableRow(None, row).joined({"label": "x"}) == {"path": "clips/a.wav", "n": 1, "label": "x"}
    assert TableRow(None, {"audio": {"path": "a.wav"}}).joined({}) == {"audio": "a.wav"}


def test_lists_in_a_table_are_json():
    found = inference.as_text(
        [{"tokens": ["naïve", "b"], "entities": [{"type": "LOC", "start": np.int64(0)}]}], "y.csv"
    )
    row = pd.read_csv(io.StringIO(found)).iloc[0]
    assert json.loads(row["tokens"]) == ["naïve", "b"]
    assert json.loads(row["entities"]) == [{"type": "LOC", "start": 0}]


def test_a_table_comes_back_with_predictions(tokenizer, tmp_path):
    """Its texts are those of the columns that the model was trained on; a column of a prediction's name stays."""
    model = bert("sequence_classification", **named("bad", "good", "odd"))
    table = pd.DataFrame({"number": [1, 2, 3], "said": TEXTS, "label": ["good", "odd", "?"]})
    data = datasets.DataSpec("file", files=("train.csv",), text_column=("said",), label_column="kind")
    predictor = inference.build_predictor("sequence_classification", model, SPEC, tokenizer=tokenizer, data=data)
    expected = predicted("sequence_classification", model, tokenizer)
    for name, write in (("x.csv", table.to_csv), ("x.tsv", lambda path, **how: table.to_csv(path, sep="\t", **how))):
        write(tmp_path / name, index=False)
        found = list(predictor.predict(predictor.read(files=[str(tmp_path / name)])))
        assert [(row["number"], row["said"], row["label"]) for row in found] == [
            (str(n), text, label) for n, text, label in table.itertuples(index=False)
        ]
        assert [row["predicted_label"] for row in found] == [row["label"] for row in expected]
        assert [row["probabilities"] for row in found] == [row["probabilities"] for row in expected]
    again = pd.read_csv(io.StringIO(inference.as_text(found, "y.csv")))
    assert again["predicted_label"].tolist() == [row["label"] for row in expected]
    assert again["probabilities.bad"][0] == expected[0]["probabilities"]["bad"]
    (tmp_path / "x.txt").write_text("\n".join(TEXTS))
    assert list(predictor.predict(predictor.read(files=[str(tmp_path / "x.txt")]))) == expected


def test_each_text_of_a_folder_comes_back_with_its_name_and_a_prediction(tokenizer, tmp_path):
    """As folders are trained on: a text a file, here of two lines."""
    model = bert("sequence_classification", **named("bad", "good", "odd"))
    texts = {f"{n}.txt": f"{text}\n{text}" for n, text in enumerate(TEXTS)}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    data = datasets.DataSpec("file", files=("aclImdb",))
    predictor = inference.build_predictor("sequence_classification", model, SPEC, tokenizer=tokenizer, data=data)
    found = list(predictor.predict(predictor.read(files=[str(tmp_path)])))
    assert {row["client"]: row["text"] for row in found} == texts
    expected = predicted("sequence_classification", model, tokenizer, [row["text"] for row in found])
    assert [row["probabilities"] for row in found] == [row["probabilities"] for row in expected]


def test_rows_of_all_splits_of_a_folder_come_back(tokenizer, tmp_path):
    for split, label, text in zip(("train", "train", "test"), ("pos", "neg", "pos"), TEXTS):
        (tmp_path / split / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / split / label / "0.txt").write_text(text)
    model = bert("sequence_classification", **named("bad", "good", "odd"))
    data = datasets.DataSpec("file", files=("aclImdb",))
    predictor = inference.build_predictor("sequence_classification", model, SPEC, tokenizer=tokenizer, data=data)
    found = predictor.predict(predictor.read(files=[str(tmp_path)]))
    places = [tmp_path / "train/pos/0.txt", tmp_path / "train/neg/0.txt", tmp_path / "test/pos/0.txt"]
    assert {row["where"]: row["text"] for row in found} == dict(zip(map(str, places), TEXTS))


def test_questions_come_back_with_their_rows(tokenizer, tmp_path):
    """Also those of SQuAD's JSON, with their ids, and of columns with other names."""
    spec = tasks.ModelSpec(max_length=16, context_overlap=2)
    data = datasets.DataSpec("file", files=("train.csv",), question_column="asked")
    predictor = inference.build_predictor(
        "question_answering", bert("question_answering"), spec, tokenizer=tokenizer, data=data
    )
    (expected,) = predictor.predict(predictor.read(texts=TEXTS[1:2], question="ann is"))
    (tmp_path / "x.csv").write_text(f"id,asked,context,answer\n7,ann is,{TEXTS[1]},bob\n")
    (row,) = predictor.predict(predictor.read(files=[str(tmp_path / "x.csv")]))
    found = {name: expected[name] for name in ("start", "score")}
    row_of_file = {"id": "7", "asked": "ann is", "context": TEXTS[1], "answer": "bob"}
    assert row == {**row_of_file, "predicted_answer": expected["answer"], **found}
    predictor.data = datasets.DataSpec("file", files=("train.json",))
    paragraph = {"context": TEXTS[1], "qas": [{"id": "q1", "question": "ann is"}]}
    (tmp_path / "x.json").write_text(json.dumps({"data": [{"title": "new", "paragraphs": [paragraph]}]}))
    (row,) = predictor.predict(predictor.read(files=[str(tmp_path / "x.json")]))
    assert row == {"title": "new", "id": "q1", "context": TEXTS[1], **expected}


@pytest.mark.parametrize("max_length", [8, 5])
def test_words_of_a_table_get_tags(max_length, tokenizer, tmp_path):
    """Also those of sentences that are longer than the model takes, and with their places in the text."""
    model = bert("token_classification", **named("O", "B-P", "I-P"))
    sentences = [list(np.random.default_rng(n).choice(WORDS, 6)) for n in range(8)]
    path = tmp_path / "x.conll"
    path.write_text("".join("".join(f"{word} O\n" for word in words) + "\n" for words in sentences))
    spec = tasks.ModelSpec(max_length=max_length)
    predictor = inference.build_predictor("token_classification", model, spec, tokenizer=tokenizer)
    found = list(predictor.predict(predictor.read(files=[str(path)])))
    for words, row in zip(sentences, found, strict=True):
        assert row["tokens"] == words
        assert len(row["predicted_tags"]) == len(row["scores"]) == 6
        parts = [words] if max_length == 8 else [words[:3], words[3:]]
        best = [np.argmax(logits(model, tokenizer, " ".join(part)), -1)[1:-1] for part in parts]
        assert row["predicted_tags"] == [model.config.id2label[i] for i in np.concatenate(best)]
        for entity in row["entities"]:
            assert " ".join(words)[entity["start"] : entity["end"]] == entity["text"]
            assert 1 / 3 <= entity["score"] <= 1


def test_entities_of_a_scheme_with_ends():
    from tff_tx.inference.classes import _entities

    words, tags = ["Anna", "Lee", "Bob", "met", "E."], ["B-P", "E-P", "S-P", "O", "I-P"]
    found = _entities(" ".join(words), words, [(tag, 1.0) for tag in tags])
    assert [entity["text"] for entity in found] == ["Anna Lee", "Bob", "E."]


def test_tags_that_mark_no_entities_give_none(tokenizer):
    (found,) = predicted("token_classification", bert("token_classification", **named("NOUN", "V")), tokenizer, ["ann"])
    assert "entities" not in found
    assert set(found["tags"]) <= {"NOUN", "V"}


def test_bad_rows_of_a_table_are_refused_or_skipped_and_counted(tokenizer, tmp_path):
    """Also by whom the run's data are read with skipping; a row without a label can be predicted from."""
    (tmp_path / "x.csv").write_text('text,label\nann,good\nbob\n"is\nhere",\nwas,what\n')
    data = datasets.DataSpec("file", files=("train.csv",), on_bad_rows="skip")
    model = bert("sequence_classification", **named("bad", "good"))
    given = {"data": data, "tokenizer": tokenizer}
    refusing = inference.build_predictor("sequence_classification", model, SPEC, **given)
    with pytest.raises(UserError, match=r"x\.csv, line 3: 1 fields"):
        refusing.read(files=[str(tmp_path / "x.csv")])
    skipping = inference.build_predictor("sequence_classification", model, SPEC, on_bad_rows="skip", **given)
    found = list(skipping.predict(skipping.read(files=[str(tmp_path / "x.csv")])))
    assert [(row["text"], row["where"].rsplit(" ")[-1]) for row in found] == [
        ("ann", "2"),
        ("is\nhere", "4"),
        ("was", "6"),
    ]
    assert (skipping.left_out.rows, len(skipping.left_out.first)) == (1, 1)
    assert "x.csv, line 3: 1 fields" in skipping.left_out.first[0]


@pytest.mark.parametrize(
    ("column", "rows"),
    [
        ("prompt", [{"messages": [{"role": "user", "content": "a"}]}, {"messages": []}]),
        ("texts", [{"a": "x", "b": "y"}, {"a": "x", "b": None}]),
    ],
)
def test_rows_are_skipped_for_all_that_a_model_may_read(tmp_path, column, rows):
    path, left_out = tmp_path / "x.jsonl", datasets.LeftOut()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = datasets.DataSpec("file", files=(str(path),), text_column=("a", "b"), on_bad_rows="skip")
    (chunk,) = datasets.read_files(spec, column, "row", "client", left_out=left_out)
    assert (chunk["row"].tolist(), left_out.rows) == (rows[:1], 1)


def test_what_a_model_cannot_predict_from_is_skipped_alone(tokenizer):
    model, texts = bert("masked_lm"), ["ann [MASK]", "bob", "[MASK] is"]
    skipping = inference.build_predictor("masked_lm", model, SPEC, tokenizer=tokenizer, on_bad_rows="skip")
    assert [row["text"] for row in skipping.predict(texts)] == [texts[0], texts[2]]
    assert skipping.left_out.rows == 1
    with pytest.raises(UserError, match="'bob' has no"):
        predicted("masked_lm", model, tokenizer, texts)
