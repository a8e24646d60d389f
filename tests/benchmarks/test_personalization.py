"""The benchmark of personal models: its data sets, with very few records, and its table."""

import numpy as np
import pandas as pd
import pytest
import transformers

from benchmarks import personal_cases, personalization
from tests.tiny import words_tokenizer
from tff_tx import models


def _write_data(place):
    """Files as those of the data sets, and a checkpoint."""
    for name in ("ag_news", "shakespeare", "traffic", "video_games"):
        (place / name).mkdir()
    news = "".join(f'{i % 4 + 1},"a title","some text"\n' for i in range(400))
    (place / "ag_news" / "ag_news_7600.csv").write_text(news)
    speakers = [*"ABCDEFGHIJ"] * 4 + ["Little"]
    turns = [f"{name}:\n{'I say. ' * (12 if len(name) == 1 else 1)}" for name in speakers]
    (place / "shakespeare" / "plays.txt").write_text("\n\n".join(turns) + "\n")
    speeds = pd.DataFrame(np.random.default_rng(0).uniform(20, 60, (150, 21)), columns=[f"s{i}" for i in range(21)])
    speeds.to_csv(place / "traffic" / "los_speed.csv", index=False)
    rated = [f"{user} {1 + (user * 7 + i) % 20}\n" for user in range(51) for i in range(8 if user else 3)]
    (place / "video_games" / "interactions.txt").write_text("".join(rated))
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=128, num_labels=4, **sizes)
    tokenizer = words_tokenizer(["a", "title", "some", "text"])
    tokenizer.save_pretrained(place / "bert")
    model = transformers.TFBertForSequenceClassification(config)
    model.build_in_name_scope()
    model.save_pretrained(place / "bert")


@pytest.fixture(name="flags_of")
def flags_of_data(tmp_path):
    """From a data set to a command line with a few records of it."""
    _write_data(tmp_path)
    places = [f"--data={tmp_path}", f"--pretrained={tmp_path / 'bert'}", f"--run_dir={tmp_path / 'runs'}"]
    return lambda case: personalization.flags_of([f"--case={case}", "--rounds=1", "--alpha=5", *places])


@pytest.mark.slow
@pytest.mark.parametrize("case", personal_cases.CASES)
def test_each_data_set_has_its_clients_and_personal_weights(case, flags_of):
    task = personalization.create_task("FedPer", 1, flags_of(case)).task
    assert len(task.train.client_ids) == len(task.test.client_ids) == personal_cases.CASES[case].clients_per_round
    assert task.model.num_personal


@pytest.mark.slow
def test_a_method_is_compared_with_clients_alone(flags_of):
    flags, case = flags_of("video_games"), personal_cases.CASES["video_games"]
    found, alone = personalization.run("FedPer", 1, flags, None)
    stored = personalization.read_clients(f"{flags.run_dir}/alone-1-1.csv")
    pd.testing.assert_frame_equal(stored, alone, check_names=False)
    row = personalization.figures(found, {"alone": alone}, personalization.history("FedPer", 1, flags), case)
    table = personalization.tell(pd.DataFrame([{"method": "FedPer", "seed": 1, **row}]), case)
    assert f"| {row['mean'] * 100:,.1f} " in table


def test_of_errors_the_worst_clients_are_those_with_the_most():
    metric = models.Metric("mae", "Error", higher_is_better=False)
    case = personal_cases.CASES["traffic"]
    table = pd.DataFrame({"mae": np.arange(1.0, 12.0), "rmse": 2.0})
    found = type("Found", (), {"by_client": table, "metrics": (metric,)})
    assert personalization.over_clients(table, found, case) == {"mean": 6.0, "tail": 10.0, "worst": 11.0, "also": 2.0}


def test_methods_that_do_not_run_by_themselves_are_known():
    for name, case in personal_cases.CASES.items():
        assert set(case.left_out) < set(personalization.METHODS)
        flags = personalization.flags_of([f"--case={name}"])
        assert not set(case.left_out) & set(flags.method)
        assert (flags.rounds, flags.learning_rate) == (case.rounds, case.learning_rate)
