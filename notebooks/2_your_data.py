# %% [markdown]
# # 2. Your own data
#
# A table with a column that names the client is all that is needed. This notebook makes one, looks at the federation
# that it describes before anything is trained, and shows what goes wrong with real tables, and how it is said.

# %%
# %%tff
ROUNDS = 20  # in tests: 1

# %%
# %%tff
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

cancer = load_breast_cancer(as_frame=True)
table = cancer.data.iloc[:, :8].round(3).rename(columns=lambda name: name.replace(" ", "_"))
table["diagnosis"] = np.where(cancer.target, "benign", "malignant")
# Six hospitals: larger tumours go to the specialized ones.
noisy = table["mean_radius"] + np.random.default_rng(1).normal(0, 2, len(table))
table["hospital"] = pd.qcut(noisy, 6, labels=["Aa", "Bo", "Ce", "Du", "Ely", "Fes"]).astype(str)
columns = ",".join(table.columns[:8])
table.to_csv("tumours.csv", index=False)
table.head()

# %% [markdown]
# ## What clients have
#
# `programs.data` reads the files as training would, with the same seed and the same splits, in seconds and without
# TensorFlow: sizes, labels, and how unequal they are.

# %%
# %%tff
# !python -m programs.data --data=tumours.csv --task=tabular_classification --label_column=diagnosis --numeric_columns={columns} --client_column=hospital --test_fraction=0.25 --split=within_client --plot=tumours.png

# %%
# %%tff
from IPython.display import Image

Image("tumours.png", width=700)

# %% [markdown]
# ## Training

# %%
# %%tff
import tff_tx as ft

model = ft.Model(architecture="ft_transformer")
data = ft.Data(
    "tumours.csv",
    clients=ft.ByColumn("hospital"),
    test=0.25,
    split="within_client",
    label_column="diagnosis",
    numeric_columns=columns,
)
task = ft.load_task("tabular_classification", data=data, model=model)
trainer = ft.Trainer(
    task,
    algorithm=ft.FedAvg(client=ft.Adam(2e-3), epochs=2, batch_size=16),
    clients_per_round=6,
    rounds_per_evaluation=5,
    run_dir="runs/tumours",
)
history = trainer.fit(rounds=ROUNDS)

# %% [markdown]
# One number hides whom the model serves badly. `by_client` has a row a hospital:

# %%
# %%tff
by_client = trainer.evaluate("test").by_client
by_client["accuracy"].plot.barh(figsize=(6, 2.5), xlabel="accuracy on the hospital's own held-out rows")
by_client

# %% [markdown]
# ## What goes wrong
#
# Wrong settings and wrong rows are one sentence, that names the setting or the file and line, before anything is
# trained.


# %%
# %%tff
def attempt(source, **changed):
    try:
        usual = {"clients": ft.ByColumn("hospital"), "label_column": "diagnosis", "numeric_columns": columns}
        ft.load_task("tabular_classification", data=ft.Data(source, test=0.25, **{**usual, **changed}), model=model)
    except ft.UserError as error:
        print(error, "\n")
    else:
        print("No complaint.\n")


attempt("tumors.csv")
attempt("tumours.csv", label_column="outcome")
attempt("tumours.csv", clients=ft.ByColumn("clinic"))
attempt("tumours.csv", numeric_columns="hospital")

broken = table.astype(object).copy()
broken.loc[7, "mean_radius"] = "n/a (lost)"
broken.to_csv("broken.csv", index=False)
attempt("broken.csv")
