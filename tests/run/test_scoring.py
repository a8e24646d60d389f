"""Where evaluations are written."""

import json
import os

import pandas as pd
import pytest

from tff_tx import models
from tff_tx.run import comparison
from tff_tx.run.scoring import Evaluation


@pytest.fixture
def write(tmp_path):
    """Writes an evaluation of a file, or of the split "test"; gives the name of its JSON file and what it has."""

    def written(accuracy, *data):
        by_client = pd.DataFrame({"accuracy": [accuracy], "num_examples": [1]}, index=["all"])
        metrics = (models.Metric("accuracy", "Accuracy"),)
        path = Evaluation("test", {"accuracy": accuracy}, by_client, metrics, data=data).write(str(tmp_path))[0]
        with open(path) as file:
            return os.path.basename(path), json.load(file)["overall"]["accuracy"]

    return written


def test_a_file_has_an_evaluation_of_its_own_whatever_others_are_named(write, tmp_path):
    assert write(0.1) == ("test.json", 0.1)
    assert write(0.2, "/a/test.csv") == ("test.csv.json", 0.2)
    assert write(0.3, "/a/test.tsv") == ("test.tsv.json", 0.3)
    assert write(0.4, "/b/test.csv") == ("test.csv-2.json", 0.4)
    assert write(0.5, "/b/test") == ("test-2.json", 0.5)
    assert write(0.6, "/a/test.csv") == ("test.csv.json", 0.6)
    assert write(0.7, "/b/test.csv") == ("test.csv-2.json", 0.7)
    assert len(list(tmp_path.glob("*.json"))) == 5


def test_a_comparison_is_named_like_its_evaluation(tmp_path):
    by_client = pd.DataFrame({"accuracy": [0.5, 0.7], "num_examples": [1, 1]}, index=["a", "b"])
    metrics = (models.Metric("accuracy", "Accuracy"),)
    others = {comparison.BEFORE: by_client, comparison.ALONE: by_client}
    evaluation = Evaluation("test", {"accuracy": 0.6}, by_client, metrics, others=others)
    written = evaluation.write(str(tmp_path))
    assert [os.path.basename(path) for path in written] == ["test.json", "test.png", "test_clients.png"]
