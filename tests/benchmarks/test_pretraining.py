"""What of the benchmark of pretraining is not a run."""

import csv
import json

from benchmarks import pretraining


def test_the_table_has_medians_with_ranges():
    accuracy = {"random weights": {"1": [0.25, 0.3, 0.27]}, "news": {"1": [0.5, 0.75, 0.625]}}
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in pretraining.tell(accuracy).splitlines()]
    assert lines[0] == ["pretrained on", "labels a client: 1"]
    assert lines[2:] == [["random weights", "27.0 (25.0-30.0)"], ["news", "62.5 (50.0-75.0)"]]


def test_the_last_items_are_held_out(tmp_path):
    source = tmp_path / "all.csv"
    items = [[str(n % 4 + 1), f'title "{n}"', "two\nlines, and a comma"] for n in range(1700)]
    with open(source, "w", newline="") as file:
        csv.writer(file).writerows(items)
    (tmp_path / "vocabulary").mkdir()  # as if it was learned
    pretraining.prepare(str(source), str(tmp_path))
    found = []
    for name in ("train.csv", "test.csv"):
        with open(tmp_path / name, newline="") as file:
            found.append(list(csv.reader(file)))
    assert found == [items[:100], items[100:]]


def test_a_preset_is_read():
    preset = pretraining.read_preset("ag_news_few_labels")
    assert preset["max_train_examples_per_client"] == "4"
    assert json.loads(pretraining.read_preset("pretrain_news")["model_config"])["n_layer"] == 2
