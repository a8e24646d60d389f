"""Homogeneous transfer: parties with a shared body and a head each for labels of their own."""

import pytest
from sklearn.datasets import load_breast_cancer

import tff_tx as ft


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two clinics say whether a tumour is malignant, two laboratories whether it is small, with labels of their own."""
    found = load_breast_cancer(as_frame=True)
    frame = found.data.iloc[:, :6].rename(columns=lambda name: name.replace(" ", "_"))
    frame["party"] = ["clinic a", "clinic b", "laboratory a", "laboratory b"] * (len(frame) // 4) + ["clinic a"]
    is_small = frame["mean_area"] < frame["mean_area"].median()
    at_clinic = frame["party"].str.startswith("clinic")
    frame["label"] = found.target.map({0: "malignant", 1: "benign"}).where(
        at_clinic, is_small.map({True: "small", False: "large"})
    )
    path = tmp_path_factory.mktemp("own") / "parties.csv"
    frame.to_csv(path, index=False)
    return str(path)


def trained(table, personal, run_dir):
    data = ft.Data(
        table,
        clients=ft.ByColumn("party"),
        test=0.25,
        split="within_client",
        label_column="label",
        numeric_columns="mean_radius,mean_texture,mean_perimeter,mean_area,mean_smoothness,mean_compactness",
    )
    config = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32, "num_attention_heads": 2}
    model = ft.Model(architecture="ft_transformer", config=config, personal=personal)
    trainer = ft.Trainer(
        ft.load_task("tabular_classification", data=data, model=model),
        algorithm=ft.FedAvg(client=ft.Adam(1e-2), epochs=2, batch_size=16),
        clients_per_round=4,
        rounds_per_evaluation=0,
        run_dir=str(run_dir),
    )
    trainer.fit(rounds=8)
    return trainer.evaluate("test").by_client


@pytest.mark.slow
def test_each_party_predicts_its_own_labels_by_a_shared_body(table, tmp_path):
    """One head for all cannot know whose labels a record is to get; one head each need not."""
    own, shared = (trained(table, personal, tmp_path / str(personal)) for personal in ("head", None))
    assert own["accuracy"].min() > 0.8
    assert own["accuracy"].mean() > shared["accuracy"].mean() + 0.2
