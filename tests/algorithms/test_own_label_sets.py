"""Homogeneous transfer: parties with a shared body and a head each for labels of their own."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

import tff_tx as ft
from tests import tiny


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


WORDS = {"sport": "goal team match", "money": "bank price share", "praise": "good fine great", "blame": "bad poor weak"}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A paper sorts its items, a shop its letters, by labels of their own; and a tokenizer of their words."""
    root, draw = tmp_path_factory.mktemp("texts"), np.random.default_rng(1)
    words = {label: found.split() for label, found in WORDS.items()}
    lines = ["party,text,label"]
    for party, labels in (("paper", ("sport", "money")), ("shop", ("praise", "blame"))):
        for n in range(60):
            label = labels[n % 2]
            lines.append(f"{party},{' '.join(draw.choice(words[label], 4))},{label}")
    (root / "texts.csv").write_text("\n".join(lines) + "\n")
    tokenizer = tiny.words_tokenizer(["[MASK]", *(word for found in words.values() for word in found)])
    tokenizer.mask_token = "[MASK]"
    tokenizer.save_pretrained(root / "tokenizer")
    return root


@pytest.mark.slow
def test_parties_train_a_body_further_on_their_texts_and_then_transfer(texts, tmp_path):
    """Continued pretraining needs no labels; its body is what the classifier with a head for each party starts from."""

    def trained(kind, run_dir, rounds, model, **columns):
        data = ft.Data(
            str(texts / "texts.csv"),
            clients=ft.ByColumn("party"),
            test=0.25,
            split="within_client",
            text_column="text",
            **columns,
        )
        trainer = ft.Trainer(
            ft.load_task(kind, data=data, model=ft.Model(max_length=8, **model)),
            algorithm=ft.FedAvg(client=ft.Adam(5e-3), epochs=2, batch_size=16),
            clients_per_round=2,
            rounds_per_evaluation=0,
            run_dir=str(run_dir),
        )
        trainer.fit(rounds=rounds)
        return trainer

    size = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32, "num_attention_heads": 2}
    begun = {"architecture": "bert", "config": size, "tokenizer": str(texts / "tokenizer")}
    trained("masked_lm", tmp_path / "continued", 4, begun)
    model = str(tmp_path / "continued" / "model")
    own = {"pretrained": model, "personal": "head"}
    second = trained("sequence_classification", tmp_path / "own", 20, own, label_column="label")
    assert second.evaluate("test").by_client["accuracy"].min() > 0.9
