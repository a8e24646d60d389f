"""What of the benchmark of pretraining is not a run."""

import csv

from benchmarks import pretraining


def test_the_table_has_medians_with_ranges():
    accuracy = {"random weights": {"1": [0.25, 0.3, 0.27]}, "news": {"1": [0.5, 0.75, 0.625]}}
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in pretraining.tell(accuracy).splitlines()]
    assert lines[0] == ["pretrained on", "1 labels a client"]
    assert lines[2:] == [["random weights", "27.0 (25.0-30.0)"], ["news", "62.5 (50.0-75.0)"]]


def test_the_last_items_are_held_out(tmp_path):
    source, train, test = (tmp_path / name for name in ("all.csv", "train.csv", "test.csv"))
    items = [[str(n % 4 + 1), f'title "{n}"', "two\nlines, and a comma"] for n in range(1700)]
    with open(source, "w", newline="") as file:
        csv.writer(file).writerows(items)
    pretraining.split(str(source), str(train), str(test))
    found = []
    for path in (train, test):
        with open(path, newline="") as file:
            found.append(list(csv.reader(file)))
    assert found == [items[:100], items[100:]]
