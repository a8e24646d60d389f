"""What columns look like, and the task that they suggest."""

import json

import pandas as pd
import pytest

from tff_tx.config import RunConfig
from tff_tx.datasets import DataSpec
from tff_tx.datasets.likely_task import likely_task
from tff_tx.datasets.overview import overview
from tff_tx.datasets.sources import open_source

N = 40
TABLE = {
    "review": [f"a text of number {n} that says something" for n in range(N)],
    "headline": [f"headline number {n}" for n in range(N)],
    "stars": [n % 5 for n in range(N)],
    "price": [n / 7 for n in range(N)],
    "kind": [("new", "used", None)[n % 3] for n in range(N)],
    "age": [("", "NA", n / 3)[n % 3] for n in range(N)],
    "score": [n / 9 for n in range(N)],
    "sku": [f"x{n}" for n in range(N)],
    "user_id": [f"u{n % 4}" for n in range(N)],
    "target": [f"a summary of number {n}" for n in range(N)],
    "text": [f"a text of number {n} that says something" for n in range(N)],
    "prompt": [f"what is number {n} here?" for n in range(N)],
    "completion": [f"it is number {n}" for n in range(N)],
    "messages": [[{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]] * N,
    "when": [f"2024-01-{n % 28 + 1:02} 10:{n:02}:00" for n in range(N)],
    "deep": [{"er": {"body": f"a text of number {n} that says something"}, "stars": n % 5} for n in range(N)],
    "words": [["a", "b"]] * N,
    "ner": [["O", "B-X"]] * N,
    "moods": [[["joy"], ["joy", "fear"], []][n % 3] for n in range(N)],
    "source": [f"news {n % 3}" for n in range(N)],
    "genres": [("joy|fear", "joy", "", "calm|joy", "fear|calm")[n % 5] for n in range(N)],
    "place": [("Bonn, DE", "Paris, FR")[n % 2] for n in range(N)],
    "owner": [{"userId": n % 4, "land": "DE"} for n in range(N)],
    "tags": [[["new"], ["new", "sale"], ["old"]][n % 3] for n in range(N)],
    "gold_label": [("yes", "no")[n % 2] for n in range(N)],
    "row": list(range(1, N + 1)),
    "tokens": [["a", "b"]] * N,
    "ner_tags": [["O", "B-X"]] * N,
    "rude": [int(n % 4 == 0) for n in range(N)],
    "threat": [n % 2 for n in range(N)],
    "movieId": [n % 7 for n in range(N)],
    "rated": [978300000 + n**2 for n in range(N)],
    "highlights": [f"what number {n} says" for n in range(N)],
    "summary": [f"what number {n} says" for n in range(N)],
    "document": [f"a text of number {n} that says something" for n in range(N)],
    "translation": [{"de": f"ein Text mit Nummer {n}", "en": f"a text of number {n}"} for n in range(N)],
    "helpful": [("yes", "No ", "Yes", "no", " YES")[n % 5] for n in range(N)],
    "file_id": list(range(1000, 1000 + N)),
    "year": ["2024"] * N,
    "patient": [f"p{n}" for n in range(N)],
    "day": [f"2024-01-{n // 4 + 1:02}" for n in range(N)],
    "line": [f"line {n % 4}" for n in range(N)],
    "survived": [int(n % 3 == 0) for n in range(N)],
    "category": ["Discharge summary"] * N,
    "zone": ["Eastern Time (US & Canada)"] * N,
    "star_rating": [float(n % 5) for n in range(N)],
    "store_nbr": [n % 4 for n in range(N)],
    "week": [f"2024-01-{n // 8 + 1:02}" for n in range(N)],
    "shop": [f"s{n % 4}" for n in range(N)],
    "plant": [f"p{n % 4}" for n in range(N)],
    "product": [f"i{n // 4 % 2}" for n in range(N)],
    "land": [f"l{n // 2 % 2}" for n in range(N)],
    "branch": [f"b{n % 2}" for n in range(N)],
    "item": [f"i{n**2 % 7}" for n in range(N)],
}


def found(tmp_path, *names, **settings):
    wide = {f"s{k}": TABLE["price"] for k in range(6)} if "wide" in names else {}
    table = {name: TABLE[name] for name in names if name in TABLE}
    pd.DataFrame({**table, **wide}).to_json(tmp_path / "x.jsonl", orient="records", lines=True)
    spec = DataSpec("file", files=(str(tmp_path / "x.jsonl"),), **settings)
    seen = overview(spec)
    return seen, likely_task(spec, seen, open_source(spec).columns())


def test_columns(tmp_path):
    seen, _ = found(tmp_path, *TABLE)
    kinds = {column.name: column.kind for column in seen.columns}
    assert kinds == {
        **{"review": "text", "headline": "text", "stars": "category", "price": "number", "kind": "category"},
        **{"age": "number", "score": "number", "sku": "id", "user_id": "category", "words": "list", "ner": "list"},
        **dict.fromkeys(("target", "text", "prompt", "completion", "highlights", "summary", "document"), "text"),
        **dict.fromkeys(("translation.de", "translation.en"), "text"),
        **{"messages": "list", "when": "time", "deep.er.body": "text", "deep.stars": "category"},
        **{"moods": "list", "source": "category", "tags": "list", "day": "time", "owner.userId": "category"},
        **{"row": "id", "tokens": "list", "ner_tags": "list"},
        **dict.fromkeys(("rude", "threat", "survived"), "category"),
        **{
            "patient": "id",
            "file_id": "id",
            "helpful": "category",
            "year": "category",
            "movieId": "category",
            "rated": "number",
        },
        **dict.fromkeys(("genres", "place", "owner.land", "gold_label", "line"), "category"),
        **{"category": "category", "zone": "text", "star_rating": "category", "store_nbr": "category"},
        **{"week": "time", **dict.fromkeys(("shop", "plant", "product", "item", "land", "branch"), "category")},
    }
    kind = next(column for column in seen.columns if column.name == "kind")
    assert (kind.missing, kind.distinct, kind.examples) == (13, 2, ("new", "used"))
    age = next(column for column in seen.columns if column.name == "age")
    assert (age.missing, age.distinct, age.examples[0][:6]) == (27, 13, "0.6666")
    assert (seen.num_rows, seen.duplicates) == (N, 0)
    assert found(tmp_path, "words")[0].duplicates == N - 1


@pytest.mark.parametrize(
    ("names", "settings", "task", "named"),
    [
        (("review", "stars"), {}, "sequence_classification", {"text_column": ("review",), "label_column": "stars"}),
        (("review", "headline", "kind"), {}, "sequence_classification", {"text_column": ("review", "headline")}),
        (("review", "price"), {"label_column": "price"}, "sequence_regression", {"text_column": ("review",)}),
        (("review", "user_id"), {}, "masked_lm", {"client_column": "user_id", "text_column": ("review",)}),
        (("review", "moods", "source"), {}, "multi_label_classification", {"label_column": "moods"}),
        (("review", "price", "source"), {"label_column": "price"}, "sequence_regression", {"client_column": "source"}),
        (("words", "ner"), {"text_column": ("words",), "label_column": "ner"}, "token_classification", {}),
        (("text", "target", "user_id"), {}, "sequence_to_sequence", {"client_column": "user_id"}),
        (("prompt", "completion"), {}, "instruction_tuning", {}),
        (("messages", "user_id"), {}, "instruction_tuning", {"client_column": "user_id"}),
        (("text", "stars"), {"target_column": "stars"}, "sequence_classification", {"label_column": "stars"}),
        (("price", "kind", "stars", "user_id"), {}, "tabular_classification", {"client_column": "user_id"}),
        (
            ("price", "age", "kind", "stars"),
            {},
            "tabular_classification",
            {
                **{"numeric_columns": ("price", "age"), "categorical_columns": ("kind",), "label_column": "stars"},
                "missing_numbers": "mean",
            },
        ),
        (("kind", "score"), {"label_column": "kind"}, "tabular_classification", {"numeric_columns": ("score",)}),
        (("price",), {}, "forecasting", {"numeric_columns": ("price",), "client_per_column": True, "split": "time"}),
        (("review", "helpful"), {}, "sequence_classification", {"label_names": ("No", "yes")}),
        (("price", "kind", "file_id", "year"), {}, "tabular_classification", {"numeric_columns": ("price",)}),
        (
            ("deep",),
            {},
            "sequence_classification",
            {"text_column": ("deep.er.body",), "label_column": "deep.stars"},
        ),
        (("when", "price", "wide"), {}, "forecasting", {"client_per_column": True}),
        (("price", "wide"), {}, "forecasting", {"client_per_column": True}),
        (("price", "wide"), {"client_per_column": True}, "forecasting", {}),
        (("sku",), {}, None, {}),
        (
            ("review", "genres", "place"),
            {"label_column": "genres"},
            "multi_label_classification",
            {"label_separator": "|"},
        ),
        (("review", "genres"), {}, "multi_label_classification", {"label_column": "genres", "label_separator": "|"}),
        (("review", "place"), {}, "sequence_classification", {"label_column": "place"}),
        (("review", "tags", "kind", "owner"), {}, "multi_label_classification", {"client_column": "owner.userId"}),
        (("review", "moods", "kind"), {}, "sequence_classification", {"label_column": "kind"}),
        (("review", "kind", "gold_label", "place"), {}, "sequence_classification", {"label_column": "gold_label"}),
        (("tokens", "ner_tags", "row"), {}, "token_classification", {"label_column": "ner_tags"}),
        (("review", "rude", "threat"), {}, "multi_label_classification", {"label_columns": ("rude", "threat")}),
        (("review", "rude", "threat", "gold_label"), {}, "sequence_classification", {"label_column": "gold_label"}),
        (("row", "price", "kind"), {}, "tabular_classification", {"numeric_columns": ("price",)}),
        (("user_id", "movieId", "stars", "rated"), {}, "next_item", {"label_column": "movieId"}),
        (("review", "patient"), {}, "masked_lm", {}),
        (("review", "highlights", "row"), {}, "sequence_to_sequence", {"target_column": "highlights"}),
        (("summary", "document", "kind"), {}, "sequence_to_sequence", {"text_column": ("document",)}),
        (
            ("translation",),
            {},
            "sequence_to_sequence",
            {"text_column": ("translation.de",), "target_column": "translation.en"},
        ),
        (
            ("headline", "price", "age", "stars", "kind", "survived"),
            {},
            "tabular_classification",
            {"label_column": "survived", "numeric_columns": ("price", "age"), "categorical_columns": ("stars", "kind")},
        ),
        (
            ("headline", "price", "age", "stars", "kind", "survived"),
            {"text_column": ("headline",)},
            "sequence_classification",
            {"label_column": "survived"},
        ),
        (("headline", "price", "stars"), {}, "sequence_classification", {"label_column": "stars"}),
        (("review", "price", "age", "stars", "kind", "survived"), {}, "sequence_classification", {}),
        (("review", "zone", "category", "kind"), {}, "sequence_classification", {"label_column": "kind"}),
        (("review", "zone"), {}, "masked_lm", {"text_column": ("review",)}),
        (("review", "category", "genres"), {}, "multi_label_classification", {"label_column": "genres"}),
        (("review", "star_rating", "kind"), {}, "sequence_classification", {"label_column": "star_rating"}),
        (("user_id", "movieId", "star_rating"), {}, "next_item", {"label_column": "movieId"}),
        (("price", "kind", "store_nbr"), {}, "tabular_classification", {"client_column": "store_nbr"}),
        (("day", "line", "price"), {}, "forecasting", {"client_column": "line", "numeric_columns": ("price",)}),
        *(
            ((time, key, "product", "price"), {}, "forecasting", {"client_column": f"{key},product"})
            for time, key in (("week", "shop"), ("week", "plant"))
        ),
        (("week", "land", "product", "branch", "price"), {}, "forecasting", {"client_column": "land,product,branch"}),
        (("week", "user_id", "item", "price"), {}, "next_item", {"client_column": "user_id"}),
    ],
)
def test_the_likely_task_is_a_configuration(tmp_path, names, settings, task, named):
    _, likely = found(tmp_path, *names, **settings)
    assert likely.get("task.kind") == task
    assert {f"data.{name}": value for name, value in named.items()}.items() <= likely.items()
    config = RunConfig.of({"data.dataset": "file", "data.files": ("x",), **likely})
    assert names != ("price",) or config.cohort.clients_per_round == 1
    assert not settings.get("client_per_column") or (config.data.client_column, config.data.numeric_columns) == (
        None,
        (),
    )


@pytest.mark.parametrize(
    ("names", "texts"),
    [
        (("gold_label", "sentence1_parse", "sentence2_parse", "sentence2", "sentence1"), "sentence1,sentence2"),
        (("label", "sentence1", "sentence2", "sentence1_tokenized"), "sentence1,sentence2"),
        (("hypothesis", "premise", "explanation", "label"), "premise,hypothesis"),
        (("question1", "question2", "comment", "is_duplicate"), "question1,question2"),
        (("text_a", "text_b", "remark", "label"), "text_a,text_b"),
        (("query", "passage", "title", "label"), "query,passage"),
        (("sentenceA", "sentenceB", "label"), "sentenceA,sentenceB"),
        (("text1", "text2", "text3", "label"), "text1,text2,text3"),
        (("premise", "choice1", "choice2", "label"), "premise,choice1,choice2"),
    ],
)
def test_of_several_texts_a_pair_is_meant(tmp_path, names, texts):
    rows = [
        {
            name: n % 3 if name.endswith(("label", "duplicate")) else f"a {name} of number {n} that says something"
            for name in names
        }
        for n in range(N)
    ]
    pd.DataFrame(rows).to_json(tmp_path / "x.jsonl", orient="records", lines=True)
    spec = DataSpec("file", files=(str(tmp_path / "x.jsonl"),))
    likely = likely_task(spec, overview(spec), open_source(spec).columns())
    assert likely["task.kind"] == "sequence_classification"
    assert ",".join(likely["data.text_column"]) == texts


@pytest.mark.parametrize(
    ("days", "named"),
    [
        ([f"2024-01-{n // 2 + 1:02}" for n in range(N)], {}),
        ([f"2024-01-{n // 2 * 7 % 20 + 1:02}" for n in range(N)], {"data.time_column": "day"}),
    ],
)
def test_records_that_are_not_in_the_order_of_time_are_to_be_sorted(tmp_path, monkeypatch, days, named):
    monkeypatch.setitem(TABLE, "day", days)
    monkeypatch.setitem(TABLE, "line", [f"line {n % 2}" for n in range(N)])
    _, likely = found(tmp_path, "day", "line", "price")
    assert likely == {
        **{"task.kind": "forecasting", "data.numeric_columns": ("price",), "data.client_column": "line"},
        **named,
    }


def test_pictures_in_leaf_are_shown(tmp_path):
    clients = {f"f{n}": {"x": [[0.5] * 16, [0.1] * 16], "y": [n % 2, 1]} for n in range(4)}
    (tmp_path / "all.json").write_text(json.dumps({"users": list(clients), "user_data": clients}))
    spec = DataSpec("file", files=(str(tmp_path / "all.json"),), format="leaf")
    seen = overview(spec)
    assert seen.of_kind("image or recording") == ["pixels"]
    assert likely_task(spec, seen, open_source(spec).columns())["task.kind"] == "image_classification"


def test_folders_of_texts_are_classes(tmp_path):
    for split in ("train", "test"):
        for label in ("pos", "neg"):
            (tmp_path / split / label).mkdir(parents=True)
            for n in range(4):
                (tmp_path / split / label / f"{n}_7.txt").write_text(f"a text of number {n} that says {label}")
    spec = DataSpec("file", files=(str(tmp_path),))
    likely = likely_task(spec, overview(spec), open_source(spec).columns())
    assert likely == {"task.kind": "sequence_classification", "data.partition": "iid"}
    rows = pd.concat(open_source(spec).pools["test"]({"text", "label", "client"}))
    assert rows["label"].tolist() == ["neg"] * 4 + ["pos"] * 4
    assert rows["client"].iloc[0] == "neg/0_7.txt"


def test_texts_of_no_class_are_not_told_from_each_other(tmp_path):
    for name in ("train.en", "train.de", "other.txt"):
        (tmp_path / name).write_text(f"a text of {name} that says something")
    spec = DataSpec("file", files=(str(tmp_path),), format="text")
    assert likely_task(spec, overview(spec), open_source(spec).columns())["task.kind"] == "masked_lm"


def test_columns_that_hardly_any_row_has_are_no_texts_of_the_likely_task(tmp_path):
    """As where a comma in a text was not quoted, as in the CSV file of the SMS Spam Collection."""
    rows = "".join(f"ham,a text of number {n} that says something,,\n" for n in range(N))
    rows += "spam,a text that is longer, and goes on after a comma for a while, and once more\n"
    (tmp_path / "x.csv").write_text(f"v1,v2,,\n{rows}")
    spec = DataSpec("file", files=(str(tmp_path / "x.csv"),))
    likely = likely_task(spec, overview(spec), open_source(spec).columns())
    assert likely == {"task.kind": "sequence_classification", "data.text_column": ("v2",), "data.label_column": "v1"}


def test_labels_that_nobody_judged_are_left_out(tmp_path):
    """As -1 says in the test data of toxic comments."""
    rows = "".join(f"a text of number {n} that says something,{n % 3 - 1},{(n + 1) % 3 - 1}.0\n" for n in range(N))
    (tmp_path / "x.csv").write_text(f"comment,toxic,threat\n{rows}")
    spec = DataSpec("file", files=(str(tmp_path / "x.csv"),))
    likely = likely_task(spec, overview(spec), open_source(spec).columns())
    labels = {"data.label_columns": ("toxic", "threat"), "data.on_bad_rows": "skip"}
    assert likely == {"task.kind": "multi_label_classification", "data.text_column": ("comment",), **labels}


def test_whole_numbers_with_decimals_are_measured(tmp_path):
    """As the household power consumption of UCI has them: they are no classes."""
    rows = "".join(f"{n % 28 + 1}/1/2007;{n % 3}.000;{n % 2}.0\n" for n in range(N))
    (tmp_path / "x.csv").write_text(f"Date;Sub_metering_3;sex\n{rows}")
    seen = overview(DataSpec("file", files=(str(tmp_path / "x.csv"),)))
    assert [column.kind for column in seen.columns] == ["time", "number", "category"]
