"""Tables with a word a row are sentences, where a column says where these begin."""

import pandas as pd
import pytest

from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec
from tff_tx.datasets.likely_task import likely_task
from tff_tx.datasets.overview import overview
from tff_tx.datasets.sources import open_source

SETTINGS = {"text_column": ("Word",), "label_column": "Tag"}
WORDS = [["Anna", "Berg", "left", "Bonn"], ["No", ","], ["Rome", "is", "old"]]
TAGS = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"], ["B-LOC", "O", "O"]]


def table(named=lambda sentence, word: f"Sentence: {sentence}" if word == 0 else "", column="Sentence #"):
    """Rows as Kaggle's table of named entities has them: the first word names the sentence."""
    pairs = [(s, w, word) for s, words in enumerate(WORDS) for w, word in enumerate(words)]
    rows = [{column: named(s, w), "Word": word, "POS": f"P{w}", "Tag": TAGS[s][w], "by": s % 2} for s, w, word in pairs]
    return pd.DataFrame(rows)


def read(path, *wants, **settings):
    """The wanted columns of a file, as lists."""
    spec = DataSpec("file", files=(str(path),), **{**SETTINGS, **settings})
    chunks = list(open_source(spec).pools["train"](frozenset(wants)))
    return [pd.concat(chunks)[want].tolist() for want in wants]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("named", "column"),
    [
        (lambda sentence, word: f"Sentence: {sentence}" if word == 0 else "", "Sentence #"),
        (lambda sentence, word: f"Sentence: {sentence}" if word == 0 else None, "sent_id"),
        (lambda sentence, word: sentence, "sentence_idx"),
        (lambda sentence, word: sentence % 2, "Sentence No"),  # an id that comes again is another sentence
    ],
)
def test_rows_of_words_are_sentences(tmp_path, ending, named, column):
    path = tmp_path / f"x.{ending}"
    found = table(named, column)
    found.to_csv(path, index=False) if ending == "csv" else found.to_parquet(path)
    assert read(path, "tokens", "tags", "client", client_column="by") == [WORDS, TAGS, ["0", "1", "0"]]
    assert read(path, "tokens", "client", client_column="by,by") == [WORDS, ["0/0", "1/1", "0/0"]]
    assert read(path, "tags", label_column="POS") == [[[f"P{w}" for w in range(len(words))] for words in WORDS]]
    assert read(path, "tokens", label_column="label") == [WORDS]  # words alone, to be predicted


def test_sentences_go_on_over_chunks_and_several_are_read_in_order(tmp_path):
    number = 700  # sentences of 9 words: chunks of rows end within some
    rows = [{"sentence_id": s, "Word": f"w{s}", "Tag": "O"} for s in range(number) for _ in range(9)]
    pd.DataFrame(rows).to_csv(tmp_path / "x.csv", index=False)
    (tokens,) = read(tmp_path / "x.csv", "tokens")
    assert tokens == [[f"w{s}"] * 9 for s in range(number)]


def test_words_a_row_are_the_likely_task(tmp_path):
    pd.concat([table()] * 4).to_csv(tmp_path / "x.csv", index=False)
    spec = DataSpec("file", files=(str(tmp_path / "x.csv"),))
    source = open_source(spec)
    likely = likely_task(spec, overview(spec, source), source.columns())
    assert likely == {"task.kind": "token_classification", "data.text_column": ("Word",), "data.label_column": "Tag"}


def test_a_word_without_a_tag_is_said_or_its_sentence_left_out(tmp_path):
    found = table()
    found.loc[1, "Tag"] = None
    found.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(UserError, match=r"x.csv, line 3: the word has nothing in the column 'Tag': fill it"):
        read(tmp_path / "x.csv", "tokens")
    assert read(tmp_path / "x.csv", "tokens", "tags", on_bad_rows="skip") == [WORDS[1:], TAGS[1:]]


def test_texts_beside_a_column_of_sentences_stay_texts(tmp_path):
    rows = [{"sentence_id": n // 3, "text": "yes indeed", "label": "a"} for n in range(9)]
    pd.DataFrame(rows).to_csv(tmp_path / "x.csv", index=False)
    found = read(tmp_path / "x.csv", "text", text_column=("text",), label_column="label")
    assert found == [["yes indeed"] * 9]
    rows = [{"sent": n // 5, "sentence": f"yes {n // 3}", "word": "yes", "label": "a"} for n in range(9)]
    pd.DataFrame(rows).to_csv(tmp_path / "x.csv", index=False)
    assert read(tmp_path / "x.csv", "text", text_column=("word",), label_column="label") == [["yes"] * 9]


def test_a_sentence_ends_where_the_client_changes(tmp_path):
    rows = [{"sent_id": 1, "Word": word, "Tag": "O", "by": by} for by in ("a", "b") for word in ("One", "word")]
    pd.DataFrame(rows).to_csv(tmp_path / "x.csv", index=False)
    assert read(tmp_path / "x.csv", "tokens", "client", client_column="by") == [[["One", "word"]] * 2, ["a", "b"]]


def test_numbers_among_words_are_words(tmp_path):
    rows = [{"sent_id": n // 3, "Word": [2, "x", 3.5][n % 3], "Tag": "O"} for n in range(6)]
    pd.DataFrame(rows).to_json(tmp_path / "x.jsonl", orient="records", lines=True)
    assert read(tmp_path / "x.jsonl", "tokens") == [[["2", "x", "3.5"]] * 2]
