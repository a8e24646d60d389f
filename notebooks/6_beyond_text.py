# %% [markdown]
# # 6. Beyond text
#
# Transformers read tables, series, histories and pictures, too. Four small federations, the same lines each: only the
# task, the model and the columns change.

# %%
# %%tff
ROUNDS = 30  # in tests: 1

# %%
# %%tff
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

import tff_tx as ft

rng = np.random.default_rng(1)
results = {}


def train(name, task, rate=2e-3, **more):
    trainer = ft.Trainer(
        task,
        algorithm=ft.FedAvg(client=ft.Adam(rate), batch_size=16),
        clients_per_round=5,
        rounds_per_evaluation=5,
        run_dir=f"runs/{name}",
        **more,
    )
    trainer.fit(rounds=ROUNDS)
    results[name] = trainer.evaluate("test").overall
    return trainer


# %% [markdown]
# ## Tables: tumours of ten hospitals (FT-Transformer)

# %%
# %%tff
tumours = ft.load_task(data=ft.Data("breast_cancer", clients=ft.Dirichlet(10, alpha=1.0), test=0.25))
_ = train("tables", tumours)
# %% [markdown]
# ## Pictures: handwritten digits (Vision Transformer)

# %%
# %%tff
small = ft.Model(config={"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64})
digits = ft.load_task(data=ft.Data("digits", clients=ft.Dirichlet(20, alpha=1.0), test=300), model=small)
pictures = train("pictures", digits, rate=5e-3)

# %%
# %%tff
from sklearn.datasets import load_digits

shown = load_digits().images[:8].astype("float32") / 16
guesses = pictures.predict(list(shown[:, None]))
figure, axes = plt.subplots(1, 8, figsize=(8, 1.6))
for axis, image, guess in zip(axes, shown, guesses):
    axis.imshow(image, cmap="gray_r")
    axis.set(xticks=[], yticks=[], title=guess["label"])

# %% [markdown]
# ## Series: sensors three hours ahead (patch Transformer)
#
# Each sensor is a client and has its own daily curve, a value every half hour. The report has the error of repeating the
# last value, too.

# %%
# %%tff
steps = np.arange(600)
sensors = pd.concat(
    pd.DataFrame(
        {
            "sensor": f"sensor {i}",
            "speed": 50 + 10 * np.sin(2 * np.pi * (steps / 48 + rng.random())) + rng.normal(0, 1, len(steps)),
        }
    )
    for i in range(8)
)
sensors.to_csv("sensors.csv", index=False)
series = ft.load_task(
    "forecasting",
    data=ft.Data("sensors.csv", clients=ft.ByColumn("sensor"), test=0.2, split="time", numeric_columns="speed"),
    model=ft.Model(architecture="patch_transformer"),
    context_length=24,
    horizons="3,6",
)
_ = train("series", series)
# %% [markdown]
# ## Items: what a customer buys next (SASRec)

# %%
# %%tff
buys = pd.DataFrame(
    [
        {"user": f"user {u}", "item": f"item {(start + i) % 40}"}  # a customer goes through the catalogue in order
        for u, start in enumerate(rng.integers(0, 40, 200))
        for i in range(12)
    ]
)
buys.to_csv("buys.csv", index=False)
items = ft.load_task(
    "next_item",
    data=ft.Data("buys.csv", clients=ft.ByColumn("user"), test=1, split="time", label_column="item"),
    model=ft.Model(architecture="sasrec"),
    max_length=12,
)
_ = train("items", items, rate=1e-2)
# %% [markdown]
# ## All of them
#
# Metrics on data that no client has trained on: accuracy of the tables and the pictures, the error of the series three
# hours ahead beside that of the last value, and how often the next item is among the first ten.

# %%
# %%tff --out table
table = pd.DataFrame(results).T[["accuracy", "mae_6", "last_value_mae_6", "hr_at_10"]]

# %%
table.round(3).astype(object).fillna("")
